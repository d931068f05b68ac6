"""How a node of a replicated set starts: as the primary, as a replica, or not yet. It never guesses.

One rule keeps the data: a node without data becomes primary only where no node has any. An emptied primary that came
back as primary would make its replicas as empty as itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from redis_node.quorum import View, believed
from redis_node.settings import Address


@dataclass(frozen=True, slots=True)
class Peer:
    """What another node says of itself."""

    primary: bool
    keys: int
    """How many keys it holds."""


@dataclass(frozen=True, slots=True)
class Situation:
    """All that the decision is made from."""

    me: Address
    first: Address
    """The node that begins a new installation."""
    peers: Mapping[Address, Peer | None]
    """The other nodes; None for one that does not answer."""
    views: list[View]
    sentinels: int
    """How many Sentinels there are in all."""
    has_data: bool
    last_primary: Address | None
    """Whom this node followed last, itself if it was primary; None on a new volume."""
    patient: bool
    """The Sentinels may still be starting."""


@dataclass(frozen=True, slots=True)
class Start:
    """Start the server: as a replica of ``primary``, or as the primary where that is this node."""

    primary: Address
    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is certain yet."""

    reason: str


def decide(now: Situation) -> Start | Wait:
    """Return what to do now."""
    if primary := believed(now.views, now.sentinels):
        if primary != now.me:
            return Start(primary, "the Sentinels name it")
        if now.has_data:
            return Start(now.me, "the Sentinels name this node, and it has its data")
        return Wait("the Sentinels name this node, but its volume is empty: waits until they promote a replica")
    if now.has_data:
        return Wait("no majority of the Sentinels names a primary") if now.patient else _without_sentinels(now)
    return _without_data(now)


def _without_sentinels(now: Situation) -> Start | Wait:
    """Go by what this node was, and not by what others say of themselves.

    A primary that was replaced, and does not know it yet, says that it is the primary. To copy from it would cost what
    its successor has confirmed. As a primary this node takes no write until the Sentinels name it (``fence``).
    """
    if now.last_primary and now.last_primary != now.me:
        return Start(now.last_primary, "no majority of the Sentinels names a primary; it was the last")
    return Start(now.me, "no majority of the Sentinels names a primary; this node was the last, and has its data")


def _without_data(now: Situation) -> Start | Wait:
    primaries = [address for address, peer in now.peers.items() if peer and peer.primary]
    if len(primaries) == 1:
        return Start(primaries[0], "this node is empty; that one says it is primary")
    if primaries:
        return Wait(f"several nodes say they are primary: {', '.join(map(str, primaries))}")
    if now.me != now.first:
        # It has nothing to lose, and shows the first node that it is empty.
        return Start(now.first, "this node is empty, and nobody names a primary; that one begins")
    missing = [str(address) for address, peer in now.peers.items() if peer is None]
    if missing:
        return Wait(f"this node is empty, and does not know whether {', '.join(missing)} is too")
    if full := [str(address) for address, peer in now.peers.items() if peer and peer.keys]:
        return Wait(
            f"this node is empty, but {', '.join(full)} has data and nobody names a primary: its volume was lost"
        )
    return Start(now.me, "no node has data: a new installation, which this node begins")
