"""Filters for the placement of Redis nodes on hosts, and for hosts that are single points of failure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

KINDS = ("redis", "sentinel")
NO_ADDRESSES = {None, "", "0.0.0.0", "127.0.0.1"}  # noqa: S104
"""What engines may report of a manager instead of its address."""


def labelled(nodes: Iterable[dict[str, Any]], stack: str) -> dict[str, str]:
    """Return Redis node or Sentinel -> id of the swarm node (``GET /nodes``) with its label.

    A host that left the swarm and joined it again, perhaps with another address, has a former entry, which is down: its
    labels no longer count.
    """
    nodes = [node | {"Status": node.get("Status", {})} for node in nodes]
    ready = {each for node in nodes if node["Status"].get("State") == "ready" for each in _known_by(node)}
    own = re.compile(rf"{re.escape(stack)}\.((?:redis|sentinel)-\d+)")
    found = {
        match[1]: node["ID"]
        for node in nodes
        if node["Status"].get("State") != "down" or not ready & _known_by(node)
        for label in node["Spec"].get("Labels") or {}
        if (match := own.fullmatch(label))
    }
    return dict(sorted(found.items()))


def _known_by(node: Mapping[str, Any]) -> set[str | None]:
    """Return the address of a node, and the name of its host in the inventory."""
    return {node["Status"].get("Addr"), (node["Spec"].get("Labels") or {}).get("counter.host")} - NO_ADDRESSES


def with_volumes(
    volumes: Mapping[str, Iterable[str]], services: Mapping[str, Mapping[str, Any]], stack: str
) -> dict[str, list[str]]:
    """Return Redis node or Sentinel -> hosts that have its volume; names without a volume are left out.

    ``volumes``: host -> names of its volumes. ``services``: those of the stack file of Redis.
    """
    wanted = {name: f"{stack}_{volume_of(service).partition(':')[0]}" for name, service in services.items()}
    found = {name: [host for host, names in volumes.items() if volume in names] for name, volume in wanted.items()}
    return {name: at for name, at in found.items() if at}


def volume_of(service: Mapping[str, Any]) -> str:
    """Return the volume of a Redis node or Sentinel of a stack file, ``NAME:/data``, wherever it stands."""
    return next(volume for volume in map(str, service["volumes"]) if volume.endswith(":/data"))


def volumes_of_nodes(volumes: Mapping[str, Iterable[str]], stack: str) -> list[dict[str, str]]:
    """Return ``node`` and ``where`` (VOLUME on HOST) of each volume of a Redis node of the stack, in any topology.

    ``volumes``: host -> names of its volumes.
    """
    own = re.compile(rf"{re.escape(stack)}_({KINDS[0]}-\d+)(-[a-z]+)?")
    return [
        {"node": match[1], "where": f"{name} on {host}"}
        for host, names in volumes.items()
        for name in sorted(names)
        if (match := own.fullmatch(name))
    ]


def without_volume(
    names: Iterable[str], volumes: Mapping[str, Sequence[str]], placed: Mapping[str, str], ids: Mapping[str, str]
) -> list[str]:
    """Return the Redis nodes that would start with an empty volume.

    ``names``: nodes that had data. ``volumes``: from `with_volumes`. ``placed``: node -> id of its host. ``ids``: host
    -> id, of the hosts whose volumes are known; what other hosts have is not judged.
    """
    hosts = {identifier: host for host, identifier in ids.items()}

    def is_there(name: str) -> bool:
        if name not in placed:
            return name in volumes
        return placed[name] not in hosts or hosts[placed[name]] in volumes.get(name, ())

    return [name for name in names if not is_there(name)]


def without_copy(names: Sequence[str], missing: Iterable[str], shape: Mapping[str, Any]) -> list[str]:
    """Return those of the missing Redis nodes whose data no other node has.

    ``names``: nodes that had data. ``missing``: those of them whose volume is gone. ``shape``: their topology.
    """
    alike: Mapping[str, object] = (
        pairs(names) if shape["in_pairs"] else {name: "" if shape["most_replicas"] else name for name in names}
    )
    left = {alike[name] for name in names if name not in missing}
    return [name for name in missing if alike[name] not in left]


def pairs(names: Iterable[str]) -> dict[str, int]:
    """Return name -> number of its pair in a cluster, as in ``redis_node.cluster.members``."""
    numbers = {name: int(name.rpartition("-")[2]) for name in names}
    return {
        name: (number - 1) % 3 if number <= 6 else (number - 1) // 2  # noqa: PLR2004
        for name, number in numbers.items()
    }


def in_order(answers: Iterable[Mapping[str, Any]], pairs: Mapping[str, int]) -> list[Any]:
    """Return the services in the order in which they are changed: pair by pair, each primary after the others.

    ``answers``: results of a loop over services, whose ``stdout`` is the role of the node. ``pairs``: from `pairs`.
    """

    def place(answer: Mapping[str, Any]) -> tuple[int, bool]:
        return pairs.get(answer["item"]["name"].rpartition("_")[2], 0), answer["stdout"] == "primary"

    return [answer["item"] for answer in sorted(answers, key=place)]


def node_id(host: Mapping[str, Any]) -> str:
    """Return a host's id in the swarm, from its variables; its name in the inventory if it has no id yet."""
    info = host.get("swarm_node", {}).get("host_info", {})
    return str(info.get("Swarm", {}).get("NodeID") or host["inventory_hostname"])


def hosts_down(nodes: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names in the inventory of the hosts whose node is down (``GET /nodes``).

    A host that left the swarm and joined it again has a former entry that is down.
    """
    names: dict[str, set[str]] = {}
    for node in nodes:
        name = (node["Spec"].get("Labels") or {}).get("counter.host", "")
        names.setdefault(node["Status"]["State"], set()).add(name)
    return sorted(names.get("down", set()) - names.get("ready", set()) - {""})


def named_hosts(places: Mapping[str, Sequence[str]], ids: Mapping[str, str]) -> list[str]:
    """Return ``host (node, node)`` for each id in ``places`` (id -> nodes on it); ``ids``: host -> id."""
    return [f"{host} ({', '.join(places[each])})" for host, each in ids.items() if each in places]


def on_hosts(places: Mapping[str, str], ids: Mapping[str, str]) -> dict[str, str]:
    """Return Redis node -> host, for ``places`` (node or Sentinel -> id) on the hosts of the inventory (``ids``)."""
    hosts = {identifier: host for host, identifier in ids.items()}
    return {name: hosts[place] for name, place in places.items() if _kind(name) == KINDS[0] and place in hosts}


def spread_over(
    names: Sequence[str], hosts: Sequence[str], placed: Mapping[str, str], pairs: Mapping[str, int]
) -> dict[str, str]:
    """Return name -> host. Names that are already placed stay on their host.

    Each other name goes to the host with the fewest names of its kind (``redis``, ``sentinel``), and if possible not to
    the host of the other node of its pair. ``pairs``: name -> pair; empty without pairs.
    """
    at = {name: placed[name] for name in names if name in placed}
    for name in names:
        if name in at:
            continue
        mates = [place for other, place in at.items() if pairs and pairs[other] == pairs[name]]
        held = Counter(place for other, place in at.items() if _kind(other) == _kind(name))
        # Start after the mate's host; otherwise it could be the only host left for the last of several pairs.
        start = hosts.index(mates[0]) + 1 if mates and mates[0] in hosts else 0
        at[name] = min(
            [*hosts[start:], *hosts[:start]],
            key=lambda host, mates=mates, held=held: (host in mates, held[host]),  # type: ignore[misc]
        )
    return {name: at[name] for name in names}


def single_points(places: Mapping[str, str], pairs: Mapping[str, int]) -> dict[str, list[str]]:
    """Return host -> names on it, for each host without which the others cannot continue.

    A majority must be left of the nodes and of the Sentinels; in a cluster, a majority of the primaries (the first
    nodes of the pairs), and one node of each pair.
    """
    firsts: dict[int, str] = {}
    for name, pair in pairs.items():
        firsts.setdefault(pair, name)
    votes = [list(firsts.values())] if pairs else [[name for name in places if _kind(name) == kind] for kind in KINDS]
    found = {}
    for host in sorted(set(places.values())):
        here = [name for name, place in places.items() if place == host]
        outvoted = any(group and 2 * len(set(group) - set(here)) <= len(group) for group in votes)
        if outvoted or max(Counter(pairs.get(name, name) for name in here).values()) > 1:
            found[host] = here
    return found


def waiting_without(
    nodes: Iterable[dict[str, Any]],
    node: str,
    stacks: Mapping[str, Mapping[str, Any]],
    topologies: Mapping[str, Mapping[str, Any]],
) -> list[str]:
    """Return, for each stack whose counters wait while a node is away, which wait and why.

    ``stacks``: name -> settings. A node that is down or drained is away already.
    """
    nodes = list(nodes)
    active = {
        each["ID"]
        for each in nodes
        if each["Status"]["State"] == "ready" and each["Spec"]["Availability"] == "active" and each["ID"] != node
    }
    found = {}
    for stack, settings in stacks.items():
        shape = topologies[settings["redis_topology"]]
        sizes = dict(zip(KINDS, (int(settings["redis_replicas"]), shape["sentinels"]), strict=True))
        # A label may be left of a node that the stack no longer has.
        places = {
            name: place
            for name, place in labelled(nodes, stack).items()
            if int(name.rpartition("-")[2]) <= sizes[_kind(name)]
        }
        here = [name for name, place in places.items() if place == node]
        left = Counter(_kind(name) for name, place in places.items() if place in active)
        found[stack] = _waits(here, left, settings, shape)
    return [f"{stack}: {why}" for stack, why in found.items() if why]


def lost_without(
    nodes: Iterable[dict[str, Any]],
    node: str,
    stacks: Mapping[str, Mapping[str, Any]],
    topologies: Mapping[str, Mapping[str, Any]],
) -> list[str]:
    """Return, for each stack that would lose counters with the disk of a node, which Redis nodes have the only copy.

    ``stacks``: name -> settings. The disk of a node that is down counts as lost too.
    """
    nodes = list(nodes)
    there = {each["ID"] for each in nodes if each["Status"]["State"] != "down" and each["ID"] != node}
    found = {}
    for stack, settings in stacks.items():
        places = {
            name: place
            for name, place in labelled(nodes, stack).items()
            if _kind(name) == KINDS[0] and int(name.rpartition("-")[2]) <= int(settings["redis_replicas"])
        }
        missing = [name for name, place in places.items() if place not in there]
        only = without_copy(list(places), missing, topologies[settings["redis_topology"]])
        found[stack] = [name for name in only if places[name] == node]
    return [f"{stack}: the counters of {', '.join(names)}" for stack, names in found.items() if names]


def _waits(here: list[str], left: Counter[str], settings: Mapping[str, Any], shape: Mapping[str, Any]) -> str:
    """Return which counters wait without the Redis nodes and Sentinels ``here``; empty if none does.

    ``left``: how many of each kind are left.
    """
    nodes = int(settings["redis_replicas"])
    data = [name for name in here if _kind(name) == KINDS[0]]
    if not here or not shape["default_nodes"]:
        return ""
    if data and shape["in_pairs"]:
        return f"the counters of the pairs of {', '.join(data)}"
    if data and not shape["most_replicas"]:
        return f"the counters of {', '.join(data)}"
    needed = {"all": nodes, "majority": nodes // 2 + 1, "none": 2}[settings["write_concern"]]
    if data and left[KINDS[0]] < needed:
        return f"all counters, since {needed} of {nodes} Redis nodes are needed"
    if left[KINDS[1]] <= shape["sentinels"] // 2:
        return f"all counters, since {shape['sentinels'] // 2 + 1} of {shape['sentinels']} Sentinels are needed"
    return ""


def _kind(name: str) -> str:
    return name.partition("-")[0]


class FilterModule:
    """The filters by name, for Ansible."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Return the filters by name."""
        return {
            "spread_over": spread_over,
            "single_points": single_points,
            "labelled": labelled,
            "with_volumes": with_volumes,
            "volume_of": volume_of,
            "volumes_of_nodes": volumes_of_nodes,
            "without_volume": without_volume,
            "without_copy": without_copy,
            "pairs": pairs,
            "in_order": in_order,
            "node_id": node_id,
            "hosts_down": hosts_down,
            "named_hosts": named_hosts,
            "on_hosts": on_hosts,
            "waiting_without": waiting_without,
            "lost_without": lost_without,
        }
