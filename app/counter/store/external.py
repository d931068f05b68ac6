"""Topology ``external``: a Redis that this project does not run. The promise says only what it was seen to offer."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from redis import ConnectionPool, SSLConnection
from redis.exceptions import RedisError, ResponseError

from counter.config import Address, Config
from counter.store.attempt import Failure
from counter.store.client import client, connection_options, counter_names, counter_values, memory_of
from counter.store.keys import PROBE_KEY
from counter.store.link import Link
from counter.store.store import PrimaryQueue
from counter.store.types import Description, NodeState

PROBE_AGAIN_SECONDS = 15.0
PROBE_AFTER_FAILURE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Offer:
    """What the external Redis was seen to offer."""

    version: str
    tls: bool
    wait: bool
    replicas: int
    evicts: str
    """The policy by which it evicts keys when it is full; empty: it evicts none."""
    volatile: bool
    """It writes no append-only file."""


class ExternalRoute:
    """Everything goes to the one endpoint of ``COUNTER_REDIS_URL``."""

    recognises_ids = True

    def __init__(self, config: Config) -> None:
        """Read the URL; the password file, if given, overrides the URL's password."""
        self.options = _url_options(config)
        self.address = Address(self.options.pop("host", "localhost"), int(self.options.pop("port", 6379)))
        self._acks = config.required_acks
        link = Link(lambda _: self.address, self.options, acks=self._acks, disk=False, site=config.site)
        self._queue = PrimaryQueue(link)
        self._offer: Offer | None = None
        self._probe_again = 0.0

    @property
    def promise(self) -> str:
        """See ``Store.promise``."""
        offer = self._probe()
        if offer is None:
            return "Unknown: the external Redis has not answered yet."
        wait = f"WAIT with {offer.replicas} replicas" if offer.wait else "no WAIT"
        seen = f"External Redis {offer.version} {'over TLS' if offer.tls else 'without TLS'}, {wait}."
        if self._acks:
            return f"{seen} An acknowledged increment has reached {self._acks} of its replicas, perhaps in memory only."
        return f"{seen} An acknowledged increment is as durable as that Redis was configured; a failover may lose it."

    @property
    def warning(self) -> str | None:
        """See ``Store.warning``."""
        offer = self._probe()
        if offer is None:
            return None
        said = []
        if self._acks > offer.replicas:
            said.append(
                f"The external Redis has {offer.replicas} replicas, but every increment has to reach {self._acks}: "
                "none is acknowledged. Set COUNTER_WRITE_CONCERN=none, or correct COUNTER_REPLICAS_PER_PRIMARY."
            )
        if offer.evicts:
            said.append(
                f"The external Redis evicts keys when it is full (maxmemory-policy {offer.evicts}), so counters "
                "can be lost and increments counted twice. Set maxmemory-policy noeviction."
            )
        if offer.volatile:
            said.append(
                "The external Redis has no append-only file, so a restart loses what was acknowledged since its last "
                "snapshot. Set appendonly yes, and appendfsync always to keep the last second too."
            )
        return " ".join(said) or None

    def queue(self, key: str) -> PrimaryQueue:
        """Return the only queue."""
        del key
        return self._queue

    def samples(self) -> list[str]:
        """Return one key: there is one primary."""
        return [PROBE_KEY]

    def failed(self, failure: Failure) -> None:
        """Do nothing: there is nothing to find out."""

    def describe(self) -> Description:
        """See ``Store.describe``."""
        values, more = None, False
        try:
            with client(self.address, self.options) as redis:
                facts: dict[str, Any] = redis.info()
                with suppress(ResponseError):  # what the user of this Redis may not read is not shown
                    names, more = counter_names(redis)
                    values = counter_values(redis, names)
        except (RedisError, OSError) as error:
            return Description((NodeState(str(self.address), error=str(error) or type(error).__name__),))
        role = "primary" if facts.get("role") == "master" else "replica"
        state = NodeState(
            str(self.address),
            role,
            reachable=True,
            version=str(facts.get("redis_version", "")),
            memory=memory_of(facts),
        )
        return Description((state,), values, more)

    def _probe(self) -> Offer | None:
        """Find out what there is, at most every ``PROBE_AGAIN_SECONDS``; without an answer, sooner."""
        now = time.monotonic()
        if now >= self._probe_again:
            self._probe_again = now + PROBE_AGAIN_SECONDS
            try:
                with client(self.address, self.options) as redis:
                    facts: dict[str, Any] = redis.info()
                    try:
                        redis.execute_command("WAIT", 0, 1)
                        wait = True
                    except RedisError:
                        wait = False
            except (RedisError, OSError):
                self._probe_again = time.monotonic() + PROBE_AFTER_FAILURE_SECONDS
                return self._offer
            policy = facts.get("maxmemory_policy", "noeviction")
            self._offer = Offer(
                str(facts.get("redis_version", "of unknown version")),
                bool(self.options.get("ssl")),
                wait,
                int(facts.get("connected_slaves", 0)),
                str(policy) if facts.get("maxmemory") and policy != "noeviction" else "",
                facts.get("aof_enabled") == 0,
            )
        return self._offer


def _url_options(config: Config) -> dict[str, Any]:
    """Return the connection's options, host and port included, from the URL and our own."""
    pool = ConnectionPool.from_url(config.redis_url or "")
    found = dict(pool.connection_kwargs)
    options = connection_options(config)
    options.pop("ssl", None)
    if config.password is None:
        options.pop("username")
        options.pop("password")
    else:
        options["username"] = found.get("username") or None
    if issubclass(pool.connection_class, SSLConnection):
        options["ssl"] = True
    else:
        options.pop("ssl_ca_certs", None)
    return {key: found[key] for key in ("host", "port", "db", "username", "password") if key in found} | options
