"""Moves slots from one primary to another. No acknowledged write is lost, whichever node fails meanwhile.

For each slot, in this order (a client that misses a key at the source is sent to the target from step 1 on):

1. The target marks the slot as imported, then the source marks it as migrating.
2. The keys are copied while the source takes no write. The copy waits for the disk of the target's replica.
3. The source deletes its keys, unless one was written since (WATCH), because the pause ended early. Then the copy is
   made again.
4. The target claims the slot with a newer epoch and informs all nodes at once; then the source gives it up.

Until step 3 the source has everything. From then on the target and its replica have it. A move that is interrupted
leaves marks or keys behind, by which ``unfinished`` finds it. The same steps finish it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import batched, islice
from typing import Any

from redis_node.ask import Connection, Word
from redis_node.cluster.members import SLOTS, Member, parse
from redis_node.errors import RefusedError, SlotMovesError, StateError
from redis_node.settings import Address, Settings

KEYS_AT_A_TIME = 1000
"""How many keys are copied in one pause, in which their source takes no write."""
KEYS_READ_AT_FIRST, KEYS_READ_AT_MOST = 16, 64
BYTES_AT_A_TIME = 262_144
"""After how many bytes no further keys are read for the same pause. A target with a slow disk writes 16 kB in 20 ms."""
SLOTS_AT_A_TIME = 64
"""How many slots with keys move at once."""
EMPTY_AT_A_TIME = 512
"""How many slots without keys move at once."""
PAUSE_MILLISECONDS = 2000
"""When a pause ends if the mover is gone; otherwise it ends with the copy."""
CONFIRM_MILLISECONDS = 1000


@dataclass(frozen=True, slots=True)
class Move:
    """Slots of one primary that go to another; both are ids."""

    source: str
    target: str
    slots: tuple[int, ...]


def plan(owned: Mapping[str, Sequence[int]], wanted: Mapping[str, int]) -> list[Move]:
    """Return the fewest moves after which each primary has as many slots as wanted, none where it is not named.

    ``owned`` lists the slots of each primary by its id, those that are to go first coming first.
    """
    spare = {one: list(slots[: max(0, len(slots) - wanted.get(one, 0))]) for one, slots in owned.items()}
    moves = []
    for target, count in wanted.items():
        lacking = max(0, count - len(owned.get(target, ())))
        for source, slots in spare.items():
            if taken := tuple(slots[:lacking]):
                moves.append(Move(source, target, taken))
                del slots[:lacking]
                lacking -= len(taken)
    return moves


def even(slots: int, owned: Mapping[str, int]) -> dict[str, int]:
    """Return an even share of so many slots for each primary; those that have most get what is left over."""
    share, over = divmod(slots, len(owned))
    by_size = sorted(owned, key=lambda one: -owned[one])
    return {one: share + (place < over) for place, one in enumerate(by_size)}


class Mover:
    """Moves slots among the primaries of a cluster; every method raises NodeError."""

    def __init__(self, settings: Settings, view: Iterable[Member]) -> None:
        """Take the cluster as one node sees it."""
        self._settings = settings
        known = list(view)
        self.primaries = {one.id: one for one in known if one.alive and not one.replica}
        """Primaries by their ids."""
        self.followed = {one.primary for one in known if one.alive and one.replica} & set(self.primaries)
        """Ids of the primaries that have a replica."""
        # Of a cluster with replicas, each primary waits for its own, even if that is not reached at the moment.
        self._replicated = any(one.replica for one in known)

    def owned(self) -> dict[str, list[int]]:
        """Return the slots of each primary by its id, as it reports itself; none if it is no primary any more."""
        return {one: [] for one in self.primaries} | {one.id: sorted(me.served) for one, me in self._selves()}

    def filled(self, primary: str, slots: Iterable[int]) -> set[int]:
        """Return those of the slots in which a primary holds keys."""
        return filled(self._settings, self.primaries[primary].address, slots)

    def unfinished(self) -> list[Move]:
        """Return what is left of moves that were broken off: slots that another primary imports or has keys of."""
        moves = []
        selves = self._selves()
        for one, me in selves:
            begun = me.importing | self.filled(one.id, set(range(SLOTS)) - me.served)
            for other, owner in ((other, owner) for other, owner in selves if other is not one):
                if slots := tuple(sorted(begun & owner.served)):
                    moves.append(Move(other.id, one.id, slots))
        taken = {slot for move in moves for slot in move.slots}
        for one, me in selves:
            for slot, target in me.migrating.items():
                if slot in me.served - taken and target in self.primaries:
                    moves.append(Move(one.id, target, (slot,)))
        return moves

    def steps(self, move: Move) -> Iterator[tuple[int, ...]]:
        """Move the slots step by step, those with keys first; yield the slots that each step has moved."""
        source, target = self.primaries[move.source], self.primaries[move.target]
        with contextlib.ExitStack() as opened:
            at_source = opened.enter_context(Connection(self._settings, source.address))
            at_target = opened.enter_context(Connection(self._settings, target.address))
            filled = _count(at_source, move.slots)
            empty = [slot for slot in move.slots if slot not in filled]
            guards = [opened.enter_context(Connection(self._settings, source.address)) for _ in range(SLOTS_AT_A_TIME)]
            for slots in [*_groups(filled), *batched(empty, EMPTY_AT_A_TIME)]:
                _set(at_target, slots, "IMPORTING", source.id)
                _set(at_source, slots, "MIGRATING", target.id)
                self._carry(guards, at_source, at_target, slots)
                _set(at_target, slots, "NODE", target.id)
                _set(at_source, slots, "NODE", target.id)
                yield slots

    def _carry(
        self, guards: Sequence[Connection], source: Connection, target: Connection, slots: Iterable[int]
    ) -> None:
        """Move the keys of slots, those that expire first: a source that fails in between still has all values."""
        while counts := _count(source, slots):
            lists = _must(source, [("CLUSTER", "GETKEYSINSLOT", slot, count) for slot, count in counts.items()])
            names = [key for keys in lists for key in keys]
            expiry = dict(zip(names, source.ask_each(("PEXPIRETIME", key) for key in names), strict=True))
            # A key that has expired is counted, but is no more: the answer is an error. Only SCAN removes it.
            expired = [key for key in names if isinstance(expiry[key], RefusedError)]
            _must(source, [("SCAN", 0, "MATCH", key, "COUNT", KEYS_AT_A_TIME) for key in expired])
            left = [sorted(set(keys).difference(expired), key=lambda key: expiry[key] == -1) for keys in lists]
            moved = True
            while moved and (left := [keys for keys in left if keys]):
                parts, room = [], KEYS_AT_A_TIME
                for keys in left[: len(guards)]:
                    part = keys[:room]
                    del keys[:room]
                    parts.append(part)
                    room -= len(part)
                moved = all(transfer(guards, source, target, parts, replicated=self._replicated))

    def _selves(self) -> list[tuple[Member, Member]]:
        """Return each primary twice: as seen, and as it reports itself, which includes the slots on their way."""
        found = []
        for one in self.primaries.values():
            with Connection(self._settings, one.address) as there:
                (me,) = (member for member in parse(there.ask("CLUSTER", "NODES")) if member.mine)
            if not me.replica:  # which it may have become since
                found.append((one, me))
        return found


def transfer(
    guards: Sequence[Connection],
    source: Connection,
    target: Connection,
    parts: Sequence[Sequence[str]],
    *,
    replicated: bool,
) -> list[bool]:
    """Move keys, each part those of one slot; return which parts moved as a whole.

    Keys of a part stay at the source if one of them changed before they were deleted, or if they are too large to be
    moved at once.

    A connection watches the keys of one slot only, since Redis Cluster has no transactions on several. The guards are
    connections to the source. Raises NodeError.
    """
    guarded = list(zip(guards, parts, strict=False))
    source.ask("CLIENT", "PAUSE", PAUSE_MILLISECONDS, "WRITE")
    try:
        for guard, part in guarded:
            guard.send([("UNWATCH",), *(("WATCH", key) for key in part)])
        for guard, _ in guarded:
            guard.receive()  # an error for a key that has expired
        copies = _copies(source, [key for part in parts for key in part])
        _must(target, [("RESTORE-ASKING", key, *copy, "REPLACE", "ABSTTL") for key, copy in copies.items() if copy])
        # A replica reports what was on its disk before it received the question, and otherwise once a second. WAIT asks
        # it a first time, and it answers when it has the keys. So the second question, WAITAOF, is answered at once.
        target.ask("WAIT", int(replicated), CONFIRM_MILLISECONDS)
        local, replicas = target.ask("WAITAOF", 1, int(replicated), CONFIRM_MILLISECONDS)
        if not local or replicas < replicated:
            raise StateError(f"{target.address}: its replica did not confirm the keys")
        # The first guard ends the pause and deletes in one go, so that no client writes in between. A client may write
        # before the next guard deletes, which then does not (WATCH).
        for guard, part in guarded:
            copied = [key for key in part if copies.get(key)]
            guard.send([("CLIENT", "UNPAUSE"), *([("MULTI",), ("DEL", *copied), ("EXEC",)] if copied else [])])
        return [_done(guard.receive()) and all(key in copies for key in part) for guard, part in guarded]
    finally:
        source.ask("CLIENT", "UNPAUSE")


def _done(replies: list[Any]) -> bool:
    """Tell whether a transaction was executed; raises NodeError unless it can simply be made again."""
    for reply in replies:
        if isinstance(reply, SlotMovesError):
            return False  # a key has expired since, so it would be at the target
        if isinstance(reply, RefusedError):
            raise reply
    return replies[-1] is not None


def _copies(source: Connection, keys: Iterable[str]) -> dict[str, tuple[int, str] | None]:
    """Return the expiry and the dump of the first keys, as many as are moved at once; None for one that has expired."""
    copies: dict[str, tuple[int, str] | None] = {}
    room, count, left = BYTES_AT_A_TIME, KEYS_READ_AT_FIRST, iter(keys)
    while room > 0 and (some := list(islice(left, count))):
        replies = source.ask_each(command for key in some for command in (("PEXPIRETIME", key), ("DUMP", key)))
        for key, expiry, value in zip(some, replies[::2], replies[1::2], strict=True):
            exists = isinstance(expiry, int) and isinstance(value, str)
            copies[key] = (max(0, expiry), value) if exists else None
            room -= len(value) if exists else 0
        count = min(2 * count, KEYS_READ_AT_MOST)
    return copies


def _groups(counts: Mapping[int, int]) -> list[tuple[int, ...]]:
    """Return slots in groups that are moved at once: few enough, with few enough keys."""
    groups: list[list[int]] = []
    keys = 0
    for slot, count in sorted(counts.items()):
        keys += count
        if not groups or keys > KEYS_AT_A_TIME or len(groups[-1]) == SLOTS_AT_A_TIME:
            groups.append([])
            keys = count
        groups[-1].append(slot)
    return [tuple(group) for group in groups]


def filled(settings: Settings, node: Address, slots: Iterable[int]) -> set[int]:
    """Return those of the slots in which any node, also a replica, holds keys; raises NodeError."""
    with Connection(settings, node) as there:
        return set(_count(there, slots))


def _count(there: Connection, slots: Iterable[int]) -> dict[int, int]:
    """Return the number of keys in each slot that has any."""
    slots = list(slots)
    counts = _must(there, [("CLUSTER", "COUNTKEYSINSLOT", slot) for slot in slots])
    return {slot: count for slot, count in zip(slots, counts, strict=True) if count}


def _set(there: Connection, slots: Iterable[int], state: str, node: str) -> None:
    _must(there, [("CLUSTER", "SETSLOT", slot, state, node) for slot in slots])


def _must(there: Connection, commands: Sequence[Sequence[Word]]) -> list[Any]:
    """Return the replies to all commands; raises NodeError when one of them is an error."""
    replies = there.ask_each(commands)
    for reply in replies:
        if isinstance(reply, RefusedError):
            raise reply
    return replies
