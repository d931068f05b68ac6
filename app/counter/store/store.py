"""The counters, in every topology: attempts until a deadline, through a group commit, with one operation id."""

from __future__ import annotations

import json
import logging
import math
import random
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, Self

from counter.config import Config
from counter.store.attempt import Attempt, Failure
from counter.store.group_commit import GroupCommit
from counter.store.ids import IdRetention, claim_place, is_ours, new_id
from counter.store.keys import BACKUP_KEY, SITE_KEY, value_key
from counter.store.link import ATTEMPT_SECONDS, Link
from counter.store.operations import Admission, Claim, Creation, Increment, Note, Probe, Read, Recognition
from counter.store.site import objection
from counter.store.transition import HASHES_KEY, SECRETS_KEY, FormerClaim, Transition
from counter.store.types import (
    Counted,
    Description,
    IndeterminateError,
    RefusedError,
    ReusedKeyError,
    UnavailableError,
    UnsupportedKeyError,
)

log = logging.getLogger(__name__)

PROBE_SECONDS = 1.0
BACKOFF_SECONDS = (0.02, 0.15)
CHANGE_SECONDS = 2.0
"""For how long all requests wait when Redis stops confirming. A planned change of the primary takes less."""
DESCRIBED_SECONDS = 1.0
"""How old a description may be."""
DESCRIBED_AT_MOST_SECONDS = 10.0
"""How old it may be while others wait for a new one."""
NO_NEW_KEYS = "Redis is nearly full, and takes no new Idempotency-Keys"


class PrimaryQueue:
    """The way to one primary: a queue and the link behind it."""

    def __init__(self, link: Link) -> None:
        """Take the link."""
        self.link = link
        self.group = GroupCommit(link.commit)


class Waiter:
    """Decides whether a request may wait for Redis to come back; a context.

    While Redis is in trouble for longer than a planned change of the primary takes, at most half of the threads wait.
    The other half goes on answering health checks, and errors at once.
    """

    def __init__(self, permits: threading.BoundedSemaphore) -> None:
        """Take the permits to wait, which all requests share."""
        self._permits = permits
        self._has_permit = False

    def __enter__(self) -> Self:
        """Begin without a permit."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Give the permit back."""
        if self._has_permit:
            self._permits.release()

    def may_wait(self) -> bool:
        """Take a permit if one is free; the request then has it until it ends."""
        self._has_permit = self._has_permit or self._permits.acquire(blocking=False)
        return self._has_permit

    def refuse_unless_it_may_wait(self, troubled: float) -> None:
        """Take for how many seconds Redis has been in trouble, negative if it is not; raises UnavailableError."""
        if troubled >= 0 and not self.may_wait() and troubled > CHANGE_SECONDS:
            raise UnavailableError("Redis is not confirming, and half of the threads already wait for it")


class Route(Protocol):
    """What a topology has to say: which primary serves a key, what there is, and what it promises."""

    @property
    def promise(self) -> str:
        """See ``Store.promise``."""

    @property
    def warning(self) -> str | None:
        """See ``Store.warning``."""

    @property
    def recognises_ids(self) -> bool:
        """See ``Store.recognises_ids``."""

    def queue(self, key: str) -> PrimaryQueue:
        """Return the queue to the primary of ``key``; raises UnavailableError where none is known."""

    def samples(self) -> list[str]:
        """Return one key for each primary; raises UnavailableError unless all are known."""

    def failed(self, failure: Failure) -> None:
        """Learn that an attempt failed; what is known about primaries may be out of date."""

    def describe(self) -> Description:
        """See ``Store.describe``."""


class Store:
    """The counters. Every method but ``describe`` ends within the configured deadline."""

    def __init__(self, route: Route, config: Config) -> None:
        """Nothing connects before the first operation."""
        self._route = route
        self._deadline = config.deadline
        self._window = config.key_seconds
        self._retention = IdRetention(int(config.id_lifetime * 1000), logged=config.history_log)
        self._in_former_keys = replace(self._retention, in_former_keys=True)
        self._without_hashes = Transition(HASHES_KEY, self._perform, self._later, config.id_lifetime)
        self._without_secrets = Transition(SECRETS_KEY, self._perform, self._later, config.id_lifetime)
        self._permits = threading.BoundedSemaphore(max(1, config.threads // 2))
        self._site = config.site
        self._most, self._per_minute = config.max_counters, config.new_counters_per_minute
        self._making = threading.Lock()
        self._background: ThreadPoolExecutor | None = None
        self._describing = threading.Lock()
        self._lookers = threading.BoundedSemaphore(max(1, config.threads // 4))
        self._described: tuple[float, Description] | None = None

    @property
    def promise(self) -> str:
        """A sentence for people: what an acknowledged increment survives."""
        return self._route.promise

    @property
    def warning(self) -> str | None:
        """A sentence shown with emphasis where the arrangement is not safe."""
        return self._route.warning

    @property
    def recognises_ids(self) -> bool:
        """Whether every node that may be asked recognises an id that was counted. If not, keys are refused."""
        return self._route.recognises_ids

    def increment(self, name: str, key: str | None = None) -> Counted:
        """Add one to ``name`` and return the new value once it is as durable as promised.

        The same ``key`` (the client's Idempotency-Key) counts once and always gets the same answer.

        Raises:
            UnavailableError: not counted.
            IndeterminateError: counted or not; ``operation_id`` of the error settles it when repeated as ``key`` within
                its ``seconds``.
            ReusedKeyError: ``key`` was used for another counter.
            UnsupportedKeyError: this store takes no keys (see ``recognises_ids``).
            RefusedError: the counter or the key is new, and there is no room for it.

        """
        deadline = time.monotonic() + self._deadline
        if key is not None and not self.recognises_ids:
            raise UnsupportedKeyError("the nodes share nothing", key)
        retention = self._in_former_keys if self.recognises_ids and self._without_hashes.lasts() else self._retention
        if key is None:
            former = self.recognises_ids and self._without_secrets.lasts()
            key = new_id(name, former=former) if not former or self._without_secrets.known else secrets.token_hex(16)
        elif not is_ours(key):
            self._claim(name, key, retention, deadline)
        elif self._nearly_full(value_key(name)):
            # Anybody can make ids that look like ours, and one of a series of its own takes more memory than a key.
            known = self._perform(partial(Recognition, name, key, deadline), key)
            if not known.value:
                raise RefusedError(NO_NEW_KEYS)
            return Counted(known.value, known.node)
        done = self._perform(lambda: Increment(name, key, retention, deadline, creates=False), key)
        if not done.value:
            self._admit(name, key, deadline)
            done = self._perform(lambda: Increment(name, key, retention, deadline), key)
        return Counted(done.value, done.node)

    def _claim(self, name: str, key: str, retention: IdRetention, deadline: float) -> None:
        attempts: list[Callable[[], Attempt]] = [partial(Claim, name, key, retention, deadline)]
        if retention.in_former_keys:
            attempts.insert(0, partial(FormerClaim, name, key, retention, deadline))
        elif self._nearly_full(claim_place(key).hash) or self._nearly_full(value_key(name)):
            # One that was counted needs no more memory, and must be recognised.
            attempts = [partial(Claim, name, key, retention, deadline, stores=False)]
        for attempt in attempts:
            owner = self._perform(attempt, key).value
            if not owner:
                raise RefusedError(NO_NEW_KEYS)
            if owner != name:
                raise ReusedKeyError("the key was used for another counter", key)

    def _admit(self, name: str, key: str, deadline: float) -> None:
        """Return if a new counter may be made, which adds it to the set of names.

        Raises:
            UnavailableError: the data is not that of this stack any more.
            RefusedError: there is no room for it.

        """
        if self.recognises_ids:
            # Until they know, the set must not have a name that this version added.
            for transition in (self._without_hashes, self._without_secrets):
                transition.ask()
        if self._nearly_full(value_key(name)):
            raise RefusedError("Redis is nearly full, and takes no new counters")
        if self._site:
            # Whoever empties Redis may leave its connections open (FLUSHALL), and all counters would begin at zero.
            mark = self._perform(lambda: Note(SITE_KEY, deadline), key)
            if reason := objection(mark.value, self._site):
                raise UnavailableError(f"{mark.node} holds {reason}", key)
        refused = self._perform(partial(Admission, name, self._most, self._per_minute, deadline), key).value
        if refused < 0:
            raise RefusedError(f"there are {self._most} counters, and no more are allowed", "too-many-counters")
        if refused:
            seconds = math.ceil(refused / 1000)
            reason = f"{self._per_minute} counters are new in this minute, and no more are allowed"
            raise RefusedError(reason, "too-many-new-counters", seconds)

    def _nearly_full(self, key: str) -> bool:
        try:
            return self._route.queue(key).link.nearly_full
        except UnavailableError:
            return False

    def read(self, name: str) -> Counted:
        """Return the value of ``name`` (0 for a counter never counted).

        Raises:
            UnavailableError: no primary answered, or not enough replicas confirmed that it still is one.

        """
        deadline = time.monotonic() + self._deadline
        done = self._perform(lambda: Read(name, deadline))
        return Counted(done.value, done.node)

    def find(self, name: str) -> Counted | None:
        """Return the value of ``name``, None if there is no such counter; raises UnavailableError as ``read`` does."""
        deadline = time.monotonic() + self._deadline
        done = self._perform(lambda: Note(value_key(name), deadline))
        return Counted(int(done.value), done.node) if done.value else None

    def create(self, name: str) -> bool:
        """Make the counter ``name`` with the value 0; return whether there was none.

        Raises:
            UnavailableError: it is not known whether there is one now. To repeat this does no harm.
            RefusedError: there is no room for it.

        """
        if self.find(name):
            return False
        deadline = time.monotonic() + self._deadline
        self._admit(name, "", deadline)
        return bool(self._perform(lambda: Creation(name, deadline)).value)

    def describe(self) -> Description:
        """Return what is reachable, as it was at most ``DESCRIBED_SECONDS`` ago.

        Each node is asked, so callers that arrive while this happens share the answer. At most a quarter of the threads
        wait for it; the other callers get what is known.

        Raises:
            UnavailableError: too many wait already, and nothing is known.

        """
        if not self._lookers.acquire(blocking=False):
            if self._described and time.monotonic() - self._described[0] < DESCRIBED_AT_MOST_SECONDS:
                return self._described[1]
            raise UnavailableError("too many ask for the state of Redis at a time")
        try:
            with self._describing:
                if self._described is None or time.monotonic() - self._described[0] >= DESCRIBED_SECONDS:
                    self._described = time.monotonic(), self._route.describe()
                return self._described[1]
        finally:
            self._lookers.release()

    def newest_backup(self) -> dict[str, Any]:
        """Return the newest proved backup as the program backup noted it; empty if there is none.

        Raises:
            UnavailableError: as for ``read``.

        """
        # A scrape of the metrics must not wait for Redis as long as an increment does.
        deadline = time.monotonic() + min(PROBE_SECONDS, self._deadline)
        note = self._perform(lambda: Note(BACKUP_KEY, deadline)).value if self.recognises_ids else ""
        found = dict(json.loads(note)) if note else {}
        return found if "id" in found else {}

    def ready(self) -> None:
        """Check that Redis accepts a write now, with a key that expires.

        Raises:
            UnavailableError: it would not.

        """
        probe = Probe(time.monotonic() + min(PROBE_SECONDS, self._deadline))
        self._route.queue(probe.key).group.submit(probe)
        if probe.failure:
            self._route.failed(probe.failure)
            raise UnavailableError(probe.failure.reason)

    def _perform[O: Attempt](self, attempt: Callable[[], O], identifier: str = "") -> O:
        """Attempt one operation until it is settled for good or its deadline is reached."""
        uncertain = False
        queue: PrimaryQueue | None = None
        with Waiter(self._permits) as waiter:
            while True:
                operation = attempt()
                try:
                    if queue is None or self.recognises_ids:
                        queue = self._route.queue(operation.key)
                    waiter.refuse_unless_it_may_wait(queue.link.troubled_seconds)
                    queue.group.submit(operation)
                except UnavailableError as error:
                    operation.failure = Failure(str(error))
                if (failure := operation.failure) is None:
                    return operation
                self._route.failed(failure)
                uncertain = uncertain or (failure.uncertain and isinstance(operation, Increment))
                short_outage = queue is not None and queue.link.troubled_seconds <= CHANGE_SECONDS and not failure.full
                pause = random.uniform(*BACKOFF_SECONDS)  # noqa: S311  # spreading retries, not a secret
                late = time.monotonic() + pause + ATTEMPT_SECONDS >= operation.deadline
                if late or failure.permanent or not (waiter.may_wait() or short_outage):
                    break
                if not uncertain:
                    queue = None  # otherwise each repeat must go to the same node, the only one that may know the id
                time.sleep(pause)
        if uncertain:
            raise IndeterminateError(failure.reason, identifier, self._window)
        raise UnavailableError(failure.reason, identifier)

    def _later(self, function: Callable[[], None]) -> None:
        """Run a function in the background, after those that were added earlier."""
        # The thread is made here, not in __init__: gunicorn forks later. Two requests may need it at the same time.
        with self._making:
            self._background = self._background or ThreadPoolExecutor(1, "background")
        self._background.submit(_logged, function)


def _logged(function: Callable[[], None]) -> None:
    """Run a function in the background, where nobody sees what it raises."""
    try:
        function()
    except Exception:
        log.exception("work in the background failed")
