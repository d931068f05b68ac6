"""The nodes of a Redis Cluster as one of them sees them (CLUSTER NODES), and which two form a pair."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from redis_node.ask import ask, lookup
from redis_node.errors import UnknownNodeError
from redis_node.settings import Address, Settings

SLOTS = 16384
SMALLEST = 3
"""Primaries of the smallest cluster."""
_UNREACHED = frozenset({"fail", "fail?", "noaddr", "handshake"})


@dataclass(frozen=True, slots=True)
class Member:
    """One line of CLUSTER NODES; ``primary`` is the id of a replica's primary."""

    id: str
    name: str
    address: Address
    flags: frozenset[str]
    primary: str
    connected: bool
    served: frozenset[int]
    """The slots that it serves."""
    importing: frozenset[int] = frozenset()
    """Slots of another primary on their way to it. A node reports these and the next only of itself."""
    migrating: Mapping[int, str] = field(default_factory=dict)
    """Slots that it serves and that are on their way to another primary -> that one's id."""

    @property
    def slots(self) -> int:
        """How many slots it serves."""
        return len(self.served)

    @property
    def mine(self) -> bool:
        """Whether this is the node that was asked."""
        return "myself" in self.flags

    @property
    def replica(self) -> bool:
        """Whether it follows a primary."""
        return bool(self.primary)

    @property
    def alive(self) -> bool:
        """Whether the node that was asked reaches it."""
        return self.mine or (self.connected and not self.flags & _UNREACHED)


def parse(text: str) -> list[Member]:
    """Read CLUSTER NODES: ``id ip:port@bus,hostname flags primary ping pong epoch link [slots...]``.

    Slots are ``first-last`` or ``slot``; those on their way are ``[slot->-target]`` and ``[slot-<-source]``.
    """
    found = []
    for line in text.splitlines():
        identifier, where, flags, primary, _, _, _, link, *ranges = line.split()
        place, _, name = where.partition(",")
        served = [item.partition("-") for item in ranges if not item.startswith("[")]
        moving = [item.strip("[]") for item in ranges if item.startswith("[")]
        found.append(
            Member(
                id=identifier,
                name=name.partition(",")[0],
                address=Address.parse(place.partition("@")[0]),
                flags=frozenset(flags.split(",")),
                primary=primary.strip("-"),
                connected=link == "connected",
                served=frozenset(
                    slot for first, _, last in served for slot in range(int(first), int(last or first) + 1)
                ),
                importing=frozenset(int(item.partition("-<-")[0]) for item in moving if "-<-" in item),
                migrating={int(slot): to for slot, arrow, to in (one.partition("->-") for one in moving) if arrow},
            )
        )
    return found


def members(settings: Settings, node: Address) -> list[Member]:
    """Return the nodes that one node knows; raises NodeError."""
    return parse(ask(settings, node, "CLUSTER", "NODES"))


def forget(settings: Settings, gone: Member, by: Iterable[Member]) -> None:
    """Make all reachable nodes forget an id; raises NodeError.

    They also inform each other, so that some may have forgotten it already. A node cannot forget its own primary.
    """
    for other in (member for member in by if member.alive and gone.id not in (member.id, member.primary)):
        with suppress(UnknownNodeError):
            ask(settings, other.address, "CLUSTER", "FORGET", gone.id)


def merged(views: Iterable[Iterable[Member]]) -> list[Member]:
    """Return every node in any of the views, with the most complete information about it.

    Only the node itself reports its name and slots. A node that never met it knows no more than that it exists.
    """
    found: dict[str, Member] = {}
    for member in (member for view in views for member in view):
        known = found.get(member.id, member)
        alive = member if member.alive else known
        served, name = max(member.served, known.served, key=len), known.name or member.name
        found[member.id] = replace(alive, served=served, name=name)
    return list(found.values())


def resolve(name: str, port: int) -> Address | None:
    """Return the present address of a node, None if its name has none. CLUSTER MEET takes addresses only."""
    try:
        found = lookup(Address(name, port))
    except OSError:
        return None
    return Address(found[0], port) if found else None


def number(name: str) -> int:
    """Return 4 for ``redis-4``, and 0 for what is not the name of a node."""
    digits = name.removeprefix("redis-")
    return int(digits) if digits.isdigit() else 0


def partner(name: str) -> str:
    """Return the other node of the pair.

    The first three nodes are the smallest cluster, and the next three complete their pairs; then nodes come in twos.
    """
    own = number(name)
    if own <= 2 * SMALLEST:
        return f"redis-{own + SMALLEST if own <= SMALLEST else own - SMALLEST}"
    return f"redis-{own + 1 if own % 2 else own - 1}"


def first_of_its_pair(name: str) -> bool:
    """Tell whether the node is the primary of its pair when all is well."""
    return number(name) < number(partner(name))
