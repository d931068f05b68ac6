"""The time of an update, in which replicas of an earlier version may serve the same data.

An operation is counted once, whichever replica receives a repeat. For that, replicas of this version do without what an
earlier version does not know: for an hour after the first of them began to count, which is enough for the update, and
then for as long as the last ids of the earlier version live. A new installation has no such time. If you return to the
earlier version after it, that version does not know the ids of this one, and counts their repeats.

There are two such times, since there were two changes:

- Version 1.0.0 stored each id in keys of Redis (``operation_key``, ``claim_key``), and finds ids only there. Meanwhile,
  replicas of this version read and write those keys too.
- Later, ids of the application had no secret (``new_id``). Meanwhile, replicas of this version make such ids. Until a
  replica knows, it makes ids like a client's, which each version finds and nobody can guess.

In the version after the next release, delete this module, its use in ``store``, ``in_former_keys`` in ``operations``,
``former`` in ``ids``, and the two keys in ``keys``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Self

from counter.store.attempt import Attempt, Command
from counter.store.ids import IdRetention
from counter.store.keys import COUNTERS, claim_key
from counter.store.types import UnavailableError

UPGRADE_SECONDS = 3600.0
ASK_SECONDS = 5.0
type Perform = Callable[[Callable[[], Attempt]], Attempt]

HASHES_KEY, SECRETS_KEY = "{.ids}:begun", "{.ids}:secrets"
"""When the first replica began to count that stores ids in hashes, and the first whose ids have a secret."""
BEGIN = """
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return redis.call('GET', KEYS[1])
"""
FORMER_CLAIM = """
local owner = redis.call('GET', KEYS[1]) or ARGV[1]
redis.call('SET', KEYS[1], owner, 'PX', ARGV[2])
return owner
"""


class Known(Attempt):
    """Ask whether there are counters; the value is 0 or 1."""

    __slots__ = ()

    def __init__(self, deadline: float) -> None:
        """Take the time to give up."""
        super().__init__(COUNTERS, deadline)

    @classmethod
    def command(cls, group: Sequence[Self]) -> Command:
        """Return one EXISTS for all."""
        return ("EXISTS", group[0].key)


class Begin(Attempt):
    """Store when this version began to count, unless it is stored; the value is what is stored, in Unix seconds."""

    __slots__ = ("moment",)

    def __init__(self, key: str, moment: int, deadline: float) -> None:
        """Take where to store the time, and the time; 0: there was no earlier version."""
        super().__init__(key, deadline)
        self.moment = moment

    @classmethod
    def command(cls, group: Sequence[Self]) -> Command:
        """Return one EVAL for all."""
        return ("EVAL", BEGIN, 1, group[0].key, group[0].moment)

    @classmethod
    def settle(cls, group: Sequence[Self], reply: Any) -> None:
        """Give all of them the same time."""
        super().settle(group, int(reply))


class FormerClaim(Attempt):
    """Claim a client's Idempotency-Key as the previous version did; the value is the counter that has it."""

    __slots__ = ("name", "retention")

    def __init__(self, name: str, identifier: str, retention: IdRetention, deadline: float) -> None:
        """Take what ``Claim`` takes."""
        super().__init__(claim_key(identifier), deadline)
        self.name = name
        self.retention = retention

    @classmethod
    def command(cls, group: Sequence[Self]) -> Command:
        """Return one EVAL: the first of the group is the first to use the key, unless another one was earlier."""
        return ("EVAL", FORMER_CLAIM, 1, group[0].key, group[0].name, group[0].retention.lifetime)


class Transition:
    """Tells whether the time is over. Until Redis has answered, it counts as not over, which is safe and costs memory.

    Redis is asked in the background, since in a cluster the answer may be on another node than the counter.
    """

    def __init__(
        self, key: str, perform: Perform, later: Callable[[Callable[[], None]], None], lifetime: float
    ) -> None:
        """Take where its begin is stored, what performs operations and runs functions later, and how long an id lives.

        This version lists a counter only after it knows (``ask``). So if there are names before this version has begun,
        an earlier version listed them.
        """
        self._key = key
        self._perform = perform
        self._later = later
        self._seconds = UPGRADE_SECONDS + lifetime
        self._until: float | None = None
        self._asking = False

    @property
    def known(self) -> bool:
        """Whether Redis has answered."""
        return self._until is not None

    def lasts(self) -> bool:
        """Tell whether replicas of the earlier version may still count."""
        if self._until is None and not self._asking:
            self._asking = True
            self._later(self._try)
        return self._until is None or time.monotonic() < self._until

    def _try(self) -> None:
        try:
            self.ask()
        except UnavailableError:
            return  # the next increment tries again
        finally:
            self._asking = False

    def ask(self) -> None:
        """Find out when it ends, unless that is known; raises UnavailableError."""
        if self._until is not None:
            return
        deadline = time.monotonic() + ASK_SECONDS
        known = self._perform(lambda: Known(deadline)).value
        begun = self._perform(lambda: Begin(self._key, int(time.time()) if known else 0, deadline)).value
        self._until = time.monotonic() + begun + self._seconds - time.time()
