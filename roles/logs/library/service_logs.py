#!/usr/bin/python
"""Ansible module: read the last log lines of services of all nodes, in the order of time."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_logs
short_description: Read the last log lines of services of all nodes, in the order of time
description:
  - C(docker service logs) mixes the tasks in any order, and waits for nodes that are lost. This asks for each task
    separately and for a limited time, and names the tasks that did not answer.
options:
  stacks: {type: list, elements: str, required: true, description: Names of the stacks.}
  service: {type: str, default: "", description: "A service (app) or a task (app.2, edge.node-1); empty: all."}
  since: {type: str, default: "", description: "A duration (10m) or a time; empty: from the beginning."}
  level: {type: str, default: all, description: Lines of this level and above.}
  lines: {type: int, default: 100, description: "How many lines, the last ones."}
attributes:
  check_mode: {support: full}
"""

RETURN = r"""
lines: {type: list, returned: always, description: "The lines, each with its time, task and node."}
missing: {type: list, returned: always, description: "The tasks that did not answer, each with the reason."}
"""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.log_lines import Line, last_lines, parse, task_names

try:
    import docker
    from docker.errors import DockerException
    from requests import RequestException

    MISSING = ""
except ImportError as error:
    MISSING = str(error)

# Lines of a task that are read to find those of a level.
READ_FOR_LEVEL = 10_000
TASK_SECONDS = 10
PARALLEL = 16


@dataclass(frozen=True)
class Task:
    """A task that has a container."""

    id: str
    name: str
    node: str
    node_is_ready: bool
    runs: bool


def tasks_by_name(client: docker.APIClient, stacks: list[str]) -> dict[str, list[Task]]:
    """Return the tasks of each service, by the name of the service and by their own."""
    nodes = {node["ID"]: node for node in client.nodes()}
    hosts = {name: node["Description"]["Hostname"] for name, node in nodes.items()}
    ready = {name for name, node in nodes.items() if node["Status"]["State"] == "ready"}
    found: dict[str, list[Task]] = {}
    for stack in stacks:
        label = {"label": f"com.docker.stack.namespace={stack}"}
        services = {service["ID"]: service for service in client.services(filters=label)}
        for service in services.values():
            found.setdefault(service["Spec"]["Name"].removeprefix(f"{stack}_"), [])
        for task in client.tasks(filters=label):
            if task["ServiceID"] in services and task["Status"].get("ContainerStatus", {}).get("ContainerID"):
                service_name, name = task_names(stack, services[task["ServiceID"]], task, hosts)
                node, runs = task["NodeID"], task["Status"]["State"] == "running"
                about = Task(task["ID"], name, hosts.get(node, node), node in ready, runs)
                found[service_name].append(about)
                found.setdefault(name, []).append(about)
    return found


def read(task: Task, options: list[str]) -> tuple[list[Line], str]:
    """Return the lines of a task and, if they are missing, why. The container of an ended task may be gone."""
    if not task.node_is_ready:
        return [], f"{task.name}: its node {task.node} is down" if task.runs else ""
    command = ["docker", "service", "logs", "--raw", "--timestamps", *options, task.id]
    try:
        done = subprocess.run(  # noqa: S603  # the options were checked, and come as words of their own
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=TASK_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return [], f"{task.name}: its node {task.node} did not answer within {TASK_SECONDS} s"
    lines = [line for text in (done.stdout, done.stderr) for line in parse(text, f"{task.name}@{task.node}")]
    return lines, f"{task.name} on {task.node}: {done.stderr.strip()}" if done.returncode and task.runs else ""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "stacks": {"type": "list", "elements": "str", "required": True},
            "service": {"type": "str", "default": ""},
            "since": {"type": "str", "default": ""},
            "level": {"type": "str", "default": "all"},
            "lines": {"type": "int", "default": 100},
        },
        supports_check_mode=True,
    )
    if MISSING:
        module.fail_json(msg=f"{MISSING}: install python3-docker on this host")
    service, since, level, lines = (module.params[name] for name in ("service", "since", "level", "lines"))
    try:
        found = tasks_by_name(docker.from_env(version="auto").api, module.params["stacks"])
    except (DockerException, RequestException) as error:
        module.fail_json(msg=f"the engine does not answer: {error}")
    if service and service not in found:
        rule = f"must be one of {', '.join(sorted(found))}" if found else "the swarm has no service of this stack"
        module.fail_json(msg=f"service={service}: {rule}")
    # Each task is there twice if all are asked for.
    tasks = {task.id: task for name in ([service] if service else found) for task in found[name]}.values()
    options = ["--tail", str(lines if level == "all" else READ_FOR_LEVEL), *(["--since", since] if since else [])]
    with ThreadPoolExecutor(PARALLEL) as pool:
        answers = list(pool.map(lambda task: read(task, options), tasks))
    module.exit_json(
        changed=False,
        lines=last_lines((line for each, _ in answers for line in each), level, lines),
        missing=sorted(reason for _, reason in answers if reason),
    )


if __name__ == "__main__":
    main()
