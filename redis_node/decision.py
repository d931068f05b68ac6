"""How a node of a replicated set starts: as the primary, as a replica, or not yet. It never guesses.

Two rules protect the data. A node without data becomes the primary only if no node has any: otherwise it would empty
its replicas. And a node with data copies only from its last primary, or from the node that the Sentinels name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from redis_node.quorum import View, agreed_primary
from redis_node.settings import Address


@dataclass(frozen=True, slots=True)
class Peer:
    """What another node reports about itself."""

    primary: bool
    keys: int
    """How many keys it holds."""


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything that the decision depends on."""

    me: Address
    first: Address
    """The node that is the first primary of a new installation."""
    peers: Mapping[Address, Peer | None]
    """The other nodes; None for one that does not answer."""
    views: list[View]
    sentinels: int
    """How many Sentinels there are in all."""
    has_data: bool
    """Whether its volume has what it held in memory when it ended."""
    last_primary: Address | None
    """The last primary of this node, itself if it was one; None on a new volume."""
    patient: bool
    """Whether the Sentinels may still be starting."""


@dataclass(frozen=True, slots=True)
class Start:
    """Start the server: as a replica of ``primary``, or as the primary where that is this node."""

    primary: Address
    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Do not start yet."""

    reason: str


def decide(now: Situation) -> Start | Wait:
    """Return what to do now."""
    if primary := agreed_primary(now.views, now.sentinels):
        if primary != now.me:
            return Start(primary, "the Sentinels name it")
        if now.has_data:
            return Start(now.me, "the Sentinels name this node, and it has its data")
        return Wait(
            "the Sentinels name this node, but its volume is empty or outdated: it waits until they promote a replica"
        )
    if now.has_data:
        return Wait("no majority of the Sentinels names a primary") if now.patient else _without_sentinels(now)
    return _without_data(now)


def _without_sentinels(now: Situation) -> Start | Wait:
    """Start as what this node was before, whatever other nodes report.

    A primary that was replaced but does not know it yet still reports that it is the primary. A node that copied from
    it would lose what the new primary has confirmed. As a primary this node takes no write before the Sentinels see it
    (``fence``).
    """
    if now.last_primary and now.last_primary != now.me:
        return Start(now.last_primary, "no majority of the Sentinels names a primary, and this was the last one")
    return Start(
        now.me, "no majority of the Sentinels names a primary, and this node was the last one and has its data"
    )


def _without_data(now: Situation) -> Start | Wait:
    primaries = [address for address, peer in now.peers.items() if peer and peer.primary]
    if len(primaries) == 1:
        return Start(primaries[0], "this node is empty, and that node is the primary")
    if primaries:
        return Wait(f"several nodes report that they are the primary: {', '.join(map(str, primaries))}")
    if now.me != now.first:
        # It has nothing to lose, and the first node can see that it is empty.
        return Start(now.first, "this node is empty, and there is no primary yet; that node will be the first one")
    missing = [str(address) for address, peer in now.peers.items() if peer is None]
    if missing:
        return Wait(f"this node is empty, and does not know whether {', '.join(missing)} is too")
    if full := [str(address) for address, peer in now.peers.items() if peer and peer.keys]:
        return Wait(f"this node is empty, but {', '.join(full)} has data, and there is no primary: its volume was lost")
    return Start(now.me, "no node has data: this is a new installation, and this node is its first primary")
