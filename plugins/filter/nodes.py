"""Filters for hosts that are taken out of service, and for how replicas are spread over the hosts.

Shapes are those of the Docker Engine API: nodes (``GET /nodes``), services (``GET /services``), tasks (``GET /tasks``).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

STACK = "com.docker.stack.namespace"
PARTS = re.compile("-(redis|backup)$")
"""What the names of a stack's parts have behind the name of the stack."""

Object = Mapping[str, Any]


def node_of_host(nodes: Iterable[Object], host: str) -> Object:
    """Return the node of a host of the inventory; empty if the swarm has none.

    A host that left the swarm and joined it again has a former entry, which is down.
    """
    own = [node for node in nodes if (node["Spec"].get("Labels") or {}).get("counter.host") == host]
    return min(own, key=lambda node: node["Status"]["State"] == "down", default={})


def hosts_of_nodes(nodes: Iterable[Object]) -> dict[str, str]:
    """Return host of the inventory -> id of its node."""
    nodes = list(nodes)
    hosts = {(node["Spec"].get("Labels") or {}).get("counter.host", "") for node in nodes} - {""}
    return {host: node_of_host(nodes, host)["ID"] for host in sorted(hosts)}


def of_stacks(services: Iterable[Object], stacks: Iterable[str]) -> list[Object]:
    """Return the services of these stacks, in all their parts."""
    names = set(stacks)
    return [service for service in services if PARTS.sub("", _stack(service)) in names]


def stacks_of(services: Iterable[Object]) -> list[str]:
    """Return the names of the stacks that have services, of the project or not."""
    return sorted({PARTS.sub("", _stack(service)) for service in services} - {""})


def parts_of_stacks(services: Iterable[Object]) -> list[str]:
    """Return the names that Docker has for the stacks of services."""
    return sorted({_stack(service) for service in services} - {""})


def leaving(services: Iterable[Object], tasks: Iterable[Object], node: str) -> list[dict[str, Any]]:
    """Return the services that are moved off a node or stopped there one at a time, in this order.

    Each is ``name``, ``stack`` and ``moves``: whether a new task starts elsewhere before the one of the node stops.
    First come those that move, then the Redis nodes, which hand over while everything else of the host runs. All others
    can stop together.
    """
    there = {task["ServiceID"] for task in tasks if task.get("NodeID") == node and task["DesiredState"] == "running"}
    rows = [
        {"name": each["Spec"]["Name"], "stack": PARTS.sub("", _stack(each)), "moves": _moves(each)}
        for each in services
        if each["ID"] in there
    ]
    rows = [row for row in rows if row["moves"] or re.search(r"-redis_redis-\d+$", row["name"])]
    return sorted(rows, key=lambda row: (not row["moves"], row["name"]))


def kept_off(services: Iterable[Object], node: str) -> list[str]:
    """Return the names of the services with the constraint that keeps their tasks off a node."""
    return sorted(
        service["Spec"]["Name"]
        for service in services
        for placement in [service["Spec"]["TaskTemplate"].get("Placement") or {}]
        if f"node.id!={node}" in [one.replace(" ", "") for one in placement.get("Constraints") or []]
    )


def on_every_node(services: Iterable[Object]) -> list[str]:
    """Return the names of the services with a task on each node."""
    return [service["Spec"]["Name"] for service in services if "Global" in service["Spec"]["Mode"]]


def redis_services(services: Iterable[Object], tasks: Iterable[Object], stack: str) -> list[dict[str, Any]]:
    """Return the Redis nodes of a stack that run, as the role redis takes them (``redis_service``)."""
    tasks = list(tasks)
    rows = [
        {
            "name": service["Spec"]["Name"],
            "tasks": [
                {"id": task["ID"], "node_id": task["NodeID"], "desired": "running", "state": "running"}
                for task in tasks
                if task["ServiceID"] == service["ID"] and task["DesiredState"] == task["Status"]["State"] == "running"
            ],
        }
        for service in services
        if re.fullmatch(rf"{re.escape(stack)}-redis_redis-\d+", service["Spec"]["Name"])
    ]
    return sorted((row for row in rows if row["tasks"]), key=lambda row: row["name"])


def package_upgrades(simulated: str, which: str) -> list[str]:
    """Return the packages to upgrade of those in the output of ``apt-get --simulate upgrade``.

    ``which``: ``all``, ``engine`` (those of the Docker engine), or ``security`` (those that the distribution offers as
    security updates, for example ``(1.2 Debian-Security:13/stable-security [amd64])``).
    """
    rows = re.findall(r"^Inst (\S+) .*?\((.*)\)", simulated, re.MULTILINE)
    wanted = {
        "all": {name for name, _ in rows},
        "engine": {name for name, _ in rows if re.match("docker|containerd|runc", name)},
        "security": {name for name, offer in rows if "security" in offer.lower()},
    }[which]
    return [name for name, _ in rows if name in wanted]


def host_turns(nodes: Iterable[Object], needs: Mapping[str, Any], label: str) -> list[dict[str, Any]]:
    """Return the hosts whose turn comes, in the order of ``needs`` (host -> what it needs).

    Each is ``host``, the id of its ``node``, and its ``needs``, which are empty if the label of its node says only that
    a run was interrupted after them. Those come first, since they are out of service. Hosts without a node have none.
    """
    rows = []
    for host, need in needs.items():
        node = node_of_host(nodes, host)
        begun = bool(node) and label in node["Spec"]["Labels"]
        if node and (need or begun):
            rows.append({"host": host, "node": node["ID"], "needs": need, "begun": begun})
    return sorted(rows, key=lambda row: not row["begun"])


def uneven(services: Iterable[Object], nodes: Iterable[Object]) -> list[dict[str, Any]]:
    """Return the services whose replicas could be spread better over the nodes that take tasks.

    ``services`` and ``nodes``: as the module ``stack_converged`` returns them. Each has its ``name``, its ``replicas``,
    how many of them would have to move (``moves``), and ``spread``, the number on each node by its name.

    Swarm starts additional replicas on the nodes with the fewest, and removes them where there are most. So a service
    that is scaled up by ``moves`` and back is spread evenly, and no replica stops before another one runs.
    """
    names = {
        node["id"]: node["name"] for node in nodes if node["state"] == "ready" and node["availability"] == "active"
    }
    found = []
    for service in services:
        # The tasks of a global service have no number.
        if service["mode"] != "replicated" or service["wanted"] < 2 or not names:  # noqa: PLR2004
            continue
        held = Counter(
            task["node_id"] for task in service["tasks"] if task["desired"] == "running" and task["state"] == "running"
        )
        least, rest = divmod(service["wanted"], len(names))
        most = least + bool(rest)
        lacking = sum(max(0, least - held[each]) for each in names)
        above = sum(max(0, held[each] - most) for each in names)
        if moves := max(lacking, above):
            spread = {name: held[each] for each, name in names.items()}
            row = {"name": service["name"], "replicas": service["wanted"], "moves": moves, "spread": spread}
            found.append(row)
    return found


def _moves(service: Object) -> bool:
    order = (service["Spec"].get("UpdateConfig") or {}).get("Order")
    return "Replicated" in service["Spec"]["Mode"] and order == "start-first"


def _stack(service: Object) -> str:
    return str((service["Spec"].get("Labels") or {}).get(STACK, ""))


class FilterModule:
    """The filters by name, for Ansible."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Return the filters by name."""
        return {
            "node_of_host": node_of_host,
            "hosts_of_nodes": hosts_of_nodes,
            "of_stacks": of_stacks,
            "stacks_of": stacks_of,
            "parts_of_stacks": parts_of_stacks,
            "leaving": leaving,
            "kept_off": kept_off,
            "on_every_node": on_every_node,
            "redis_services": redis_services,
            "package_upgrades": package_upgrades,
            "host_turns": host_turns,
            "uneven": uneven,
        }
