"""Whether a replicated set could lose any one node without harm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from redis_node.ask import ask, ask_all
from redis_node.errors import NodeError
from redis_node.quorum import PRIMARY_NAME, view
from redis_node.settings import Address, Settings


def what_is_missing(settings: Settings) -> str:
    """Return the first thing that is missing, or nothing.

    The set is settled if one node is the primary, every other node has everything that the primary had when this began,
    and every Sentinel knows all of them, reaches each replica and may promote it.
    """
    roles = ask_all(settings.nodes, lambda node: list(ask(settings, node, "ROLE")))
    primaries: dict[Address, int] = {}
    for node, role in roles.items():
        if isinstance(role, NodeError):
            return str(role)
        if role[0] == "master":
            primaries[node] = int(role[1])
    if len(primaries) != 1:
        return f"{len(primaries)} nodes are primary: {', '.join(map(str, primaries)) or 'none'}"
    ((primary, offset),) = primaries.items()
    for node in (node for node in settings.nodes if node != primary):
        try:
            _, host, port, link, held = ask(settings, node, "ROLE")
        except (NodeError, ValueError) as error:
            return str(error) if isinstance(error, NodeError) else f"{node} has just become a primary"
        if Address(str(host), int(port)) != primary or link != "connected":
            return f"{node} does not follow {primary} yet ({link} to {host}:{port})"
        if int(held) < offset:
            return f"{node} is behind {primary} by {offset - int(held)} bytes"
    return _missing_at_sentinels(settings, primary)


def _missing_at_sentinels(settings: Settings, primary: Address) -> str:
    for sentinel in settings.sentinels:
        try:
            if (named := view(settings, sentinel).primary) != primary:
                return f"{sentinel} names {named}, but {primary} is the primary"
            facts = ask(settings, sentinel, "SENTINEL", "MASTER", PRIMARY_NAME)
            replicas = ask(settings, sentinel, "SENTINEL", "REPLICAS", PRIMARY_NAME)
        except NodeError as error:
            return str(error)
        if facts["flags"] != "master":
            return f"{sentinel} says of {primary}: {facts['flags']}"
        if missing := _unknown(settings, primary, facts, replicas):
            return f"{sentinel} {missing}"
    return ""


def _unknown(
    settings: Settings, primary: Address, facts: Mapping[str, str], replicas: Sequence[Mapping[str, str]]
) -> str:
    """Return what a Sentinel lacks, from its replies to MASTER and REPLICAS; empty if it lacks nothing."""
    if (others := int(facts["num-other-sentinels"])) != len(settings.sentinels) - 1:
        return f"knows {others} other Sentinels"
    # While nodes are added, the Sentinels know more of them than a node that has not been changed yet.
    seen = {Address(str(one["ip"]), int(one["port"])): one for one in replicas}
    for replica in (node for node in settings.nodes if node != primary):
        if replica not in seen:
            return f"does not know {replica}"
        # A Sentinel that has lost its connection keeps what it heard last.
        if seen[replica]["flags"] != "slave":
            return f"says of {replica}: {seen[replica]['flags']}"
        if not int(seen[replica]["slave-priority"]):
            return f"cannot promote {replica}, whose log says why"
    return ""
