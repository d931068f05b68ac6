"""Topology ``sentinel``: one primary with replicas; Sentinels say which node it is."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

from redis.exceptions import ConnectionError as RedisConnectionError

from counter.config import Address, Config
from counter.store.client import client, connection_options
from counter.store.durable import Lane
from counter.store.link import Link
from counter.store.operation import Failure
from counter.store.replicated import Replicated
from counter.store.standalone import describe_primary
from counter.store.types import Description

ASK_SECONDS = 0.5
AGAIN_SECONDS = 0.1
"""How long the Sentinels may take to answer when they are asked again about the same change."""
FAILOVER_SECONDS = 12.0
"""How long a Sentinel works at a failover after its promoted replica has left: twice its failover-timeout."""


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


class SentinelRoute(Replicated):
    """Everything goes to the primary that the best informed Sentinel names."""

    def __init__(self, config: Config) -> None:
        """Take the Sentinels' and the nodes' addresses."""
        super().__init__(config)
        self._options = connection_options(config)
        self._sentinel_options = self._options | {
            "socket_connect_timeout": ASK_SECONDS,
            "socket_timeout": ASK_SECONDS,
        }
        self._pool: ThreadPoolExecutor | None = None
        self._asked: dict[Address, Future[View]] = {}
        self._primary: Address | None = None
        self._replicas: set[Address] = set()
        self._left_at = -math.inf
        self._denied: set[Address] = set()
        link = Link(self._locate, self._options, acks=config.required_acks, suspect=self._suspect)
        self._lane = Lane(link)

    def lane(self, key: str) -> Lane:
        """Return the only lane: it moves with the primary."""
        del key
        return self._lane

    def failed(self, failure: Failure) -> None:
        """Do nothing: the link asks the Sentinels whenever it connects anew."""

    def describe(self) -> Description:
        """See ``Store.describe``."""
        return describe_primary(list(self._config.redis_nodes), self._options)

    def _locate(self, until: float) -> Address:
        """Ask all Sentinels at once and believe the highest configuration epoch.

        A Sentinel that was cut off still names the old primary, with the old epoch. Whether the node really is a
        primary is verified by the ROLE at the end of each round.
        """
        views, failures = self._views(min(ASK_SECONDS, max(0.0, until - time.monotonic())))
        if not views:
            raise RedisConnectionError("no Sentinel names a primary: " + ("; ".join(failures) or "no answer in time"))
        found = max(views).primary
        if found != self._primary:
            self._primary, self._replicas = found, set(self._config.redis_nodes) - {found}
        return found

    def _suspect(self, role: Sequence[Any], until: float) -> str:
        """Return why a node that says that it is the primary may just be replaced, if it may.

        When the Sentinels replace a primary that still runs, the replica that they promote leaves it at once. The
        others follow it for up to a second more, and what they confirm is lost. So when a replica has left, the
        Sentinels are asked after each round until all of them have denied, or for as long as a failover can take.
        """
        now, sentinels = time.monotonic(), self._config.sentinel_nodes
        replicas = {Address(str(host), int(port)) for host, port, _ in role[2]}
        if self._replicas - replicas:
            self._left_at, self._denied = now, set()
        self._replicas = replicas
        if now - self._left_at > FAILOVER_SECONDS or self._denied.issuperset(sentinels):
            return ""
        ends = min(until, now + (ASK_SECONDS if self._left_at == now else AGAIN_SECONDS))
        views: list[View] = []
        for _ in range(2):
            views += self._views(max(0.0, ends - time.monotonic()))[0]
            if all(view.asked >= now for view in views):
                break  # otherwise, an earlier question was still open, and its answer proves nothing
        if any(view.replaces == self._primary for view in views):
            self._left_at = now
            return f"the Sentinels are replacing {self._primary}"
        if views and (named := max(views).primary) != self._primary:
            return f"the Sentinels replaced {self._primary} by {named}"
        denied = {view.sentinel for view in views if view.asked >= now}
        self._denied |= denied
        if len(denied) <= len(sentinels) // 2:
            return f"{self._primary} lost a replica, and no majority of the Sentinels says why"
        return ""

    def _views(self, patience: float) -> tuple[list[View], list[str]]:
        """Return what the Sentinels answer within ``patience`` seconds, and the failures."""
        # The link calls this from one thread at a time. Threads are made here, not in __init__: gunicorn forks later.
        self._pool = self._pool or ThreadPoolExecutor(len(self._config.sentinel_nodes), "sentinel")
        for sentinel in self._config.sentinel_nodes:
            if sentinel not in self._asked:  # a question that hangs (DNS, say) is not asked twice
                self._asked[sentinel] = self._pool.submit(self._ask, sentinel)
        done, _ = wait(self._asked.values(), timeout=patience)
        self._asked = {sentinel: future for sentinel, future in self._asked.items() if future not in done}
        failures = [str(error) for future in done if (error := future.exception())]
        return [future.result() for future in done if not future.exception()], failures

    def _ask(self, sentinel: Address) -> View:
        """Return what one Sentinel believes in.

        Both are asked for: in the middle of a failover MASTER shows the new epoch with the old address still.
        """
        name, asked = self._config.primary_name, time.monotonic()
        with client(sentinel, self._sentinel_options) as connection:
            pipeline = connection.pipeline(transaction=False)
            pipeline.execute_command("SENTINEL", "MASTER", name)
            pipeline.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)
            told, (host, port) = pipeline.execute()
        facts = dict(zip(told[::2], told[1::2], strict=True))
        replaces = Address(facts["ip"], int(facts["port"])) if "failover_in_progress" in facts["flags"] else None
        return View(int(facts["config-epoch"]), Address(host, int(port)), sentinel, asked, replaces)
