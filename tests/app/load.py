"""Concurrent increments against a store, and whether its promises were kept."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Self

from support.processes import RedisServer
from support.waiting import wait_until

from counter.store.store import Store
from counter.store.types import IndeterminateError, UnavailableError


def is_ready(store: Store) -> bool:
    """Tell whether the store takes increments."""
    try:
        store.ready()
    except UnavailableError:
        return False
    return True


def counts(store: Store, name: str, key: str) -> bool:
    """Tell whether the store increments a counter now; with a key, so that it is counted once."""
    with suppress(IndeterminateError, UnavailableError):
        store.increment(name, key)
        return True
    return False


TICK_SECONDS = 0.005


class Load:
    """Concurrent increments of one counter; remembers what was promised.

    ``tick``: how long a client waits between two increments; the processors are for what is tested.
    ``keys``: each with an Idempotency-Key of its own, which in a cluster may live on another node than the counter.
    """

    def __init__(
        self, store: Store, name: str, threads: int = 8, tick: float = TICK_SECONDS, *, keys: bool = True
    ) -> None:
        self.store, self.name, self.keys = store, name, keys
        self._tick = tick
        self.acknowledged: dict[str, int] = {}
        self.unknown: set[str] = set()
        self.refused = 0
        self.longest_gap = 0.0
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(threads)
        self._threads = threads

    def __enter__(self) -> Self:
        self._last = time.monotonic()
        self._running = [self._pool.submit(self._run, number) for number in range(self._threads)]
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._running:
            thread.result(30)

    def _run(self, number: int) -> None:
        count = 0
        while not self._stop.wait(self._tick):
            count += 1
            key = f"{self.name}-{number}-{count}"
            try:
                self.acknowledged[key] = self.store.increment(self.name, key if self.keys else None).value
                now = time.monotonic()
                self.longest_gap = max(self.longest_gap, now - self._last)
                self._last = now
            except IndeterminateError:
                self.unknown.add(key)
            except UnavailableError:
                self.refused += 1

    def more(self, count: int = 100) -> None:
        """Wait for so many more acknowledgements."""
        wanted = len(self.acknowledged) + count
        wait_until(f"{count} more increments", lambda: len(self.acknowledged) >= wanted)

    def check(self, primary: RedisServer) -> None:
        """No acknowledged increment is lost or counted twice; those in doubt count once at most."""
        final = int(primary.client().get(f"{{{self.name}}}:value") or 0)
        counted = primary.client().smembers(f"{{{self.name}}}:log")
        values = list(self.acknowledged.values())
        assert len(set(values)) == len(values)
        assert len(values) <= final <= len(values) + len(self.unknown)
        assert len(counted) == final
        if not self.keys:
            return
        assert set(self.acknowledged) <= counted <= set(self.acknowledged) | self.unknown
        for key in random.sample(sorted(self.acknowledged), 20):
            assert self.store.increment(self.name, key).value == self.acknowledged[key]
