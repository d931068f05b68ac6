"""Topology ``independent``: N Redis nodes that know nothing of each other, to show what that does to a counter."""

from __future__ import annotations

import random
import socket
import time
from contextlib import suppress
from dataclasses import replace

from redis.exceptions import RedisError

from counter.config import Address, Config
from counter.store.attempt import Failure
from counter.store.client import (
    SHOWN_COUNTERS,
    client,
    connection_options,
    counter_names,
    counter_values,
    node_states,
)
from counter.store.link import Link
from counter.store.store import PrimaryQueue
from counter.store.types import Description, UnavailableError

RESOLVE_SECONDS = 5.0


class IndependentRoute:
    """Each operation goes to a node chosen at random, as a virtual IP would spread connections."""

    promise = "None: every Redis node counts for itself, so the total is spread over nodes that disagree."
    warning: str | None = (
        "The Redis nodes are independent: they share nothing, values jump back and forth, increments get lost."
    )

    recognises_ids = False

    def __init__(self, config: Config) -> None:
        """Take the configured names; one name may have several addresses."""
        self._config = config
        self._options = connection_options(config)
        self._queues: dict[Address, PrimaryQueue] = {}
        self._resolved: list[Address] = []
        self._resolve_again = 0.0

    def queue(self, key: str) -> PrimaryQueue:
        """Return the queue to any node."""
        del key
        addresses = self._addresses()
        if not addresses:
            names = ", ".join(map(str, self._config.redis_nodes))
            raise UnavailableError(f"no Redis node has an address: {names}")
        address = random.choice(addresses)  # noqa: S311  # spreading load, not a secret
        if address not in self._queues:
            link = Link(lambda _: address, self._options, acks=0, site=self._config.site)
            self._queues.setdefault(address, PrimaryQueue(link))
        return self._queues[address]

    def samples(self) -> list[str]:
        """Return nothing: each node is the only one that knows its values."""
        return []

    def failed(self, failure: Failure) -> None:
        """Resolve again before the next attempt."""
        del failure
        self._resolve_again = 0.0

    def describe(self) -> Description:
        """Return every node with its own counters; see ``Store.describe``."""
        addresses = sorted(self._addresses())
        states = dict(zip(addresses, node_states(addresses, self._options), strict=True))
        reachable = [address for address in addresses if states[address].reachable]
        # A counter is listed on the node that happened to take the listing: ask all for names, then all for values.
        names: set[str] = set()
        more = False
        for address in reachable:
            with suppress(RedisError, OSError), client(address, self._options) as node:
                found, others = counter_names(node)
                names.update(found)
                more = more or others
        shown = sorted(names)[:SHOWN_COUNTERS]
        for address in reachable:
            with suppress(RedisError, OSError), client(address, self._options) as node:
                states[address] = replace(states[address], counters=counter_values(node, shown))
        return Description(tuple(states.values()), more=more or len(names) > SHOWN_COUNTERS)

    def _addresses(self) -> list[Address]:
        now = time.monotonic()
        if now >= self._resolve_again:
            self._resolved = [found for name in self._config.redis_nodes for found in _resolve(name)]
            self._resolve_again = now + RESOLVE_SECONDS
        return self._resolved


def _resolve(name: Address) -> list[Address]:
    """Return the name itself, or all its addresses where it has several (getaddrinfo puts the same one first)."""
    try:
        found = socket.getaddrinfo(name.host, name.port, type=socket.SOCK_STREAM, family=socket.AF_INET)
    except OSError:
        return []
    hosts = {str(item[4][0]) for item in found}
    return [name] if len(hosts) == 1 else [Address(host, name.port) for host in hosts]
