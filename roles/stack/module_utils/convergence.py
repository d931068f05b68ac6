"""Decides whether a stack has converged to its file, from the objects of the engine's API. No input or output here.

Shapes are those of the Docker Engine API: services (``GET /services``), tasks (``GET /tasks``), nodes (``GET /nodes``).
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

# A task that failed this often counts as a crash loop, unless Swarm is updating the service or rolling it back.
CRASH_LOOP = 3

_ENDED = frozenset({"complete", "failed", "rejected", "shutdown", "orphaned", "remove"})

_LIKELY_CAUSES = (
    # First, since a Redis node that waits for room fails its health check. A write that only fits in part is short.
    (
        r"short write|waits for room|no space left on device",
        "the disk of that host is full: make room there, `docker system df` shows what can be removed",
    ),
    (
        r"still uses the volume",
        "the node's former container still runs on that host: if it does not end, `docker stop` it there (`docker ps`)",
    ),
    (
        r"append only file|append log file|obtain the aof file|aof manifest|reading the rdb (preamble|base)",
        "the node's file is damaged: see docs/troubleshooting.md#a-damaged-file",
    ),
    (r"insufficient resources", "no node has the CPU or memory that the service reserves: lower it, or add a node"),
    (r"no suitable node", "no node meets the placement rules: see `docker node ls` for nodes that are down or drained"),
    (
        r"port .*already in use|port is already allocated|address already in use",
        "another program holds the port: stop it, or deploy with -e http_port=8080",
    ),
    (
        r"no such image|not found: manifest|pull access denied",
        "the image is missing on that node: deploy this stack again, which loads it",
    ),
    (r"unhealthy", "the process runs, but its health check fails: see the log of the task"),
    (r"\(137\)|OOM|oom", "killed, most likely for its memory limit: raise app_memory or redis_memory"),
    (
        r"executable file not found|exec: .*(no such file or directory|permission denied)",
        "the command in the image cannot start",
    ),
    (
        r"network .*not found|could not find.*network",
        "the network is gone: run ./counter destroy, which keeps the data, and then ./counter deploy",
    ),
)


@dataclass(frozen=True)
class Wanted:
    """The stack file's specification of one service; ``replicas`` is None for one task on every node."""

    name: str
    image: str
    replicas: int | None
    files: frozenset[str] = frozenset()
    labels: frozenset[tuple[str, str]] = frozenset()
    environment: frozenset[str] = frozenset()


@dataclass
class ServiceState:
    """Specified and running state of a service; it has converged if ``failure`` and ``pending`` are both empty."""

    name: str
    mode: str
    image: str
    wanted: int
    running: int
    update: str
    pending: str = ""
    failure: str = ""
    error: str = ""
    failed_task: str = ""
    host: str = ""
    cause: str = ""
    last_line: str = ""
    tasks: list[dict] = field(default_factory=list)


def wanted_services(stack: str, document: dict) -> list[Wanted]:
    """Return the services of a stack file (parsed YAML), with configs and secrets by their names in the swarm."""
    names = {
        (kind, key): (value or {}).get("name", f"{stack}_{key}")
        for kind in ("configs", "secrets")
        for key, value in (document.get(kind) or {}).items()
    }
    found = []
    for key, service in document["services"].items():
        deploy = service.get("deploy") or {}
        used = {
            names[kind, item if isinstance(item, str) else item["source"]]
            for kind in ("configs", "secrets")
            for item in service.get(kind) or []
        }
        replicas = None if deploy.get("mode") == "global" else int(deploy.get("replicas", 1))
        labels = frozenset((deploy.get("labels") or {}).items())
        # A stack file has `$$` for `$`.
        variables = frozenset(
            f"{name}={value}".replace("$$", "$") for name, value in (service.get("environment") or {}).items()
        )
        found.append(Wanted(f"{stack}_{key}", service["image"], replicas, frozenset(used), labels, variables))
    return found


def likely_cause(error: str) -> str:
    """Return one likely cause of a task's error text, or an empty string."""
    return next((cause for pattern, cause in _LIKELY_CAUSES if re.search(pattern, error, re.IGNORECASE)), "")


def _files(container: dict) -> frozenset[str]:
    return frozenset(
        [item["ConfigName"] for item in container.get("Configs") or []]
        + [item["SecretName"] for item in container.get("Secrets") or []]
    )


def _task_row(task: dict, hosts: dict[str, str]) -> dict:
    status = task["Status"]
    return {
        "id": task["ID"],
        "slot": task.get("Slot", 0),
        "node": hosts.get(task.get("NodeID", ""), task.get("NodeID", "")),
        "node_id": task.get("NodeID", ""),
        "desired": task["DesiredState"],
        "state": status["State"],
        "error": status.get("Err", ""),
        "since": status.get("Timestamp", ""),
    }


def _replaced_for(template: dict) -> tuple[dict, dict | None]:
    """Return what tells new tasks from old ones: the engine records an update only some time after it took the file."""
    return template["ContainerSpec"], template.get("Resources")


def _moment(timestamp: str) -> tuple[str, str]:
    """Return an API timestamp as a sortable value: the API omits trailing zeros of nanoseconds, or all of them."""
    return timestamp[:19], timestamp[19:].strip(".Z").ljust(9, "0")


def observe(service: dict, tasks: list[dict], nodes: list[dict]) -> ServiceState:
    """Compare one service with its own specification, counting task failures since its last deployment.

    Every deployment sets ``UpdatedAt``, even one that changes nothing. A rolling update sets it repeatedly, but records
    its start. These times and ``CreatedAt`` of a task come from the managers' clocks, so they are comparable.
    """
    spec = service["Spec"]
    template = spec["TaskTemplate"]
    hosts = {node["ID"]: node["Description"]["Hostname"] for node in nodes}
    ready = {node["ID"] for node in nodes if node["Status"]["State"] == "ready"}
    tasks = sorted(tasks, key=lambda task: task["Status"].get("Timestamp", ""), reverse=True)
    # The last task states that a node reported before it went down may be outdated.
    alive = [task for task in tasks if task["Status"]["State"] not in _ENDED and task.get("NodeID", "") in ready | {""}]
    kept = [task for task in alive if task["DesiredState"] in ("running", "ready")]
    running = [task for task in kept if task["Status"]["State"] == "running"]
    current = [task for task in running if _replaced_for(task["Spec"]) == _replaced_for(template)]
    replicated = "Replicated" in spec["Mode"]
    wanted = (
        spec["Mode"]["Replicated"]["Replicas"] if replicated else max(1, len({task.get("NodeID") for task in kept}))
    )
    status = service.get("UpdateStatus") or {}
    deployed = _moment(status.get("StartedAt") or service["UpdatedAt"])
    state = ServiceState(
        name=spec["Name"],
        mode="replicated" if replicated else "global",
        image=template["ContainerSpec"]["Image"],
        wanted=wanted,
        running=len(running),
        update=status.get("State", ""),
        tasks=[_task_row(task, hosts) for task in tasks],
    )
    failed = [
        task
        for task in tasks
        if task["Status"]["State"] in ("failed", "rejected") and _moment(task["CreatedAt"]) >= deployed
    ]
    waiting = [task for task in kept if task["Status"].get("Err")]
    starting = [task for task in kept if task["Status"]["State"] == "starting"]
    if shown := next(iter(failed or waiting or starting), None):
        state.error = shown["Status"].get("Err", "")
        state.failed_task = shown["ID"]
        state.host = hosts.get(shown.get("NodeID", ""), "")
    slots = Counter((task.get("Slot", 0), task.get("NodeID", "") if not replicated else "") for task in failed)
    if state.update in ("paused", "rollback_paused"):
        state.failure = f"its update stopped half-way ({state.update}: {status.get('Message', '')})"
    elif state.update == "rollback_completed":
        state.failure = "its update failed and was rolled back; the previous version is serving"
    elif state.update in ("updating", "rollback_started"):
        state.pending = {"updating": "it is being updated", "rollback_started": "it is being rolled back"}[state.update]
    elif len(current) < wanted and slots and max(slots.values()) >= CRASH_LOOP:
        state.failure = f"its task failed {max(slots.values())} times since the last deployment"
    if not state.failure and not state.pending:
        if len(current) < wanted:
            state.pending = f"{len(current)} of {wanted} tasks run" + (f" ({state.error})" if state.error else "")
        elif len(alive) > wanted:
            state.pending = f"{len(alive) - wanted} tasks of the previous version are still stopping"
    return state


def problem(state: ServiceState) -> str:
    """Return what is wrong with a service in one sentence; empty if it has converged."""
    wrong = state.failure or state.pending
    about = state.cause and f"likely cause: {state.cause}"
    about = about or (state.last_line and f"its log ends with: {state.last_line}")
    if not wrong or not about:
        return wrong and f"{state.name}: {wrong}"
    return f"{state.name}{state.host and f' on {state.host}'}: {wrong}; {about}"


def compare(state: ServiceState, service: dict, wanted: Wanted) -> None:
    """Compare a service with the stack file as well, since a rollback changes the service's own specification."""
    if not state.failure and not state.pending:
        state.failure = difference(service["Spec"], wanted)


def difference(spec: dict, wanted: Wanted) -> str:
    """Return in what a service's specification differs from the stack file; empty if it does not."""
    container = spec["TaskTemplate"]["ContainerSpec"]
    if container["Image"].partition("@")[0] != wanted.image.partition("@")[0]:
        return f"it runs {container['Image']} instead of {wanted.image}"
    if _files(container) != wanted.files:
        return f"it uses {sorted(_files(container))} instead of {sorted(wanted.files)}"
    replicas = spec["Mode"].get("Replicated", {}).get("Replicas")
    if wanted.replicas is not None and replicas != wanted.replicas:
        return f"it is specified with {replicas} tasks instead of {wanted.replicas}"
    if missing := wanted.labels - spec.get("Labels", {}).items():
        return f"it lacks the labels {sorted(missing)}"
    return ""


def is_being_deployed(service: dict, wanted: Wanted) -> bool:
    """Tell whether the engine is updating a service to the stack file."""
    updating = (service.get("UpdateStatus") or {}).get("State") == "updating"
    environment = frozenset(service["Spec"]["TaskTemplate"]["ContainerSpec"].get("Env") or [])
    return updating and environment == wanted.environment and not difference(service["Spec"], wanted)
