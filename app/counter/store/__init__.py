"""Where the counters live: one small interface, one route per topology."""

from __future__ import annotations

from collections.abc import Callable

from counter.config import Config, Topology
from counter.store.cluster import ClusterRoute
from counter.store.external import ExternalRoute
from counter.store.independent import IndependentRoute
from counter.store.sentinel import SentinelRoute
from counter.store.standalone import StandaloneRoute
from counter.store.store import Route, Store

_ROUTES: dict[Topology, Callable[[Config], Route]] = {
    Topology.STANDALONE: StandaloneRoute,
    Topology.INDEPENDENT: IndependentRoute,
    Topology.SENTINEL: SentinelRoute,
    Topology.CLUSTER: ClusterRoute,
    Topology.EXTERNAL: ExternalRoute,
}


def open_route(config: Config) -> Route:
    """Return the way to the primaries of the configured topology. Nothing connects yet."""
    return _ROUTES[config.topology](config)


def open_store(config: Config) -> Store:
    """Return the store of the configured topology. Nothing connects yet: a replica starts without Redis."""
    return Store(open_route(config), config)
