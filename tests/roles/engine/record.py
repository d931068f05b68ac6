"""Records what the engine says of a service in each state that a deployment can come to.

Run as root on a manager of a throw-away swarm, with a second node that can be lost and an image that has ``sleep``:
    python3 record.py IMAGE states.json.xz [--lost NODE]
Writes into that file, for each state, {"service": of GET /services, "tasks": of GET /tasks, "nodes": of GET /nodes}.
With --lost, only the state in which that node is down: start it, then switch the node off when asked to.
"""

from __future__ import annotations

import argparse
import json
import lzma
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker

SECOND = 1_000_000_000
FOREVER = ["sleep", "1000000"]

Look = dict[str, Any]


def look(client: docker.APIClient, name: str) -> Look:
    """Return what the API says, without the parts of a node that say nothing of its state."""
    nodes = client.nodes()
    for node in nodes:
        for key in ("Engine", "TLSInfo", "Resources", "CSIInfo"):
            node["Description"].pop(key, None)
    return {
        "service": client.inspect_service(name),
        "tasks": client.tasks(filters={"service": name}),
        "nodes": nodes,
    }


def wait(client: docker.APIClient, name: str, reached: Callable[[Look], bool], seconds: float = 120) -> Look:
    """Return the first look that ``reached`` accepts; raise TimeoutError after ``seconds``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        seen = look(client, name)
        if reached(seen):
            return seen
        time.sleep(0.1)
    raise TimeoutError(name)


def running(count: int) -> Callable[[Look], bool]:
    """Accept when ``count`` tasks run."""
    return lambda seen: sum(task["Status"]["State"] == "running" for task in seen["tasks"]) == count


def update_is(state: str) -> Callable[[Look], bool]:
    """Accept when the update of the service has come to ``state``."""
    return lambda seen: seen["service"].get("UpdateStatus", {}).get("State") == state


def failed(count: int) -> Callable[[Look], bool]:
    """Accept when ``count`` tasks failed or were rejected."""
    return lambda seen: sum(task["Status"]["State"] in ("failed", "rejected") for task in seen["tasks"]) >= count


def waiting(seen: Look) -> bool:
    """Accept when a task waits and the scheduler says why."""
    return any(task["Status"]["State"] == "pending" and task["Status"].get("Err") for task in seen["tasks"])


def main() -> None:
    """Create a service for each state, record, remove."""
    parser = argparse.ArgumentParser()
    parser.add_argument("image")
    parser.add_argument("file", type=Path)
    parser.add_argument("--lost")
    options = parser.parse_args()
    client = docker.APIClient(version="auto")

    def template(command: list[str], image: str = options.image, **more: Any) -> dict[str, Any]:
        container = docker.types.ContainerSpec(image, command=command, healthcheck=more.pop("health", None))
        restart = docker.types.RestartPolicy(condition="any", delay=0)
        return docker.types.TaskTemplate(container, restart_policy=restart, **more)

    def create(name: str, spec: dict[str, Any], replicas: int | None = 1, **more: Any) -> None:
        mode = docker.types.ServiceMode("global" if replicas is None else "replicated", replicas)
        client.create_service(spec, name=name, mode=mode, **more)

    def update(name: str, spec: dict[str, Any], action: str, order: str = "stop-first", delay: int = 0) -> None:
        service = client.inspect_service(name)
        client.update_service(
            service["ID"],
            service["Version"]["Index"],
            task_template=spec,
            name=name,
            fetch_current_spec=True,
            update_config=docker.types.UpdateConfig(1, delay, action, 3 * SECOND, 0, order),
            rollback_config=docker.types.RollbackConfig(1, SECOND, "pause", 2 * SECOND, 0, "start-first"),
        )

    def keep(state: str, seen: Look) -> None:
        client.remove_service(seen["service"]["ID"])
        file: Path = options.file
        states = json.loads(lzma.decompress(file.read_bytes())) if file.exists() else {}
        file.write_bytes(lzma.compress(json.dumps(states | {state: seen}, sort_keys=True).encode()))
        print(state, flush=True)

    if options.lost:
        on_it = docker.types.Placement(constraints=[f"node.hostname == {options.lost}"])
        create("node_down", template(FOREVER, placement=on_it))
        wait(client, "node_down", running(1))
        print(f"switch {options.lost} off", flush=True)
        keep("node_down", wait(client, "node_down", waiting))
        return

    create("converged", template(FOREVER), 2)
    keep("converged", wait(client, "converged", running(2)))

    create("global", template(FOREVER), None)
    keep("global", wait(client, "global", running(2)))

    for state, action, update_state in (
        ("updating", "rollback", "updating"),
        ("rollback_started", "rollback", "rollback_started"),
        ("rolled_back", "rollback", "rollback_completed"),
        ("paused", "pause", "paused"),
    ):
        create(state, template(FOREVER), 2)
        wait(client, state, running(2))
        new = template(FOREVER if state == "updating" else ["false"], log_driver=docker.types.DriverConfig("json-file"))
        update(state, new, action, "start-first", SECOND)
        keep(state, wait(client, state, update_is(update_state)))

    create("updated", template(FOREVER), 2)
    wait(client, "updated", running(2))
    update("updated", template(["sleep", "2000000"]), "rollback", "start-first")
    keep("updated", wait(client, "updated", update_is("completed")))

    unwell = docker.types.Healthcheck(test=["CMD", "false"], interval=SECOND, timeout=SECOND, retries=1)
    nowhere = docker.types.Placement(constraints=["node.labels.none == here"])
    for state, spec, reached in (
        ("crash_loop", template(["false"]), failed(3)),
        ("unhealthy", template(FOREVER, health=unwell), failed(1)),
        ("no_image", template(FOREVER, image="no-such-image:1"), failed(3)),
        ("no_node", template(FOREVER, placement=nowhere), waiting),
        ("no_room", template(FOREVER, resources=docker.types.Resources(mem_reservation=2**42)), waiting),
    ):
        create(state, spec)
        keep(state, wait(client, state, reached))


if __name__ == "__main__":
    main()
