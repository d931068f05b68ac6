"""Topologies with one Redis endpoint: ``standalone`` (ours) and ``external`` (somebody else's)."""

from __future__ import annotations

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from counter.config import Config
from counter.store.client import COUNTERS, connect, connect_url, counter_values, node_state, value_key
from counter.store.types import Counted, Description, IndeterminateError, UnavailableError


class SingleStore:
    """One Redis node."""

    promise = "An acknowledged increment is on the node's disk; it survives a crash, not the loss of the disk."
    warning: str | None = None

    def __init__(self, name: str, client: Redis) -> None:
        """Take the node's name for people and a lazy client of it."""
        self._name = name
        self._client = client

    def increment(self, name: str, operation_id: str) -> Counted:
        """Add one; see ``Store.increment``."""
        del operation_id
        try:
            pipeline = self._client.pipeline(transaction=False)
            pipeline.incr(value_key(name))
            pipeline.sadd(COUNTERS, name)
            value, _ = pipeline.execute()
        except RedisConnectionError as error:
            raise IndeterminateError(str(error)) from error
        except RedisError as error:
            raise UnavailableError(str(error)) from error
        return Counted(int(value), self._name, "primary")

    def read(self, name: str) -> Counted:
        """Return the value; see ``Store.read``."""
        try:
            return Counted(int(self._client.get(value_key(name)) or 0), self._name, "primary")
        except RedisError as error:
            raise UnavailableError(str(error)) from error

    def describe(self) -> Description:
        """Return the node and the counters; see ``Store.describe``."""
        state = node_state(self._name, self._client)
        return Description((state,), counter_values(self._client) if state.reachable else None)

    def ready(self) -> None:
        """Check that the node answers; see ``Store.ready``."""
        try:
            self._client.ping()
        except RedisError as error:
            raise UnavailableError(str(error)) from error


def standalone(config: Config) -> SingleStore:
    """Return the store of topology ``standalone``."""
    address = config.redis_nodes[0]
    return SingleStore(str(address), connect(config, address))


def external(config: Config) -> SingleStore:
    """Return the store of topology ``external``."""
    client = connect_url(config)
    where = client.connection_pool.connection_kwargs
    store = SingleStore(f"{where.get('host', 'localhost')}:{where.get('port', 6379)}", client)
    store.promise = "An acknowledged increment is as durable as the external Redis makes it."
    return store
