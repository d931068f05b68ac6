"""Topology ``sentinel``: one primary with replicas; Sentinels say which node it is."""

from __future__ import annotations

from redis.exceptions import ConnectionError as RedisConnectionError

from counter.config import Address, Config
from counter.store.attempt import Failure
from counter.store.client import connection_options
from counter.store.link import Link
from counter.store.replicated import Replicated
from counter.store.sentinels import Sentinels
from counter.store.standalone import describe_primary
from counter.store.store import PrimaryQueue
from counter.store.types import Description


class SentinelRoute(Replicated):
    """Everything goes to the primary that the Sentinel with the newest configuration names."""

    def __init__(self, config: Config) -> None:
        """Take the Sentinels' and the nodes' addresses."""
        super().__init__(config)
        self._options = connection_options(config)
        self._sentinels = Sentinels(config)
        self._primary: Address | None = None
        self._epoch = 0
        link = Link(
            self._locate,
            self._options,
            acks=config.required_acks,
            reason_to_refuse=self._reason_to_refuse,
            site=config.site,
        )
        self._queue = PrimaryQueue(link)

    def queue(self, key: str) -> PrimaryQueue:
        """Return the only queue: it moves with the primary."""
        del key
        return self._queue

    def failed(self, failure: Failure) -> None:
        """Do nothing: the link asks the Sentinels whenever it connects anew."""

    def describe(self) -> Description:
        """See ``Store.describe``."""
        return describe_primary(list(self._config.redis_nodes), self._options)

    def _locate(self, until: float) -> Address:
        """Return the primary that the Sentinel with the highest configuration epoch names.

        A Sentinel that was cut off still names the old primary, with the old epoch. Whether the node really is a
        primary is verified by the ROLE at the end of each round.
        """
        views = self._sentinels.views(until)
        if not views:
            reason = "; ".join(self._sentinels.failures) or "no answer in time"
            raise RedisConnectionError(f"no Sentinel names a primary: {reason}")
        best = max(views, key=lambda view: view.epoch)
        self._primary, self._epoch = best.primary, best.epoch
        return best.primary

    def _reason_to_refuse(self, replicas: set[Address], confirmed: int, until: float) -> str:
        """Return why a node that says that it is the primary may be in the middle of being replaced, if it may.

        The Sentinels may replace a primary that still runs. The replica that they promote confirms nothing more. The
        others follow the former primary for up to a second, or as long as they are cut off with it, and what they
        confirm then is lost. So unless all replicas have confirmed, a majority of the Sentinels, asked after that, must
        deny that they replace it. If no majority answers, it may be on the other side, and promote a replica there.
        """
        if not self._config.required_acks:
            return self._alone(replicas)
        primary = self._primary
        if primary is None or confirmed >= max(len(replicas), self._config.replicas_per_primary):
            return ""
        views = self._sentinels.views(until, primary)
        if any(one.replaces == primary or (one.epoch > self._epoch and one.primary != primary) for one in views):
            return f"the Sentinels are replacing {primary}"
        if self._sentinels.deny(primary, views):
            return ""
        return f"not every replica of {primary} confirmed, and no majority of the Sentinels confirms that it leads"
