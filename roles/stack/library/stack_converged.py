#!/usr/bin/python
"""Ansible module: deploy a stack and wait until it has converged to its file, or report why it has not."""

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_converged
short_description: Deploy a stack, and wait until it has converged to its file
description:
  - With O(deploy), first lets the engine deploy the file. C(community.docker.docker_stack) does this too, but asks for
    each service with a process of its own, before and after.
  - Ends once each service of the stack file runs with the image, configs, secrets and number of tasks in the file.
  - Fails if an update was rolled back or paused, if a task fails repeatedly, or if the time is over. The message
    contains the error of the failing task, its last log lines and one likely cause.
  - C(docker stack deploy --detach=false) is not sufficient, since it reports a completed rollback as a success.
options:
  name: {type: str, required: true, description: Name of the stack.}
  file:
    type: path
    description: Stack file on the host; without it, the services are compared with their own specification.
  timeout:
    type: int
    default: 0
    description: >-
      How long to wait in seconds; with 0, the module returns the current state and does not fail. Before it deploys, it
      may wait as long again for the update of an interrupted run.
  deploy:
    type: bool
    default: false
    description:
      - Deploy the file first. C(changed) tells whether the specification of a service then differs.
      - Once the stack has converged, remove the configs and secrets of the stack that no service uses.
  prune: {type: bool, default: true, description: "With O(deploy): remove services that the file does not name."}
attributes:
  check_mode: {support: full, description: With O(deploy), only compares.}
"""

RETURN = r"""
services:
  description:
    - For each service, its name, mode, image, wanted, running, update, pending, failure, error and tasks.
    - With the host and the likely cause of a problem, and the problem in one sentence.
  type: list
  returned: always
nodes:
  description: >-
    For each node of the swarm, its id, name, host (its name in the inventory), address, role, state, availability and
    whether it is the leader.
  type: list
  returned: always
"""

import time
from dataclasses import asdict
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.convergence import (
    ServiceState,
    compare,
    is_being_deployed,
    likely_cause,
    observe,
    problem,
    wanted_services,
)

try:
    import docker
    import yaml
    from docker.errors import DockerException

    MISSING = ""
except ImportError as error:
    MISSING = str(error)

LOG_LINES = 15
POLL_SECONDS = 1.0
DEPLOY_SECONDS = 600
LATE = 124
"""Exit status of ``timeout`` if it ends the command."""
NO_ANSWER = (
    "the engine does not answer: {}. This shows the managers of its swarm: docker node ls. If most of them are down,"
    " start them; if they are gone for good, docs/hosts.md#most-managers-are-gone says how to continue"
)


def connect(module: AnsibleModule) -> docker.APIClient:
    """Return a client of the engine; ends the module if it does not answer."""
    try:
        return docker.from_env(version="auto").api
    except DockerException as error:
        module.fail_json(msg=NO_ANSWER.format(error))


def look(client: docker.APIClient, stack: str, document: dict | None, nodes: list[dict]) -> list[ServiceState]:
    """Return the state of each service of the stack, and of each service in the file that the swarm lacks."""
    label = f"com.docker.stack.namespace={stack}"
    services = {service["Spec"]["Name"]: service for service in client.services(filters={"label": label})}
    tasks = client.tasks(filters={"label": label})
    states = {
        name: observe(service, [task for task in tasks if task["ServiceID"] == service["ID"]], nodes)
        for name, service in services.items()
    }
    if document is not None:
        for wanted in wanted_services(stack, document):
            if wanted.name in states:
                compare(states[wanted.name], services[wanted.name], wanted)
            else:
                states[wanted.name] = ServiceState(
                    wanted.name, "", wanted.image, wanted.replicas or 1, 0, "", failure="there is no such service"
                )
    return [states[name] for name in sorted(states)]


def let_update_end(client: docker.APIClient, stack: str, document: dict, timeout: int) -> None:
    """Wait while the engine updates to the same image, environment and files, as an interrupted run told it to.

    From a failed update, the engine returns to the specification before the last one. If the same is deployed again
    meanwhile, that is the failed one.
    """
    wanted = {service.name: service for service in wanted_services(stack, document)}
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline and any(
        is_being_deployed(service, wanted[service["Spec"]["Name"]])
        for service in client.services(filters={"label": f"com.docker.stack.namespace={stack}"})
        if service["Spec"]["Name"] in wanted
    ):
        time.sleep(POLL_SECONDS)


def deploy(module: AnsibleModule, client: docker.APIClient, document: dict) -> bool:
    """Let the engine deploy the file; return whether a service changed.

    Ends the module if the engine refuses the file or does not answer.
    """
    stack, path, prune = (module.params[name] for name in ("name", "file", "prune"))
    # Every node has the images, with tags derived from their content, so no registry lookup is needed.
    options = ["--resolve-image", "never", "--compose-file", path] + (["--prune"] if prune else [])
    try:
        let_update_end(client, stack, document, module.params["timeout"])
        before = specifications(client, stack)
        command = ["timeout", str(DEPLOY_SECONDS), "docker", "stack", "deploy", *options, stack]
        status, out, err = module.run_command(command)
        if status:
            late = "" if status != LATE else f" (it did not answer within {DEPLOY_SECONDS} s)"
            module.fail_json(msg=f"the engine refuses the stack {stack}{late}: {(err or out).strip()}")
        return specifications(client, stack) != before
    except (DockerException, OSError) as error:
        module.fail_json(msg=NO_ANSWER.format(error))
        raise  # never reached


def remove_unused(client: docker.APIClient, stack: str) -> None:
    """Remove the configs and secrets that no service uses: each version has another name, and the engine keeps them.

    A rollback would need the previous specification, so it counts as used.
    """
    label = {"label": f"com.docker.stack.namespace={stack}"}
    used: set[str] = set()
    for service in client.services(filters=label):
        for spec in (service["Spec"], service.get("PreviousSpec") or {}):
            container = spec.get("TaskTemplate", {}).get("ContainerSpec", {})
            used.update(item["ConfigID"] for item in container.get("Configs") or [])
            used.update(item["SecretID"] for item in container.get("Secrets") or [])
    for items, remove in ((client.configs, client.remove_config), (client.secrets, client.remove_secret)):
        for item in items(filters=label):
            if item["ID"] not in used:
                remove(item["ID"])


def specifications(client: docker.APIClient, stack: str) -> dict[str, dict]:
    """Return the specification of each service of the stack, by its id."""
    services = client.services(filters={"label": f"com.docker.stack.namespace={stack}"})
    return {service["ID"]: service["Spec"] for service in services}


def node_row(node: dict) -> dict:
    """Return the fields of a node that the status shows."""
    return {
        "id": node["ID"],
        "name": node["Description"]["Hostname"],
        "host": (node["Spec"].get("Labels") or {}).get("counter.host", ""),
        "address": node["Status"].get("Addr", ""),
        "role": node["Spec"]["Role"],
        "state": node["Status"]["State"],
        "availability": node["Spec"]["Availability"],
        "leader": node.get("ManagerStatus", {}).get("Leader", False),
    }


def last_log_lines(module: AnsibleModule, state: ServiceState) -> str:
    """Return the last log lines of the task that failed or starts; empty if it never was on a host.

    The time is bounded, since the engine waits for the logs of a lost node.
    """
    if not state.host:
        return ""
    command = ["timeout", "10", "docker", "service", "logs", "--raw", "--tail", str(LOG_LINES), state.failed_task]
    # Ansible hands over UTF-8 only.
    _, out, err = module.run_command(command, errors="replace")
    return (out + err).strip()


def describe(state: ServiceState, log: str) -> str:
    """Describe the problem of one service in full."""
    text = f"{state.name}: {state.failure or state.pending}"
    if state.error:
        text += f"\n  error of the task{state.host and f' on {state.host}'}: {state.error}"
    if log:
        text += "\n  last log lines of the task:\n" + "\n".join(f"    {line}" for line in log.splitlines()[-LOG_LINES:])
    if state.cause:
        text += f"\n  likely cause: {state.cause}"
    return text


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "file": {"type": "path"},
            "timeout": {"type": "int", "default": 0},
            "deploy": {"type": "bool", "default": False},
            "prune": {"type": "bool", "default": True},
        },
        required_if=[("deploy", True, ["file"])],
        supports_check_mode=True,
    )
    if MISSING:
        module.fail_json(msg=f"{MISSING}: install python3-docker and python3-yaml on this host")
    stack, path, timeout = module.params["name"], module.params["file"], module.params["timeout"]
    document = yaml.safe_load(Path(path).read_text(encoding="utf-8")) if path else None
    client = connect(module)
    deploys = module.params["deploy"] and not module.check_mode
    changed = bool(document and deploys and deploy(module, client, document))
    started = time.monotonic()
    while True:
        elapsed = time.monotonic() - started
        try:
            nodes = client.nodes()
            states = look(client, stack, document, nodes)
        except (DockerException, OSError) as error:
            # While the managers elect a leader, they answer with an error.
            if elapsed >= timeout:
                module.fail_json(msg=NO_ANSWER.format(error))
            time.sleep(POLL_SECONDS)
            continue
        failures = [state for state in states if state.failure]
        pending = [state for state in states if state.pending]
        if failures or not pending or elapsed >= timeout:
            break
        time.sleep(POLL_SECONDS)
    logs = {state.name: last_log_lines(module, state) for state in failures + pending}
    for state in failures + pending:
        state.cause = likely_cause(f"{state.error} {state.pending} {logs[state.name]}")
        state.last_line = "".join(logs[state.name].splitlines()[-1:])
    result = {
        "changed": changed,
        "nodes": [node_row(node) for node in nodes],
        "services": [asdict(state) | {"problem": problem(state)} for state in states],
    }
    converged = states and not failures and not pending
    if timeout and not converged:
        wrong = failures or pending
        over = "" if failures else f" within {timeout} s"
        described = "\n".join(describe(state, logs[state.name]) for state in wrong)
        module.fail_json(msg=f"stack {stack} did not converge{over}:\n{described}", **result)
    if deploys and converged:
        try:
            remove_unused(client, stack)
        except (DockerException, OSError) as error:
            module.warn(f"Unused configs and secrets of {stack} remain until its next deployment: {error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
