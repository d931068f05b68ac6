"""Topology ``independent``: N Redis nodes that know nothing of each other, to show what that does to a counter."""

from __future__ import annotations

import random
import socket
import time

from counter.config import Address, Config
from counter.store.client import connect, node_state
from counter.store.single import SingleStore
from counter.store.types import Counted, Description, StoreError, UnavailableError

RESOLVE_SECONDS = 5.0


class IndependentStore:
    """Each operation goes to a node chosen at random, as a virtual IP would spread connections."""

    promise = "None: every node counts for itself, so the total is spread over nodes that disagree."
    warning = "Independent Redis nodes: they share nothing, values jump back and forth and increments get lost."

    def __init__(self, config: Config) -> None:
        """Take the configured names; one name may have several addresses."""
        self._config = config
        self._nodes: dict[Address, SingleStore] = {}
        self._resolved: list[Address] = []
        self._resolve_again = 0.0

    def _addresses(self) -> list[Address]:
        now = time.monotonic()
        if now >= self._resolve_again:
            self._resolved = [found for name in self._config.redis_nodes for found in _resolve(name)] or self._resolved
            self._resolve_again = now + RESOLVE_SECONDS
        return self._resolved

    def _node(self, address: Address) -> SingleStore:
        return self._nodes.setdefault(address, SingleStore(str(address), connect(self._config, address)))

    def _any(self) -> SingleStore:
        addresses = self._addresses()
        if not addresses:
            msg = "no Redis node has an address: " + ", ".join(map(str, self._config.redis_nodes))
            raise UnavailableError(msg)
        return self._node(random.choice(addresses))  # noqa: S311  # spreading load, not a secret

    def increment(self, name: str, operation_id: str) -> Counted:
        """Add one on some node; see ``Store.increment``."""
        return self._any().increment(name, operation_id)

    def read(self, name: str) -> Counted:
        """Return what some node says; see ``Store.read``."""
        return self._any().read(name)

    def describe(self) -> Description:
        """Return every node with its own counters; see ``Store.describe``."""
        return Description(
            tuple(
                node_state(str(address), connect(self._config, address), counters=True)
                for address in sorted(self._addresses())
            )
        )

    def ready(self) -> None:
        """Check that one node answers; see ``Store.ready``."""
        failures = []
        for address in self._addresses():
            try:
                return self._node(address).ready()
            except StoreError as error:
                failures.append(str(error))
        raise UnavailableError("; ".join(failures) or "no Redis node has an address")


def _resolve(name: Address) -> list[Address]:
    """Return the name itself, or all its addresses where it has several (getaddrinfo puts the same one first)."""
    try:
        found = socket.getaddrinfo(name.host, name.port, type=socket.SOCK_STREAM, family=socket.AF_INET)
    except OSError:
        return []
    hosts = {str(item[4][0]) for item in found}
    return [name] if len(hosts) == 1 else [Address(host, name.port) for host in hosts]
