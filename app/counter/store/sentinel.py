"""Topology ``sentinel``: one primary with replicas; Sentinels say which node it is."""

from __future__ import annotations

import math
import time

from redis.exceptions import ConnectionError as RedisConnectionError

from counter.config import Address, Config
from counter.store.client import connection_options
from counter.store.durable import Lane
from counter.store.link import Link
from counter.store.operation import Failure
from counter.store.replicated import Replicated
from counter.store.sentinels import ASK_SECONDS, Sentinels, View
from counter.store.standalone import describe_primary
from counter.store.types import Description

FAILOVER_SECONDS = 12.0
"""How long a Sentinel works at a failover after its promoted replica has left: twice its failover-timeout."""


class SentinelRoute(Replicated):
    """Everything goes to the primary that the best informed Sentinel names."""

    def __init__(self, config: Config) -> None:
        """Take the Sentinels' and the nodes' addresses."""
        super().__init__(config)
        self._options = connection_options(config)
        self._sentinels = Sentinels(config)
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
        """Believe the Sentinel with the highest configuration epoch.

        A Sentinel that was cut off still names the old primary, with the old epoch. Whether the node really is a
        primary is verified by the ROLE at the end of each round.
        """
        views, failures = self._sentinels.views(until)
        if not views:
            raise RedisConnectionError("no Sentinel names a primary: " + ("; ".join(failures) or "no answer in time"))
        found = max(views).primary
        if found != self._primary:
            self._primary, self._replicas = found, set(self._config.redis_nodes) - {found}
        return found

    def _suspect(self, replicas: set[Address], confirmed: int, until: float) -> str:
        """Return why a node that says that it is the primary may just be replaced, if it may.

        The Sentinels may replace a primary that still runs. The replica that they promote leaves it at once and
        confirms nothing more. The others follow it for up to a second, and what they confirm in that second is lost.
        So the Sentinels are asked after a round that some replica has not confirmed; and when a replica has left,
        after each round until all Sentinels have denied, or for as long as a failover can take.
        """
        now = time.monotonic()
        if self._replicas - replicas:
            self._left_at, self._denied = now, set()
        self._replicas = replicas
        left = now - self._left_at <= FAILOVER_SECONDS and not self._denied.issuperset(self._sentinels.addresses)
        if confirmed >= len(replicas) and not left:
            return ""
        views: list[View] = []
        for _ in range(2):
            views += self._sentinels.views(min(until, now + ASK_SECONDS))[0]
            if all(view.asked >= now for view in views):
                break  # otherwise, an earlier question was still open, and its answer proves nothing
        if any(view.replaces == self._primary for view in views):
            self._left_at = now
            return f"the Sentinels are replacing {self._primary}"
        if views and (named := max(views).primary) != self._primary:
            return f"the Sentinels replaced {self._primary} by {named}"
        denied = {view.sentinel for view in views if view.asked >= now}
        self._denied |= denied
        if len(denied) <= len(self._sentinels.addresses) // 2:
            return f"a replica of {self._primary} is missing, and no majority of the Sentinels says why"
        return ""
