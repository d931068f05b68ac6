"""Topology ``sentinel``: one primary with replicas; Sentinels say which node it is."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor, wait

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
        self._asked: dict[Address, Future[tuple[int, Address]]] = {}
        link = Link(self._locate, self._options, acks=config.required_acks)
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
        # The link calls this from one thread at a time. Threads are made here, not in __init__: gunicorn forks later.
        self._pool = self._pool or ThreadPoolExecutor(len(self._config.sentinel_nodes), "sentinel")
        for sentinel in self._config.sentinel_nodes:
            if sentinel not in self._asked:  # a question that hangs (DNS, say) is not asked twice
                self._asked[sentinel] = self._pool.submit(self._ask, sentinel)
        patience = min(ASK_SECONDS, max(0.0, until - time.monotonic()))
        done, _ = wait(self._asked.values(), timeout=patience)
        self._asked = {sentinel: future for sentinel, future in self._asked.items() if future not in done}
        failures = [str(error) for future in done if (error := future.exception())]
        answers = [future.result() for future in done if not future.exception()]
        if not answers:
            raise RedisConnectionError("no Sentinel names a primary: " + ("; ".join(failures) or "no answer in time"))
        return max(answers)[1]

    def _ask(self, sentinel: Address) -> tuple[int, Address]:
        """Return the epoch and the address that one Sentinel believes in.

        Both are asked for: in the middle of a failover MASTER shows the new epoch with the old address still.
        """
        name = self._config.primary_name
        with client(sentinel, self._sentinel_options) as connection:
            pipeline = connection.pipeline(transaction=False)
            pipeline.execute_command("SENTINEL", "MASTER", name)
            pipeline.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)
            facts, (host, port) = pipeline.execute()
        return int(facts[facts.index("config-epoch") + 1]), Address(host, int(port))
