"""Where the counters live: one small interface, one implementation per topology."""

from __future__ import annotations

from counter.config import Config, ConfigError, Topology
from counter.store.independent import IndependentStore
from counter.store.single import external, standalone
from counter.store.types import Store


def open_store(config: Config) -> Store:
    """Return the store of the configured topology. Nothing connects yet: a replica starts without Redis."""
    match config.topology:
        case Topology.STANDALONE:
            return standalone(config)
        case Topology.INDEPENDENT:
            return IndependentStore(config)
        case Topology.EXTERNAL:
            return external(config)
        case _:
            msg = f"COUNTER_TOPOLOGY={config.topology.value!r}: not in this version"
            raise ConfigError(msg)
