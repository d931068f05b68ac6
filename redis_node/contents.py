"""What each node of a replicated set holds, and the choice of a primary where the last one will never return.

After a restart of all nodes the last primary is waited for (``promotable``). Only people know that it will never come
back. They compare what the others hold, and choose one.
"""

from __future__ import annotations

from dataclasses import dataclass

from redis_node import promotable
from redis_node.ask import Connection, ask, ask_all, info, is_primary, until
from redis_node.errors import NodeError, StateError
from redis_node.settings import Address, Settings

PATTERN = "{[A-Za-z0-9]*}:value"
"""The values of counters. What begins with a dot is a note of the app or of the backups."""
SCAN_KEYS = 1000
PROMOTION_SECONDS = 40.0
"""The Sentinels try every 12 s (twice their failover-timeout), and need a few more."""


@dataclass(frozen=True, slots=True)
class NodeContents:
    """What one node says of itself; ``counters`` is name -> value."""

    role: str
    counters: dict[str, int]


def describe(settings: Settings) -> str:
    """Return a line for each node: its role, how many counters it holds, and the values that nodes differ in."""
    found = ask_all(settings.nodes, lambda node: _contents_of(settings, node))
    answers = [one for one in found.values() if isinstance(one, NodeContents)]
    names = sorted({name for one in answers for name in one.counters})
    differing = [name for name in names if len({one.counters.get(name) for one in answers}) > 1]
    lines = []
    for node, one in found.items():
        if isinstance(one, NodeError):
            lines.append(str(one))
        else:
            values = "".join(f", {name}={one.counters.get(name, 'none')}" for name in differing)
            lines.append(f"{node}: {one.role}, {len(one.counters)} counters{values}")
    return "\n".join(lines)


def promote(settings: Settings) -> str:
    """Let the Sentinels make this node the primary; return what came of it.

    Raises:
        NodeError: another node is the primary, or the Sentinels did not promote this one.

    """
    roles = ask_all(settings.nodes, lambda node: str(ask(settings, node, "ROLE")[0]))
    primaries = [str(node) for node, role in roles.items() if role == "master"]
    if primaries == [str(settings.address)]:
        return f"{settings.address} is the primary already"
    if primaries:
        raise StateError(f"{', '.join(primaries)} is the primary: nothing was changed")
    before = int(info(settings, settings.address, "replication")["slave_priority"])
    promotable.set_priority(settings, promotable.PROMOTABLE)
    try:
        until(
            lambda: is_primary(settings, settings.address),
            PROMOTION_SECONDS,
            f"the Sentinels did not promote {settings.address} within {PROMOTION_SECONDS:g} s. "
            "Most of them must run and answer each other",
        )
    except NodeError:
        # Otherwise Sentinels that return later could promote it, perhaps instead of a node that holds more.
        promotable.set_priority(settings, before)
        raise
    return f"{settings.address} is the primary"


def _contents_of(settings: Settings, node: Address) -> NodeContents:
    """Ask one node; a replica without its primary is told to answer meanwhile. Raises NodeError."""
    with Connection(settings, node) as there:
        role, *_ = answer = there.ask("ROLE")
        there.ask("CONFIG", "SET", "replica-serve-stale-data", "yes")
        try:
            counters: dict[str, int] = {}
            cursor = "0"
            while True:
                cursor, keys = there.ask("SCAN", cursor, "MATCH", PATTERN, "COUNT", SCAN_KEYS)
                values = there.ask_each(("GET", key) for key in keys)
                counters |= {
                    key[1 : -len("}:value")]: int(value)
                    for key, value in zip(keys, values, strict=True)
                    if isinstance(value, str)
                }
                if cursor == "0":
                    break
        finally:
            there.ask("CONFIG", "SET", "replica-serve-stale-data", "no")
    return NodeContents("primary" if role == "master" else f"replica of {answer[1]}:{answer[2]}", counters)
