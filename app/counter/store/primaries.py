"""Many commands at once, for programs that copy, read or change all counters."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from redis.exceptions import RedisError

from counter.store.attempt import Command, Failure, key_of
from counter.store.keys import COUNTERS, counter_of, value_key
from counter.store.store import PrimaryQueue, Route
from counter.store.types import UnavailableError

BATCH = 500
"""How many keys to read or write at a time."""
SCAN = 5000
"""How many keys Redis looks at in one step, which takes it about a millisecond."""
ROUND_SECONDS = 10.0
PATIENCE_SECONDS = 60.0
"""How long nodes may take to answer: they load their data, Sentinels find their primary."""
POLL_SECONDS = 0.2


class Primaries:
    """The primaries of a topology."""

    def __init__(self, route: Route) -> None:
        """Take the way to them."""
        self._route = route

    def run(self, commands: Sequence[Command], *, repeats: bool = True) -> list[Any]:
        """Run each command at the primary of its key, confirmed as increments are; return the replies.

        ``repeats``: what fails is repeated, so a command may be applied more than once.

        Raises:
            UnavailableError: not all was confirmed, within ``PATIENCE_SECONDS`` if it could be repeated; a part may
                have been applied.

        """
        replies: dict[int, Any] = {}
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                queues: dict[PrimaryQueue, list[int]] = {}
                for number in (number for number in range(len(commands)) if number not in replies):
                    queues.setdefault(self._route.queue(key_of(commands[number])), []).append(number)
                for queue, numbers in queues.items():
                    answers = queue.link.run([commands[number] for number in numbers], time.monotonic() + ROUND_SECONDS)
                    replies.update(zip(numbers, answers, strict=True))
            except (RedisError, OSError, UnavailableError) as error:
                self._route.failed(Failure(str(error)))
                if not repeats or time.monotonic() > deadline:
                    raise UnavailableError(str(error)) from error
                time.sleep(POLL_SECONDS)
            else:
                return [replies[number] for number in range(len(commands))]

    def names(self, pattern: str = "*") -> set[str]:
        """Return the names that match a pattern of Redis, of all counters that the primaries hold, whoever made them.

        Raises:
            UnavailableError: as ``keys``.

        """
        return {name for key in self.keys(value_key(pattern)) if (name := counter_of(key))}

    def listed(self, pattern: str) -> set[str]:
        """Return the names in the set of names that match a pattern of Redis; raises UnavailableError as ``run``."""
        found: set[str] = set()
        cursor = "0"
        while True:
            ((cursor, names),) = self.run([("SSCAN", COUNTERS, cursor, "MATCH", pattern, "COUNT", SCAN)])
            found.update(names)
            if cursor == "0":
                return found

    def keys(self, pattern: str) -> Iterator[str]:
        """Yield all keys that match a pattern of Redis, some more than once.

        A slot of a cluster may move from a primary that was not read yet to one that was. So all are read twice: what
        the first reading missed for this reason is found by the second.

        Raises:
            UnavailableError: not all primaries could be read within ``PATIENCE_SECONDS``.

        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        wanted = 2
        while wanted:
            try:
                samples = self._route.samples()
                for key in samples:
                    yield from self._keys_at(key, pattern)
                wanted = wanted - 1 if len(samples) > 1 else 0
            except (RedisError, OSError, UnavailableError) as error:
                if time.monotonic() > deadline:
                    raise UnavailableError(str(error)) from error
                time.sleep(POLL_SECONDS)
            # The next reading asks again where the slots are.
            self._route.failed(Failure("slots may have moved"))

    def _keys_at(self, key: str, pattern: str) -> Iterator[str]:
        """Yield the keys that match at the primary of ``key``. A reading fails if another connection would go on."""
        link = self._route.queue(key).link
        cursor = "0"
        while True:
            scan: Command = ("SCAN", cursor, "MATCH", pattern, "COUNT", SCAN)
            _, (cursor, keys) = link.run([("EXISTS", key), scan], time.monotonic() + ROUND_SECONDS)
            yield from keys
            if cursor == "0":
                return
