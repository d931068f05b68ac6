"""What the Sentinels say about the primary. All are asked at once, since some may be gone or cut off."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import NamedTuple

from counter.config import Address, Config
from counter.store.client import client, connection_options

ASK_SECONDS = 0.5
"""How long a Sentinel may take to answer."""
SILENT_SECONDS = 0.1
"""The same for one that did not answer in time when it was last asked."""


class View(NamedTuple):
    """What one Sentinel believes in; the greatest is that of the best informed one."""

    epoch: int
    """Grows with each failover."""
    primary: Address
    sentinel: Address
    asked: float
    """Monotonic time of the question."""
    replaces: Address | None
    """The primary that it is replacing."""


class Sentinels:
    """All Sentinels of a stack. Used by one thread at a time."""

    def __init__(self, config: Config) -> None:
        """Take their addresses; nothing connects before the first question."""
        self.addresses = config.sentinel_nodes
        self._name = config.primary_name
        self._options = connection_options(config) | {
            "socket_connect_timeout": ASK_SECONDS,
            "socket_timeout": ASK_SECONDS,
        }
        self._pool: ThreadPoolExecutor | None = None
        self._asked: dict[Address, Future[View]] = {}
        self._silent: set[Address] = set()

    def views(self, until: float) -> tuple[list[View], list[str]]:
        """Return what the Sentinels answer, until the given monotonic time at most, and the failures."""
        # Threads are made here, not in __init__: gunicorn forks later.
        self._pool = self._pool or ThreadPoolExecutor(len(self.addresses), "sentinel")
        now = time.monotonic()
        for sentinel in self.addresses:
            if sentinel not in self._asked:  # a question that hangs (DNS, say) is not asked twice
                self._asked[sentinel] = self._pool.submit(self._ask, sentinel)
        wait(self._asked.values(), min(SILENT_SECONDS, max(0.0, until - now)))
        awaited = [future for sentinel, future in self._asked.items() if sentinel not in self._silent]
        wait(awaited, max(0.0, min(until, now + ASK_SECONDS) - time.monotonic()))
        done = {sentinel: future for sentinel, future in self._asked.items() if future.done()}
        self._asked = {sentinel: future for sentinel, future in self._asked.items() if sentinel not in done}
        failures = {sentinel: error for sentinel, future in done.items() if (error := future.exception())}
        self._silent = set(self._asked) | set(failures)
        views = [future.result() for sentinel, future in done.items() if sentinel not in failures]
        return views, [str(error) for error in failures.values()]

    def _ask(self, sentinel: Address) -> View:
        """Return what one Sentinel believes in.

        Both are asked for: in the middle of a failover MASTER shows the new epoch with the old address still.
        """
        asked = time.monotonic()
        with client(sentinel, self._options) as connection:
            pipeline = connection.pipeline(transaction=False)
            pipeline.execute_command("SENTINEL", "MASTER", self._name)
            pipeline.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)
            told, (host, port) = pipeline.execute()
        facts = dict(zip(told[::2], told[1::2], strict=True))
        replaces = Address(facts["ip"], int(facts["port"])) if "failover_in_progress" in facts["flags"] else None
        return View(int(facts["config-epoch"]), Address(host, int(port)), sentinel, asked, replaces)
