"""What the Sentinels say about the primary. All are asked at once, since some may be gone or cut off."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

from redis.exceptions import RedisError

from counter.config import Address, Config
from counter.store.client import client, connection_options

PRIMARY_NAME = "counter"
"""As the Sentinels know the primary."""
ASK_SECONDS = 0.5
"""How long a Sentinel may take to answer."""
REST_SECONDS = 0.05
"""How long the others may take once a majority has answered: one that is gone must not delay each round."""
NOBODY = "*"
"""In place of the id of a Sentinel that was voted for before the voter restarted."""

type Vote = tuple[str, int]
"""The id of a Sentinel that was voted for, and the epoch."""


class View(NamedTuple):
    """The state that one Sentinel reports."""

    epoch: int
    """Of its configuration: the greatest one is the newest."""
    primary: Address
    replaces: Address | None
    """The primary that it is replacing, if it is."""
    vote: Vote
    """For the last Sentinel that wanted to replace the primary."""
    identity: str
    """Its own id."""


def denials(views: Sequence[View], primary: Address, lost: frozenset[Vote] = frozenset()) -> int:
    """Return how many Sentinels deny that the primary is being replaced. ``lost``: votes for Sentinels that are gone.

    Only a Sentinel that a majority has voted for replaces a primary, in the epoch of the vote. So a majority that has
    voted for none since the last configuration proves that none has begun. The vote for a Sentinel that gave up stays;
    that Sentinel itself can say so.
    """
    serving = [view for view in views if view.primary == primary and view.replaces != primary]
    idle = {view.identity for view in serving} | {NOBODY}

    def denies(view: View) -> bool:
        leader, epoch = view.vote
        return epoch <= view.epoch or leader in idle or view.vote in lost

    return len({view.identity for view in serving if denies(view)})


class Sentinels:
    """All Sentinels of a stack. Used by one thread at a time."""

    def __init__(self, config: Config) -> None:
        """Take their addresses; nothing connects before the first question."""
        limits = {"socket_connect_timeout": ASK_SECONDS, "socket_timeout": ASK_SECONDS}
        options = connection_options(config) | limits
        self._clients = {address: client(address, options) for address in config.sentinel_nodes}
        self._pool: ThreadPoolExecutor | None = None
        self._lost: frozenset[Vote] = frozenset()
        """Votes for Sentinels that did not answer."""
        self._asked: dict[Address, Future[tuple[float, View | Exception]]] = {}
        self._majority = len(self._clients) // 2 + 1
        self.failures: list[str] = []
        """Why Sentinels did not answer the last question."""

    def deny(self, primary: Address, views: Sequence[View]) -> bool:
        """Tell whether a majority denies that the primary is being replaced."""
        return denials(views, primary, self._lost) >= self._majority

    def views(self, until: float, primary: Address | None = None) -> list[View]:
        """Ask all; return what they answer by the given monotonic time.

        Without ``primary``, the views have neither votes nor ids.
        """
        # Threads are made here, not in __init__: gunicorn forks later.
        self._pool = self._pool or ThreadPoolExecutor(len(self._clients), "sentinel")
        began = time.monotonic()
        until = min(until, began + ASK_SECONDS)
        views: list[View] = []
        self.failures = []
        left = set(self._clients)
        while left:
            for sentinel in left - set(self._asked):
                self._asked[sentinel] = self._pool.submit(self._ask, sentinel, primary)
            done, _ = wait([self._asked[one] for one in left], max(0.0, until - time.monotonic()), FIRST_COMPLETED)
            if not done:
                break
            for sentinel in [one for one in left if self._asked[one] in done]:
                asked, answer = self._asked.pop(sentinel).result()
                unasked = primary is not None and isinstance(answer, View) and not answer.identity
                if asked < began or unasked:
                    continue  # nobody waited for it before, and it says nothing about now or about votes: ask again
                left.remove(sentinel)
                if isinstance(answer, Exception):
                    self.failures.append(str(answer))
                    continue
                views.append(answer)
            if len(views) >= self._majority and not _unanswered(views) - self._lost:
                until = min(until, time.monotonic() + REST_SECONDS)
        if not left or time.monotonic() - began >= ASK_SECONDS:
            self._lost |= _unanswered(views)
        return views

    def _ask(self, sentinel: Address, primary: Address | None) -> tuple[float, View | Exception]:
        """Return the monotonic time of the question, and the state of one Sentinel, or why it does not answer.

        In the middle of a failover MASTER shows the new epoch with the old address still, so both are asked for.
        IS-MASTER-DOWN-BY-ADDR with the epoch 0 returns the last vote; with a newer one, it would ask for another.
        """
        asked = time.monotonic()
        pipeline: Any = self._clients[sentinel].pipeline(transaction=False)
        pipeline.execute_command("SENTINEL", "MASTER", PRIMARY_NAME)
        pipeline.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", PRIMARY_NAME)
        if primary:
            pipeline.execute_command("SENTINEL", "MYID")
            pipeline.execute_command("SENTINEL", "IS-MASTER-DOWN-BY-ADDR", primary.host, primary.port, 0, "nobody")
        try:
            flat, (host, port), *about = pipeline.execute()
        except (RedisError, OSError) as error:
            return asked, error
        facts = dict(zip(flat[::2], flat[1::2], strict=True))
        replaces = Address(facts["ip"], int(facts["port"])) if "failover_in_progress" in facts["flags"] else None
        identity, (_, leader, epoch) = about or ("", (0, NOBODY, 0))
        return asked, View(int(facts["config-epoch"]), Address(host, int(port)), replaces, (leader, epoch), identity)


def _unanswered(views: Sequence[View]) -> frozenset[Vote]:
    """Return the votes since the last configuration for Sentinels whose own view is missing."""
    votes = {view.vote for view in views if view.vote[1] > view.epoch}
    known = {view.identity for view in views} | {NOBODY}
    return frozenset(vote for vote in votes if vote[0] not in known)
