"""How connections to Redis are made: time-outs, credentials, TLS. And plain questions to single nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from counter.config import Address, Config
from counter.store.keys import COUNTERS, value_key
from counter.store.names import NamedConnection, NamedSSLConnection
from counter.store.types import NodeState

CONNECT_SECONDS = 0.5
REPLY_SECONDS = 1.0
SHOWN_COUNTERS = 10_000
"""How many counters to show at most: clients can make so many that one look at all of them takes a replica's memory."""


def connection_options(config: Config) -> dict[str, Any]:
    """Return what every connection is made with.

    redis-py repeats a command up to ten times by default, and a repeated INCR counts twice: off. Without
    ``driver_info`` it sends no CLIENT SETINFO, which the application's user needs no right for.
    """
    options: dict[str, Any] = {
        "username": "counter" if config.password else None,
        "password": config.password,
        "socket_connect_timeout": CONNECT_SECONDS,
        "socket_timeout": REPLY_SECONDS,
        "retry": Retry(NoBackoff(), 0),
        "decode_responses": True,
        "protocol": 2,
        "driver_info": None,
    }
    if config.ca_file:
        options |= {"ssl": True, "ssl_ca_certs": config.ca_file}
    return options


def client(address: Address, options: dict[str, Any]) -> Redis:
    """Return a client of one node; it connects when used."""
    options, kind = connection_kind(options)
    pool = ConnectionPool(connection_class=kind, host=address.host, port=address.port, **options)
    return Redis.from_pool(pool)


def connection_kind(options: Mapping[str, Any]) -> tuple[dict[str, Any], type[NamedConnection]]:
    """Return the options that a connection takes, and its class."""
    rest = dict(options)
    return rest, NamedSSLConnection if rest.pop("ssl", False) else NamedConnection


def node_states(addresses: Sequence[Address], options: dict[str, Any]) -> list[NodeState]:
    """Ask all nodes at the same time for their role, version and memory."""

    def ask(address: Address) -> NodeState:
        name = str(address)
        try:
            with client(address, options) as node:
                facts: dict[str, Any] = node.info("server", "replication", "memory")
        except (RedisError, OSError) as error:
            return NodeState(name, error=str(error) or type(error).__name__)
        role = "primary" if facts["role"] == "master" else "replica"
        return NodeState(
            name,
            role,
            reachable=True,
            version=str(facts["redis_version"]),
            memory=memory_of(facts),
            promotable=int(facts["slave_priority"]) > 0 if "slave_priority" in facts else None,
        )

    with ThreadPoolExecutor(max(1, len(addresses))) as pool:
        return list(pool.map(ask, addresses))


def memory_of(facts: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the bytes used and allowed from what INFO says; None where it does not say."""
    if "used_memory" not in facts:
        return None
    return int(facts["used_memory"]), int(facts.get("maxmemory", 0))


def counter_names(node: Redis) -> tuple[list[str], bool]:
    """Return at most ``SHOWN_COUNTERS`` of the names that one node knows, sorted, and whether it knows more."""
    # Of a set with no more names than that, the first reply has all of them.
    cursor, found = node.sscan(COUNTERS, count=SHOWN_COUNTERS + 1)
    names = sorted({str(name) for name in found})
    return names[:SHOWN_COUNTERS], cursor != 0 or len(names) > SHOWN_COUNTERS


def counter_values(node: Redis, names: Iterable[str]) -> dict[str, int]:
    """Return name -> value as one node has it."""
    names = sorted(names)
    values = node.mget([value_key(name) for name in names]) if names else []
    return {name: int(value or 0) for name, value in zip(names, values, strict=True)}
