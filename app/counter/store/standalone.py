"""Topology ``standalone``: one Redis node."""

from __future__ import annotations

from redis.exceptions import RedisError

from counter.config import Address, Config
from counter.store.attempt import Failure
from counter.store.client import client, connection_options, counter_names, counter_values, node_states
from counter.store.keys import PROBE_KEY
from counter.store.link import Link
from counter.store.store import PrimaryQueue
from counter.store.types import Description


class StandaloneRoute:
    """Everything goes to the one node."""

    promise = (
        "An acknowledged increment is on the disk of the one Redis node: "
        "it survives a crash of the process or the host, not the loss of the disk."
    )
    warning: str | None = None
    recognises_ids = True

    def __init__(self, config: Config) -> None:
        """Take the first configured node."""
        self._address = config.redis_nodes[0]
        self._options = connection_options(config)
        link = Link(lambda _: self._address, self._options, acks=config.required_acks, site=config.site)
        self._queue = PrimaryQueue(link)

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
        return describe_primary([self._address], self._options)


def describe_primary(addresses: list[Address], options: dict[str, object]) -> Description:
    """Describe nodes of which one primary holds all counters."""
    states = node_states(addresses, options)
    for address, state in zip(addresses, states, strict=True):
        if state.role == "primary":
            try:
                with client(address, options) as primary:
                    names, more = counter_names(primary)
                    return Description(tuple(states), counter_values(primary, names), more)
            except (RedisError, OSError):
                continue
    return Description(tuple(states))
