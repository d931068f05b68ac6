"""The time of the upgrade, in which replicas of the previous version may serve the same data.

The previous version stored each id in keys of Redis (``operation_key``, ``claim_key``), and finds ids only there. So
after the first replica of this version began to count, replicas of this version read and write those keys too: for an
hour, which is enough for the upgrade, and then for as long as the last ids of the previous version live. An operation
is counted once, whichever replica receives a repeat. A new installation has no such time. If you return to the previous
version after it, that version does not know the ids of this one, and counts their repeats.

In the next version, delete this module, its use in ``durable``, ``both`` in ``kinds``, and the two keys in ``keys``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Self

from counter.store.ids import Memory
from counter.store.keys import COUNTERS, claim_key
from counter.store.operation import Command, Operation
from counter.store.types import UnavailableError

UPGRADE_SECONDS = 3600.0
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
    """Ask whether there are counters; the value is 0 or 1."""

    __slots__ = ()

    def __init__(self, deadline: float) -> None:
        """Take the time to give up."""
        super().__init__(COUNTERS, deadline)

    @classmethod
    def command(cls, group: Sequence[Self]) -> Command:
        """Return one EXISTS for all."""
        return ("EXISTS", group[0].key)


class Begin(Operation):
    """Store when this version began to count, unless it is stored; the value is what is stored, in Unix seconds."""

    __slots__ = ("moment",)

    def __init__(self, moment: int, deadline: float) -> None:
        """Take the time to store; 0: there was no previous version."""
        super().__init__(BEGUN_KEY, deadline)
        self.moment = moment

    @classmethod
    def command(cls, group: Sequence[Self]) -> Command:
        """Return one EVAL for all."""
        return ("EVAL", BEGIN, 1, BEGUN_KEY, group[0].moment)

    @classmethod
    def settle(cls, group: Sequence[Self], reply: Any) -> None:
        """Give all of them the same time."""
        super().settle(group, int(reply))


class FormerClaim(Operation):
    """Claim a client's Idempotency-Key as the previous version did; the value is the counter that has it."""

    __slots__ = ("memory", "name")

    def __init__(self, name: str, identifier: str, memory: Memory, deadline: float) -> None:
        """Take what ``Claim`` takes."""
        super().__init__(claim_key(identifier), deadline)
        self.name = name
        self.memory = memory

    @classmethod
    def command(cls, group: Sequence[Self]) -> Command:
        """Return one EVAL: the first of the group is the first to use the key, unless another one was earlier."""
        return ("EVAL", FORMER_CLAIM, 1, group[0].key, group[0].name, group[0].memory.lifetime)


class Transition:
    """Tells whether the time is over. Until Redis has answered, it counts as not over, which is safe and costs memory.

    Redis is asked in the background, since in a cluster the answer may be on another node than the counter.
    """

    def __init__(self, perform: Perform, later: Callable[[Callable[[], None]], None], lifetime: float) -> None:
        """Take what performs an operation, what runs functions in the background, and how many seconds an id lives.

        ``later`` runs one after another. Counters are listed there, too, after this. So if there are names before this
        version has begun, the previous version listed them.
        """
        self._perform = perform
        self._later = later
        self._seconds = UPGRADE_SECONDS + lifetime
        self._until: float | None = None
        self._asking = False

    def lasts(self) -> bool:
        """Tell whether to read and write the keys of the previous version."""
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
        self._until = time.monotonic() + begun + self._seconds - time.time()
