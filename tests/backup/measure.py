#!/usr/bin/env python3
"""How long backups and restores take, how much memory they need, how much slower clients count, and how logs grow.

``tests/backup/measure.py [COUNTERS...]``, by default for 100 and 100,000 counters, each in a standalone Redis and in a
set with Sentinels, of real processes on this machine. Compare the figures of one run only. Each counter has a value and
16 ids of increments. ``memory``: the most that the program and the programs it runs took together, in MB. Increments
per second are through the store, by 8 threads: before a backup, during it, and with a log of changes that goes to the
repository every 10 seconds. ``bytes``: by which the repository grows for each increment meanwhile. ``log``: to restore
the last moment.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, partial
from itertools import batched
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), *(str(ROOT / name) for name in ("app", "tests", "tests/app", "tests/backup"))]

from sites import Site, session_of  # noqa: E402
from support.configurations import rendered  # noqa: E402
from support.programs import Program  # noqa: E402
from support.waiting import wait_until  # noqa: E402
from topologies import Node  # noqa: E402

THREADS = 8
BEFORE_SECONDS = 10.0
LOG_SECONDS = 10
LOGGED_SECONDS = 60.0
IDS = 16


class Clients:
    """Threads that count, and how often they have done so."""

    def __init__(self, site: Site) -> None:
        """Take what they count on."""
        self._store, self._ended, self._counted = site.store, threading.Event(), [0] * THREADS
        self._threads = [threading.Thread(target=self._count, args=(number,)) for number in range(THREADS)]

    def _count(self, number: int) -> None:
        while not self._ended.is_set():
            self._store.increment(f"measured-{number}")
            self._counted[number] += 1

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._ended.set()
            for thread in self._threads:
                thread.join()

    def rate(self, during: Callable[[], Any]) -> float:
        """Return the increments per second while a function runs."""
        began, before = time.monotonic(), sum(self._counted)
        during()
        return (sum(self._counted) - before) / (time.monotonic() - began)


def memory(process: Program) -> float:
    """Return how much memory the program and those that it runs take, in MB."""
    pages = 0
    for path in session_of(process):
        with suppress(OSError):
            pages += int((path / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1e6


def timed(site: Site, *arguments: str) -> tuple[float, float]:
    """Run the program; return its seconds and the most memory."""
    began, most = time.monotonic(), 0.0
    with site.start(*arguments) as process:
        while process.returncode is None:
            most = max(most, memory(process))
            time.sleep(0.05)
        if process.returncode:
            raise SystemExit("".join(process.said))
        return time.monotonic() - began, most


def size(site: Site) -> int:
    """Return the size of the repository in bytes."""
    return sum(path.stat().st_size for path in Path(site.plan["repository"]).rglob("*") if path.is_file())


def logged(site: Site, clients: Clients) -> tuple[float, float]:
    """Record a log; return the increments per second meanwhile, and the bytes that it takes for each."""
    site.plan["log_seconds"] = LOG_SECONDS
    with site.start("serve") as service:
        wait_until("the log to begin", lambda: site.run("list")["logs"])
        before = size(site)
        rate = clients.rate(lambda: time.sleep(LOGGED_SECONDS))
        service.send_signal(signal.SIGTERM)
    return rate, (size(site) - before) / (rate * LOGGED_SECONDS)


def fill(site: Site, counters: int) -> None:
    """Give a node that many counters."""
    node = site.nodes[0].client()
    for names in batched([f"c{number}" for number in range(counters)], 500):
        pipeline = node.pipeline(transaction=False)
        pipeline.sadd("counters", *names)
        for name in names:
            key = f"{{{name}}}:ids:0123456789abcdef:0"
            pipeline.set(f"{{{name}}}:value", IDS)
            pipeline.hset(key, mapping={str(number): number + 1 for number in range(IDS)})
            pipeline.pexpire(key, 86_400_000)
        pipeline.execute()


def measure(kind: str, counters: int, directory: Path) -> None:
    """Print one line."""
    with ExitStack() as stack:
        repository = directory / f"{kind}-{counters}-repository"
        site = Site(directory / f"{kind}-{counters}", kind, stack, repository=str(repository))
        fill(site, counters)
        clients, found = Clients(site), []
        with clients.running():
            before = clients.rate(lambda: time.sleep(BEFORE_SECONDS))
            during = clients.rate(lambda: found.append(timed(site, "run")))
            with_log, growth = logged(site, clients)
        (run,), restore, log = found, timed(site, "restore", "latest"), timed(site, "restore", "log")
        times = "".join(f"{seconds:9.1f} s{memory:7.0f}" for seconds, memory in (run, restore, log))
        rates = f"{before:9.0f}/s{during / before:8.2f}{with_log / before:6.2f}"
        print(f"{kind:11}{counters:9,}{times}{rates}{growth:7.0f}", flush=True)


def main() -> None:
    """Measure all."""
    print("topology   counters      backup memory    restore memory        log memory     before  during   log  bytes")
    with tempfile.TemporaryDirectory() as directory:
        Node.configuration = cache(partial(rendered, Path(directory)))
        for counters in [int(argument) for argument in sys.argv[1:]] or [100, 100_000]:
            for kind in ("standalone", "sentinel"):
                measure(kind, counters, Path(directory))


if __name__ == "__main__":
    main()
