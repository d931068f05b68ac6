"""Group commit: all operations that wait in this process share one round trip to Redis.

A request that finds no leader becomes the leader. It takes the whole queue, commits it in one round, hands each caller
its own result, and makes one of the requests that arrived during the round the next leader. No request leads for longer
than one round. No request is answered before the replies are in (no write-behind).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from counter.store.attempt import Attempt, Failure

log = logging.getLogger(__name__)

ROUND_SECONDS = 1.0

type Commit = Callable[[Sequence[Attempt], float], None]
"""Settle every operation of a batch by the given monotonic time."""


class GroupCommit:
    """The queue in front of one connection."""

    def __init__(self, commit: Commit) -> None:
        """Take what commits a batch."""
        self._commit = commit
        self._mutex = threading.Lock()
        self._queue: list[Attempt] = []
        self._led = False

    def submit(self, operation: Attempt) -> None:
        """Return when ``operation`` is settled, at its deadline at the latest."""
        with self._mutex:
            self._queue.append(operation)
            lead = not self._led
            self._led = True
        if lead or self._wait(operation):
            self._lead(operation)

    def _wait(self, operation: Attempt) -> bool:
        """Wait to be settled (False) or to become the leader (True)."""
        if operation.wake.acquire(timeout=max(0.0, operation.deadline - time.monotonic())):
            return operation.leads
        with self._mutex:
            if operation in self._queue:
                self._queue.remove(operation)
                operation.failure = Failure("the store was busy until the deadline")
                if operation.leads:  # it became the leader just as it gave up: pass the lead on
                    self._pass_on()
            elif not operation.settled:
                operation.failure = Failure("no reply by the deadline", uncertain=True)
        return False

    def _lead(self, leader: Attempt) -> None:
        with self._mutex:
            batch, self._queue = self._queue, []
        try:
            self._commit(batch, min(time.monotonic() + ROUND_SECONDS, leader.deadline))
        except Exception:
            log.exception("a round of the group commit failed unexpectedly")
        finally:
            with self._mutex:
                self._pass_on()
            for operation in batch:
                if not operation.settled:
                    operation.failure = Failure("the round ended without a reply", uncertain=True)
                if operation is not leader:
                    operation.wake.release()

    def _pass_on(self) -> None:
        """Make the request with the most time left the next leader. The caller holds the mutex."""
        self._led = bool(self._queue)
        if self._queue:
            successor = max(self._queue, key=lambda operation: operation.deadline)
            successor.leads = True
            successor.wake.release()
