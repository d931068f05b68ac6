"""Connections to Redis: one place for time-outs, credentials and TLS."""

from __future__ import annotations

import ssl
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from counter.config import Address, Config
from counter.store.types import NodeState

CONNECT_SECONDS = 0.5
REPLY_SECONDS = 1.0
COUNTERS = "counters"
"""The set of all counters' names."""


def value_key(name: str) -> str:
    """Return the key of a counter's value; the braces put all keys of a counter into one slot of a cluster."""
    return f"{{{name}}}:value"


def client_options(config: Config) -> dict[str, Any]:
    """Return what every client and connection is made with.

    redis-py repeats a command up to ten times by default, and a repeated INCR counts twice: off.
    """
    options: dict[str, Any] = {
        "username": config.username,
        "password": config.password,
        "socket_connect_timeout": CONNECT_SECONDS,
        "socket_timeout": REPLY_SECONDS,
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),
        "decode_responses": True,
        "protocol": 2,
    }
    if config.ca_file:
        options |= {"ssl": True, "ssl_ca_certs": config.ca_file, "ssl_min_version": ssl.TLSVersion.TLSv1_2}
    return options


def connect(config: Config, address: Address) -> Redis:
    """Return a lazy client of one node."""
    return Redis(host=address.host, port=address.port, **client_options(config))


def connect_url(config: Config) -> Redis:
    """Return a lazy client of ``redis_url``; the password file, where given, overrides the URL's password."""
    options = client_options(config)
    if config.password is None:
        del options["username"], options["password"]
    options.pop("ssl", None)  # the URL's scheme decides
    if not (config.redis_url or "").startswith("rediss://"):
        options.pop("ssl_ca_certs", None)
        options.pop("ssl_min_version", None)
    return Redis.from_url(config.redis_url or "", **options)


def node_state(name: str, client: Redis, *, counters: bool = False) -> NodeState:
    """Ask one node who it is; with ``counters`` also for the values it holds."""
    try:
        server: dict[str, Any] = client.info("server", "replication")
        values = counter_values(client) if counters else None
    except RedisError as error:
        return NodeState(name, error=str(error) or type(error).__name__)
    role = "primary" if server["role"] == "master" else "replica"
    return NodeState(name, role, reachable=True, version=str(server["redis_version"]), counters=values)


def counter_values(client: Redis) -> dict[str, int]:
    """Return name -> value of all counters that one node holds."""
    names = sorted(str(name) for name in client.smembers(COUNTERS))
    values = client.mget([value_key(name) for name in names]) if names else []
    return {name: int(value or 0) for name, value in zip(names, values, strict=True)}
