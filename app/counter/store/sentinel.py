"""Topology ``sentinel``: one primary with replicas; Sentinels say which node it is."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor, wait

from redis.exceptions import ConnectionError as RedisConnectionError

from counter.config import Address, Config, WriteConcern
from counter.store.client import client, connection_options
from counter.store.durable import Lane
from counter.store.link import Link
from counter.store.operation import Failure
from counter.store.standalone import describe_primary
from counter.store.types import Description

ASK_SECONDS = 0.5


class SentinelRoute:
    """Everything goes to the primary that the best informed Sentinel names."""

    def __init__(self, config: Config) -> None:
        """Take the Sentinels' and the nodes' addresses."""
        self._config = config
        self._options = connection_options(config)
        self._sentinel_options = self._options | {
            "socket_connect_timeout": ASK_SECONDS,
            "socket_timeout": ASK_SECONDS,
        }
        self._pool: ThreadPoolExecutor | None = None
        self._asked: dict[Address, Future[tuple[int, Address]]] = {}
        link = Link(self._locate, self._options, acks=config.required_acks, log=config.history_log)
        self._lane = Lane(link, limit=config.queue_limit)

    @property
    def promise(self) -> str:
        """See ``Store.promise``."""
        return replicated_promise(self._config)

    @property
    def warning(self) -> str | None:
        """See ``Store.warning``."""
        return replicated_warning(self._config)

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


def replicated_promise(config: Config) -> str:
    """Say what an acknowledged increment survives where a primary has replicas."""
    acks, replicas = config.required_acks, config.replicas_per_primary
    if acks == 0:
        return "An acknowledged increment is on the disk of the primary only: a failover may lose it."
    survives = "the loss of any one node" if acks < replicas else "the loss of all nodes but one"
    if replicas == 1:
        survives = "the loss of either node"
    copies = f"{acks} of {replicas} replicas" if acks < replicas else f"all {replicas} replicas"
    return f"An acknowledged increment is on the disk of the primary and of {copies}: it survives {survives}."


def replicated_warning(config: Config) -> str | None:
    """Warn of a write concern that a failover does not respect."""
    if config.write_concern is WriteConcern.NONE:
        return "Write concern none: acknowledged increments may be lost when the primary fails."
    return None
