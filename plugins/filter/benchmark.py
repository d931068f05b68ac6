"""Filters for the benchmark: the options and nodes in its report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any


def other_than(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values whose text differs from that of their default."""
    return {name: value for name, value in sorted(values.items()) if str(value) != str(defaults.get(name, ""))}


def node_facts(nodes: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return ``name``, ``cores``, ``memory_mib`` and ``docker`` of each active node (``GET /nodes``), by name."""
    facts = [
        {
            "name": node["Description"]["Hostname"],
            "cores": int(node["Description"]["Resources"]["NanoCPUs"] / 1e9),
            "memory_mib": int(node["Description"]["Resources"]["MemoryBytes"] / 2**20),
            "docker": node["Description"]["Engine"]["EngineVersion"],
        }
        for node in nodes
        if node["Spec"]["Availability"] == "active"
    ]
    return sorted(facts, key=lambda each: str(each["name"]))


class FilterModule:
    """The filters by name, for Ansible."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Return the filters by name."""
        return {"other_than": other_than, "node_facts": node_facts}
