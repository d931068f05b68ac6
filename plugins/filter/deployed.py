"""Filters for the files in which the managers store the deployed state; roles/deployed reads and writes them."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

# A host has a state if it has one of these. They are copied last, so that an interrupted copy is repeated.
_WRITTEN_LAST = ("redis/internal", "deployed.json")
# What only the manager has that runs something: a step of a deployment, a benchmark, and the keeper.
_OF_ONE_MANAGER = ("redis/step.yml", "bench.json", "keeper/state.json")
# What the keeper writes on its manager between deployments, and `newest_issued` looks at. It says nothing of the rest.
_OF_KEEPERS = ("acme/certificate.pem", "acme/directory")
_OLD_NAMES = {
    "counter_cpus": "app_cpus",
    "counter_memory": "app_memory",
    "counter_threads": "app_threads",
    "counter_drain_seconds": "app_drain_seconds",
    "counter_deadline_seconds": "app_deadline_seconds",
    "counter_extra_environment": "app_environment",
    "counter_update_parallelism": "app_update_parallelism",
    "counter_update_monitor": "app_update_monitor",
    "counter_max_requests": "edge_max_requests",
    "counter_edge_memory": "edge_memory",
}
_UNCHANGED_NAMES = (
    *("edge", "http_port", "app_cpus", "app_memory", "write_concern"),
    *("overlay_encrypted", "redis_topology", "redis_replicas"),
)


def deployed_state(files: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the deployed state from the files of a state directory (path -> ``content`` and ``mtime``).

    ``settings``, ``endpoint``, ``images``, ``addresses``, ``certificates``: the input of the last deployment of the app
    and the edge; empty without one. ``edge``: version of the edge's configuration. ``format``: format of the file.
    ``swarm``: id of the swarm; empty if an earlier version deployed.
    ``redis``: ``topology`` and ``tls`` of the nodes with data; empty if there never were any. ``move``:
    progress of an unfinished move; empty without one. ``restore``: ``backup`` and ``before`` (the backup of what was
    there) of an unfinished restore; empty without one. ``releases``: the history (plugins/filter/releases.py); empty
    before the first one. ``maintenance``: ``since``, ``text``, ``allow`` and ``pass``; empty if it is off. ``site``:
    the id of the counters; empty before the first version that makes one. ``data``: what the ``nodes`` of the stack and
    a Redis ``outside`` of it held last (role site); one that has held nothing is left out.
    """
    texts = {name: str(file["content"]) for name, file in files.items()}
    document = json.loads(texts.get("deployed.json", "{}"))
    if document and "format" not in document:
        document = _from_format_1(document)
    empty = {
        "format": 0,
        "swarm": "",
        "settings": {},
        "endpoint": {},
        "images": {},
        "addresses": [],
        "certificates": [],
        "edge": "",
    }
    redis = json.loads(texts["redis/redis.json"]) if "redis/redis.json" in texts else _redis_of_format_1(texts)
    return {
        **empty,
        **document,
        "redis": redis,
        "move": json.loads(texts.get("redis/move.json", "{}")),
        "restore": json.loads(texts.get("restore.json", "{}")),
        "maintenance": json.loads(texts.get("maintenance.json", "{}")),
        "releases": history(texts.get("releases.json")),
        "site": texts.get("site", "").strip(),
        "data": json.loads(texts.get("data.json", "{}")),
    }


def state_host(states: Mapping[str, Mapping[str, Mapping[str, Any]]], first: str, swarm: str) -> str:
    """Return the host whose state a deployment uses: ``first``, unless that one has none or was away since.

    ``states``: host -> files of its state directory (path -> ``content`` and ``mtime``). The first manager is written
    before all others. So if another host has a different file that is newer, the first one missed what was written.
    ``swarm``: id of the swarm.
    """
    parts = {host: part_of_stack(states[host]) for host in _hosts_of_swarm(states, first, swarm)}
    own = parts.pop(first, {})
    missed = {
        host: max(newer)
        for host, files in parts.items()
        if (
            newer := [
                file["mtime"]
                for path, file in files.items()
                if path in own and path not in _OF_KEEPERS and _is_newer(file, own[path])
            ]
        )
    }
    if not missed and not any(path in own for path in _WRITTEN_LAST):
        # Which of several is the newest: a former manager has a copy of what was deployed then.
        missed = {
            host: max(file["mtime"] for file in files.values())
            for host, files in parts.items()
            if any(path in files for path in _WRITTEN_LAST)
        }
    return max(missed, key=lambda host: missed[host], default=first)


def _hosts_of_swarm(states: Mapping[str, Mapping[str, Any]], first: str, swarm: str) -> Iterable[str]:
    """Return the hosts whose states count.

    If some host knows that the stack is deployed in the swarm, the others' states do not count unless they say so too:
    they may be of a stack of the same name in another swarm. `destroy` leaves a state that names no swarm; if the first
    manager has one, those that name a swarm do not count.
    """
    swarms = {host: deployed_state(files)["swarm"] for host, files in states.items() if part_of_stack(files)}
    ours = [host for host, named in swarms.items() if swarm and named == swarm]
    if not ours and swarms.get(first) == "" and "redis/internal" in states[first]:
        ours = [host for host, named in swarms.items() if not named]
    return ours or states


def _is_newer(file: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    return bool(file["content"] != own["content"] and file["mtime"] > own["mtime"])


def unfinished_restore(states: Mapping[str, Mapping[str, Mapping[str, Any]]], first: str, swarm: str) -> dict[str, Any]:
    """Return the newest record of a restore on any host (arguments as of `state_host`); empty if that one ended."""
    found = [states[host] for host in _hosts_of_swarm(states, first, swarm)]
    records = [files["restore.json"] for files in found if "restore.json" in files]
    newest = max(records, key=lambda record: record["mtime"], default={"content": "{}"})
    return dict(json.loads(newest["content"]))


def part_of_stack(files: Mapping[str, Any]) -> dict[str, Any]:
    """Return the files that all managers have, without those of a host's Redis nodes; `_WRITTEN_LAST` come last."""
    ours = {
        path: file
        for path, file in files.items()
        if not path.startswith("redis-secrets/") and path not in _OF_ONE_MANAGER
    }
    return dict(sorted(ours.items(), key=lambda item: _WRITTEN_LAST.index(item[0]) if item[0] in _WRITTEN_LAST else -1))


def with_content(texts: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return texts by path as `deployed_state` takes them."""
    return {path: {"content": text} for path, text in texts.items()}


def history(text: str | None) -> list[dict[str, Any]]:
    """Return the releases of a ``releases.json``; empty without one."""
    return list(json.loads(text)["releases"]) if text else []


def differing(files: Mapping[str, str], states: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Return, for each host that lacks some of the files or has them with different content, those files.

    ``files``: path -> content. ``states``: host -> result of the module ``state_files`` on that host.
    """
    found = {
        host: {path: text for path, text in files.items() if state["files"].get(path, {}).get("content") != text}
        for host, state in states.items()
    }
    return {host: wanted for host, wanted in found.items() if wanted}


def with_written(state: Mapping[str, Any], written: Mapping[str, str]) -> dict[str, Any]:
    """Return what `state_files` would return after these files (path -> content) were written."""
    files = {path: {"content": text, "mtime": time.time()} for path, text in written.items()}
    return {**state, "files": {**state["files"], **files}}


def _from_format_1(document: Mapping[str, Any]) -> dict[str, Any]:
    settings = {name: document[name] for name in _UNCHANGED_NAMES if name in document}
    settings |= {new: document[old] for old, new in _OLD_NAMES.items() if old in document}
    return {
        "format": 1,
        "settings": settings,
        "endpoint": document.get("redis_endpoint", {}),
        "images": document.get("images_names", {}),
        "addresses": document.get("counter_addresses", []),
    }


def _redis_of_format_1(texts: Mapping[str, str]) -> dict[str, Any]:
    """Return the content of ``redis.json``, derived from the files of versions without it."""
    configuration = texts.get("redis/redis.conf", "")
    topology = re.search(r"One Redis node of topology (\w+)", configuration)
    if not topology:
        return {}
    return {"topology": topology[1], "tls": "tls-port" in configuration}


def below(files: Mapping[str, str], directory: str) -> dict[str, str]:
    """Return the files (text by path) with their paths below a directory."""
    return {f"{directory}/{name}": text for name, text in files.items()}


class FilterModule:
    """The filters by name, for Ansible."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Return the filters by name."""
        return {
            "deployed_state": deployed_state,
            "state_host": state_host,
            "unfinished_restore": unfinished_restore,
            "part_of_stack": part_of_stack,
            "with_content": with_content,
            "history": history,
            "differing": differing,
            "with_written": with_written,
            "below": below,
        }
