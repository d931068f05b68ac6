"""``python3 -m redis_node.cluster.shape COUNT`` in any node's container: makes the cluster one of COUNT nodes.

Creates the cluster, adds nodes, spreads the slots evenly, and removes nodes. Prints one line for each change. Run it
again to finish what was interrupted.

``... COUNT relieve NAME`` also moves nearly all slots away from the pair of node NAME, until it is run again without
``relieve``. While one node of a pair is away, the counters of that pair wait, because each write must be on two disks.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from redis_node.ask import ask, info
from redis_node.cluster import behind
from redis_node.cluster.joining import NO_FAILOVER, lacks_copy
from redis_node.cluster.lock import Lock
from redis_node.cluster.members import (
    SLOTS,
    Member,
    first_of_its_pair,
    forget,
    members,
    merged,
    number,
    partner,
    resolve,
)
from redis_node.cluster.moving import Move, Mover, even, filled, plan
from redis_node.cluster.volume import PURGE
from redis_node.errors import NodeError, ShapeError, StateError
from redis_node.settings import Address, Settings

POLL_SECONDS = 0.2
ANSWER_SECONDS = 90.0
AGREE_SECONDS = 60.0
ORDER_SECONDS = 90.0
OTHER_SECONDS = 150.0
"""After a power failure, Redis notices after two minutes that the host of another run is gone."""
TAKE_OVER_SECONDS = 60.0
"""How long a replica may take to serve in the place of a primary that is gone; Redis needs some seconds."""
STUCK_SECONDS = 60.0
"""How long no slot may move before this gives up."""
EVEN = 0.02
"""Share by which the slots of a primary may differ from an even spread without a move."""
KEPT_SLOTS = 1
"""A primary without slots has no vote, and the others might be too few to replace one that fails meanwhile."""


Wanted = Callable[[Mover, dict[str, list[int]]], Mapping[str, int]]
"""Gets the slots of each primary and returns how many each is to serve; may sort them, the first to move first."""


class Shape:
    """The way from the present cluster to one of nodes 1 to ``count``."""

    def __init__(self, settings: Settings, count: int) -> None:
        """Take the settings and the number of nodes."""
        self._settings, self._count = settings, count
        self._names = [f"redis-{one}" for one in range(1, count + 1)]
        # The other node of a pair is missing in a cluster of three.
        self._firsts = [one for one in self._names if partner(one) not in self._names or first_of_its_pair(one)]
        self._lock: Lock | None = None

    def reach(self, relieved: str = "") -> None:
        """Do everything, and relieve the pair of that node; raises NodeError."""
        self._view()
        self._hold()
        self._meet()
        if self._move():
            _say("finished moves of slots that were interrupted")
        self._wait("the nodes to agree on the cluster", AGREE_SECONDS, self._agreed)
        self._forget_the_emptied()
        self._replicate()
        self._hand_out()
        self._wait("the first node of each pair to be its primary", ORDER_SECONDS, self._in_order)
        if relieved:
            self._relieve(relieved)
        else:
            self._balance()
        self._let_go()
        if missing := SLOTS - sum(member.slots for member in self._view()):
            raise ShapeError(f"{missing} of {SLOTS} slots are not served by any node")

    def _hold(self) -> None:
        """Hold the lock, so that no other run changes the cluster; raises NodeError when it is lost."""
        lock, self._lock = self._lock, None
        if lock:
            lock.held()
        else:
            lock = self._wait("an earlier run to end, which still changes the cluster", OTHER_SECONDS, self._taken)
        self._lock = lock

    def _taken(self) -> Lock | None:
        lock = Lock(self._settings, self._place("redis-1"))
        if lock.held():
            return lock
        lock.release()
        return None

    def _meet(self) -> None:
        """Make the nodes one cluster. It is a new one only if all are empty and none knows another."""
        # One view at a time: those of a large cluster take more memory than a node may have.
        joined: dict[str, set[str]] = {}
        for name in self._names:
            view = self._view(name)
            if len(view) > 1 or view[0].slots:
                joined[name] = {member.name for member in view}
        if not joined:
            self._create()
            return
        first, known = next(iter(joined.items()))
        if strangers := [name for name in self._names if name not in known]:
            present = self._view(first)
            for name in strangers:
                self._detach(name, present)
                self._introduce(name, first)
            _say(f"{', '.join(strangers)} joined the cluster")

    def _detach(self, name: str, present: list[Member]) -> None:
        """Empty a node that still follows a primary that left the cluster while this node was away.

        The others serve all that it could have.
        """
        (me,) = (member for member in self._view(name) if member.mine)
        complete = sum(member.slots for member in present) == SLOTS
        if me.replica and complete and me.primary not in {member.id for member in present}:
            ask(self._settings, self._place(name), "CLUSTER", "RESET", "HARD")

    def _create(self) -> None:
        """Share the slots among the first node of each pair."""
        if holding := [name for name in self._names if ask(self._settings, self._place(name), "DBSIZE")]:
            raise ShapeError(
                f"{', '.join(holding)}: holds counters but belongs to no cluster. Its data is unchanged. "
                f"Deploy with the redis_topology that they come from, or remove them: {PURGE}"
            )
        for place, name in enumerate(self._firsts):
            first, end = (SLOTS * one // len(self._firsts) for one in (place, place + 1))
            ask(self._settings, self._place(name), "CLUSTER", "ADDSLOTSRANGE", first, end - 1)
            ask(self._settings, self._place(name), "CLUSTER", "SET-CONFIG-EPOCH", place + 1)
        for name in self._names[1:]:
            self._introduce(name, self._firsts[0])
        _say(f"created a cluster of {self._count} nodes, {len(self._firsts)} of them primaries")

    def _forget_the_emptied(self) -> None:
        """Remove ids that no node has any more: those of nodes whose volume was emptied."""
        for gone in (member for member in merged(map(self._view, self._names)) if not member.alive):
            place = resolve(gone.name, self._settings.address.port) if gone.name else None
            if place is None and gone.name in self._names:
                raise ShapeError(f"{gone.name} cannot be reached")
            if gone.slots and not self._took_over(gone):
                known = (member for member in self._view() if member.alive)
                if holding := [one.name for one in known if filled(self._settings, one.address, gone.served)]:
                    raise ShapeError(
                        f"{', '.join(sorted(holding))} has counters of the {gone.slots} slots of "
                        f"{gone.name or gone.id}, which no node serves. Remove no volume, and deploy again in a minute"
                    )
                raise ShapeError(
                    f"the {gone.slots} slots of {gone.name or gone.id} are not served by any node: their only copy was "
                    f"on a volume that is gone or not reached. If it never returns, this removes "
                    f"all counters, so that the next deployment starts from zero: {PURGE}"
                )
            forget(self._settings, gone, self._view())
            _say(f"forgot {gone.id}, the former id of {gone.name or 'a node without a name'}")

    def _took_over(self, gone: Member) -> bool:
        """Tell whether the other node of a pair serves in the place of one that is gone, and so has all its counters.

        If it still follows the one that is gone, it is about to take over, which is waited for. It may not have heard
        of slots that had just arrived. They are handed out, to the node that has their counters.
        """
        deadline = time.monotonic() + TAKE_OVER_SECONDS
        while True:
            mates = [one for one in self._view() if one.name == partner(gone.name) and one.alive]
            if any(one.slots for one in mates):
                return True
            if time.monotonic() > deadline or all(one.primary != gone.id for one in mates):
                return False
            time.sleep(POLL_SECONDS)

    def _replicate(self) -> None:
        """Make the other node of each pair follow the primary, and wait until it is in sync and can take over."""
        for first in self._firsts:
            self._wait(f"the pair of {first} to have one primary", AGREE_SECONDS, partial(self._paired, first))
        self._wait("the nodes to agree on the replicas", AGREE_SECONDS, self._agreed)
        known = {member.id: member for member in self._view()}
        for replica in (member for member in known.values() if member.primary in known):
            late = partial(behind, self._settings, replica, known[replica.primary])
            self._wait(f"{replica.name} to be in sync", AGREE_SECONDS, lambda late=late: not late())  # type: ignore[misc]
            copying = partial(lacks_copy, self._settings, replica.address)
            self._wait(f"the copy on the disk of {replica.name}", AGREE_SECONDS, lambda copying=copying: not copying())  # type: ignore[misc]

    def _paired(self, first: str) -> bool:
        """Make the other nodes of a pair follow its primary. One may not have heard of it yet, or just take over.

        Raises:
            NodeError: not yet.

        """
        view = self._view()
        primary = self._primary(first, view)
        for member in view:
            if member.name in (first, partner(first)) and member.name in self._names and member.id != primary.id:
                if member.slots:
                    raise ShapeError(
                        f"{primary.name} and {member.name} are a pair, but both serve slots. No counter is missing; "
                        "deploy again. If this stays so, save them with ./counter export before you try anything else"
                    )
                if member.primary != primary.id:
                    self._follow(member, primary)
        return True

    def _follow(self, member: Member, primary: Member) -> bool:
        ask(self._settings, member.address, "CONFIG", "SET", NO_FAILOVER, "yes")
        ask(self._settings, member.address, "CLUSTER", "REPLICATE", primary.id)
        _say(f"{member.name} follows {primary.name}")
        return True

    def _hand_out(self) -> None:
        """Assign the slots that no node serves; an interrupted creation leaves such slots.

        A primary that has keys of a slot gets it.
        """
        view = self._view()
        mover = Mover(self._settings, view)
        owned = mover.owned()
        # What a node serves that does not answer belongs to it.
        unserved = set(range(SLOTS)).difference(*owned.values(), *(member.served for member in view))
        held = {primary: mover.filled(primary, unserved) for primary in owned} if unserved else {}
        for slot in sorted(unserved):
            holding = [primary for primary in owned if slot in held[primary]]
            if len(holding) > 1:
                raise ShapeError(f"{len(holding)} primaries have counters of slot {slot}, which none of them serves")
            owned[holding[0] if holding else min(owned, key=lambda one: len(owned[one]))].append(slot)
        for member in self._view():
            if taken := unserved.intersection(owned.get(member.id, ())):
                ask(self._settings, member.address, "CLUSTER", "ADDSLOTS", *sorted(taken))
        if unserved:
            _say("finished what was interrupted: every slot is served by one primary")
            self._wait("the nodes to agree on the slots", AGREE_SECONDS, self._agreed)

    def _balance(self) -> None:
        """Spread the slots evenly over the primaries that stay."""
        stay = self._wait("a primary of each pair", AGREE_SECONDS, self._primaries)
        leave = [member for member in self._view() if member.slots and member.id not in {one.id for one in stay}]
        share = SLOTS / len(stay)
        # A primary that has just joined refuses keys for some seconds.
        self._wait(
            "the cluster to be ok on each node", AGREE_SECONDS, lambda: all(self._ok(name) for name in self._names)
        )
        if not leave and all(abs(member.slots - share) <= share * EVEN for member in stay):
            return
        seconds = self._move(self._evenly)
        _say(f"spread the slots evenly over {len(stay)} primaries in {seconds:.1f} s")

    def _evenly(self, mover: Mover, owned: Mapping[str, list[int]]) -> dict[str, int]:
        return even(SLOTS, {one: len(owned[one]) for one in self._pairs(mover).values()})

    def _relieve(self, name: str) -> None:
        """Move the slots of a node's pair to the other pairs, if their memory is large enough."""
        primaries = self._wait("a primary of each pair", AGREE_SECONDS, self._primaries)
        pair = next(one for one in primaries if one.name in (name, partner(name)))
        if pair.slots <= 2 * KEPT_SLOTS:
            return
        others = [one for one in primaries if one is not pair]
        # The others are evened out as well.
        share = sum(self._memory(one)[0] for one in primaries) / len(others)
        if full := [one.name for one in others if share > self._memory(one)[1]]:
            _say(f"{full[0]} has too little memory for what {pair.name} serves, which waits while a node of it is away")
            return
        seconds = self._move(partial(self._without, name))
        _say(f"moved all but {KEPT_SLOTS} of the slots of {pair.name} to the other primaries in {seconds:.1f} s")

    def _without(self, name: str, mover: Mover, owned: Mapping[str, list[int]]) -> dict[str, int]:
        """Return an even spread over the other pairs. Slots with counters move first; the one that stays is empty."""
        pairs = self._pairs(mover)
        relieved = pairs.pop(name if name in pairs else partner(name))
        filled = mover.filled(relieved, owned[relieved])
        owned[relieved].sort(key=lambda slot: slot not in filled)
        return {relieved: KEPT_SLOTS} | even(SLOTS - KEPT_SLOTS, {one: len(owned[one]) for one in pairs.values()})

    def _pairs(self, mover: Mover) -> dict[str, str]:
        """Return the first node of each pair -> the id of the pair's primary; raises NodeError if one has none."""
        return {first: self._primary(first, mover.primaries.values()).id for first in self._firsts}

    def _memory(self, member: Member) -> tuple[int, int]:
        """Return the bytes that a node uses, and those that its data may use."""
        facts = info(self._settings, member.address, "memory")
        return int(facts["used_memory"]), int(facts["maxmemory"])

    def _move(self, wanted: Wanted | None = None) -> float:
        """Finish moves that were broken off, then move slots as ``wanted``; return the seconds, 0 if none moved.

        A step that fails is planned again: a primary may have been replaced.
        """
        began = progress = time.monotonic()
        moved = 0
        while True:
            try:
                self._hold()
                for slots in self._steps(wanted):
                    self._hold()
                    progress, moved = time.monotonic(), moved + len(slots)
                break
            except ShapeError:
                raise
            except NodeError as error:
                if time.monotonic() - progress > STUCK_SECONDS:
                    raise ShapeError(f"no slot could be moved for {STUCK_SECONDS:g} s: {error}") from error
                time.sleep(POLL_SECONDS)
        if moved:
            self._wait("the nodes to agree on the slots", AGREE_SECONDS, self._agreed)
        return time.monotonic() - began if moved else 0.0

    def _steps(self, wanted: Wanted | None) -> Iterator[tuple[int, ...]]:
        """Yield the slots of each step once they have moved; raises NodeError."""
        mover = Mover(self._settings, self._view())
        yield from self._join_pairs(mover)
        mover = Mover(self._settings, self._view())
        for move in mover.unfinished():
            yield from mover.steps(move)
        if wanted is None:
            return
        owned = mover.owned()
        if sorted(slot for slots in owned.values() for slot in slots) != list(range(SLOTS)):
            raise StateError("not every slot is served by one primary at the moment")
        counts = wanted(mover, owned)
        for move in plan(owned, counts):
            yield from mover.steps(move)

    def _join_pairs(self, mover: Mover) -> Iterator[tuple[int, ...]]:
        """Repair pairs in which both nodes serve slots; yield the slots that moved.

        This happens when a primary fails before its replica has heard of a slot that has just arrived. The replica
        takes over the other slots, and the failed node still has this one when it returns. A failed primary that has
        just returned reports all its slots, until it hears who serves them now.
        """
        owned = mover.owned()
        served = [slot for slots in owned.values() for slot in slots]
        if len(served) > len(set(served)):
            raise StateError("two primaries report the same slots at the moment")
        for first in self._firsts:
            pair = [one for one in mover.primaries.values() if one.name in (first, partner(first)) and owned[one.id]]
            if len(pair) < 2:  # noqa: PLR2004
                continue
            fewer, more = sorted(pair, key=lambda one: len(owned[one.id]))
            others = mover.followed - {fewer.id, more.id}
            if not others:
                raise StateError(f"no primary with a replica can take the slots of {fewer.name}")
            target = min(others, key=lambda one: len(owned[one]))
            # Both refuse writes, since neither has a replica. Without one, nothing is acknowledged in any case.
            ask(self._settings, fewer.address, "CONFIG", "SET", "min-replicas-to-write", 0)
            yield from mover.steps(Move(fewer.id, target, tuple(owned[fewer.id])))
            # What is left are copies of slots that it did not get. The other node has them too, as far as they were
            # deleted at their source: that waits until both have them.
            ask(self._settings, fewer.address, "FLUSHALL")
            follow = partial(self._follow, fewer, more)
            self._wait(f"{fewer.name} to follow {more.name}", AGREE_SECONDS, follow)
            ask(self._settings, fewer.address, "CONFIG", "SET", "min-replicas-to-write", 1)

    def _let_go(self) -> None:
        """Remove the nodes beyond the count: replicas first, then primaries, which serve no slots any more."""
        leaving = [member for member in self._view() if number(member.name) > self._count]
        for member in sorted(leaving, key=lambda one: not one.replica):
            if member.slots:
                raise ShapeError(f"{member.name} still serves {member.slots} slots")
            forget(self._settings, member, self._view())
            ask(self._settings, member.address, "CLUSTER", "RESET", "HARD")
            _say(f"{member.name} left the cluster")

    def _in_order(self) -> bool:
        """Tell whether each pair's first node is the primary. It becomes that by itself, but not while slots move."""
        known = {member.name: member for member in self._view()}
        return not any(known[first].replica for first in self._firsts)

    def _agreed(self) -> bool:
        """Tell whether each node reaches the others, and all see the same roles and slots."""
        seen = {
            frozenset((one.name, one.id, one.primary, one.slots) for one in self._view(name) if one.alive)
            for name in self._names
        }
        return len(seen) == 1 and set(self._names) <= {name for name, *_ in next(iter(seen))}

    def _ok(self, name: str) -> bool:
        return "cluster_state:ok" in ask(self._settings, self._place(name), "CLUSTER", "INFO")

    def _primary(self, first: str, view: Iterable[Member]) -> Member:
        """Return the primary of a pair: the node that serves slots, otherwise the first; raises NodeError."""
        pair = [member for member in view if member.name in (first, partner(first)) and member.alive]
        if not pair:
            raise StateError(f"{first} and {partner(first)} have no primary at the moment")
        return max(pair, key=lambda member: (member.slots, -number(member.name)))

    def _primaries(self) -> list[Member]:
        """Return the primary of each pair; raises NodeError."""
        view = self._view()
        return [self._primary(first, view) for first in self._firsts]

    def _introduce(self, name: str, to: str) -> None:
        place = self._place(name)
        ask(self._settings, self._place(to), "CLUSTER", "MEET", place.host, place.port)

    def _view(self, name: str = "redis-1") -> list[Member]:
        place = self._place(name)
        return self._wait(f"an answer of {name}", ANSWER_SECONDS, lambda: members(self._settings, place))

    def _place(self, name: str) -> Address:
        return self._wait(f"the name {name}", ANSWER_SECONDS, lambda: resolve(name, self._settings.address.port))

    @staticmethod
    def _wait[T](what: str, seconds: float, probe: Callable[[], T | None]) -> T:
        """Call ``probe`` until it returns something true; raises ShapeError after ``seconds``."""
        deadline, reason = time.monotonic() + seconds, ""
        while time.monotonic() < deadline:
            try:
                if found := probe():
                    return found
            except ShapeError:
                raise
            except NodeError as error:
                reason = f": {error}"
            time.sleep(POLL_SECONDS)
        raise ShapeError(f"waited {seconds:g} s for {what}{reason}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Reach the shape; return the exit status (1: not possible, with the reason on standard error)."""
    match arguments:
        case [count]:
            relieved = ""
        case [count, "relieve", relieved]:
            pass
        case _:
            sys.stderr.write(f"usage: {__doc__}\n")
            return 64
    try:
        Shape(Settings.from_env(), int(count)).reach(relieved)
    except NodeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
