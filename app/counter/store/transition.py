"""The hour in which replicas of the version before this one may serve beside it, on the same data.

That version remembered each id by keys of its own (``operation_key``, ``claim_key``), and knows nothing else. So for an
hour after the first replica of this version began to count, all replicas of this version look there too, and write
there too: whichever replica gets a repeat, it counts once. An installation that begins with this version has no such
hour. A return to the version before counts a repeat of younger ids again once the hour is over.

For the next version: delete this module, its use in ``durable``, ``both`` in ``kinds``, and the two keys in ``keys``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Self

from counter.store.ids import Memory
from counter.store.keys import COUNTERS, claim_key
from counter.store.operation import Command, Operation
from counter.store.types import UnavailableError

HOUR_SECONDS = 3600.0
ASK_SECONDS = 5.0
type Perform = Callable[[Callable[[], Operation]], Operation]

BEGUN_KEY = "{.ids}:begun"
BEGIN = """
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return redis.call('GET', KEYS[1])
"""
FORMER_CLAIM = """
local owner = redis.call('GET', KEYS[1]) or ARGV[1]
redis.call('SET', KEYS[1], owner, 'PX', ARGV[2])
return owner
"""


class Known(Operation):
    """Ask whether anything was ever counted; the value is 0 or 1."""

    __slots__ = ()

    def __init__(self, deadline: float) -> None:
        """Take the time to give up."""
        super().__init__(COUNTERS, deadline)

    @classmethod
    def command(cls, group: Sequence[Self]) -> Command:
        """Return the question, whoever asks."""
        return ("EXISTS", group[0].key)


class Begin(Operation):
    """Note when this version began to count, unless it is noted; the value is what is noted, in Unix seconds."""

    __slots__ = ("moment",)

    def __init__(self, moment: int, deadline: float) -> None:
        """Take the time to note; 0: there was no version before."""
        super().__init__(BEGUN_KEY, deadline)
        self.moment = moment

    @classmethod
    def command(cls, group: Sequence[Self]) -> Command:
        """Return the note, whoever makes it."""
        return ("EVAL", BEGIN, 1, BEGUN_KEY, group[0].moment)

    @classmethod
    def settle(cls, group: Sequence[Self], reply: Any) -> None:
        """Hand everybody the same time."""
        super().settle(group, int(reply))


class FormerClaim(Operation):
    """Claim a client's Idempotency-Key as the version before did; the value is the counter that has it."""

    __slots__ = ("memory", "name")

    def __init__(self, name: str, identifier: str, memory: Memory, deadline: float) -> None:
        """Take what ``Claim`` takes."""
        super().__init__(claim_key(identifier), deadline)
        self.name = name
        self.memory = memory

    @classmethod
    def command(cls, group: Sequence[Self]) -> Command:
        """Return one EVAL: the first of the group is the first to use the key, unless another was before."""
        return ("EVAL", FORMER_CLAIM, 1, group[0].key, group[0].name, group[0].memory.lifetime)


class Transition:
    """Tells whether the hour is over. Until Redis has answered, it is not: that costs memory, and counts nothing twice.

    Asked in the background, since in a cluster the answer is on another node than the counter.
    """

    def __init__(self, perform: Perform, later: Callable[[Callable[[], None]], None]) -> None:
        """Take what does an operation, and what runs a function in the background, one after the other.

        No counter is listed before this has asked, so that a list with names was made by the version before.
        """
        self._perform = perform
        self._later = later
        self._until: float | None = None
        self._asking = False

    def lasts(self) -> bool:
        """Tell whether to look and to write where the version before did."""
        if self._until is None and not self._asking:
            self._asking = True
            self._later(self._ask)
        return self._until is None or time.monotonic() < self._until

    def _ask(self) -> None:
        deadline = time.monotonic() + ASK_SECONDS
        try:
            known = self._perform(lambda: Known(deadline)).value
            begun = self._perform(lambda: Begin(int(time.time()) if known else 0, deadline)).value
        except UnavailableError:
            return  # the next increment asks again
        finally:
            self._asking = False
        self._until = time.monotonic() + begun + HOUR_SECONDS - time.time()
