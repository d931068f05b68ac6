"""Topology ``cluster``: many primaries, each serving a part of the slots; a counter lives in one slot."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any

from redis.crc import REDIS_CLUSTER_HASH_SLOTS as SLOTS
from redis.crc import key_slot
from redis.exceptions import RedisError

from counter.config import Address, Config
from counter.store.attempt import Failure
from counter.store.client import client, connection_options, counter_names, node_states
from counter.store.keys import COUNTERS, tag_in, value_key
from counter.store.link import Link
from counter.store.replicated import Replicated
from counter.store.store import PrimaryQueue
from counter.store.types import Description, UnavailableError

ASK_SECONDS = 0.5
UNKNOWN = "?"
"""Stands in CLUSTER SLOTS for a name that the node which was asked has not heard yet."""


class ClusterRoute(Replicated):
    """Each key goes to the primary of its slot, on a queue of its own: a group commit per node."""

    def __init__(self, config: Config) -> None:
        """Take some nodes' addresses; the cluster names the others."""
        super().__init__(config)
        self._options = connection_options(config)
        self._ask_options = self._options | {"socket_connect_timeout": ASK_SECONDS, "socket_timeout": ASK_SECONDS}
        self._refreshing = threading.Lock()
        self._stale = True
        self._slots: list[tuple[int, int, Address]] = []
        self._queues: dict[Address, PrimaryQueue] = {}

    def queue(self, key: str) -> PrimaryQueue:
        """Return the queue to the primary of the key's slot."""
        return self._queue(self._primary(key))

    def samples(self) -> list[str]:
        """See ``Route.samples``."""
        self._primary(COUNTERS)  # so that it asks for the slots if they may have moved
        slots = self._slots
        if sum(last - first + 1 for first, last, _ in slots) < SLOTS:
            self._stale = True
            raise UnavailableError("some slots have no primary")
        return [value_key(tag_in(first)) for first in {address: first for first, _, address in slots}.values()]

    def failed(self, failure: Failure) -> None:
        """Ask for the slots again, unless the failure has nothing to do with them."""
        self._stale = self._stale or not failure.permanent

    def describe(self) -> Description:
        """See ``Store.describe``: counters of all primaries."""
        values, more = None, False
        try:
            values, more = self._values(time.monotonic() + self._config.deadline)
        except (RedisError, OSError, UnavailableError):  # the nodes are described in any case
            self._stale = True
        served: Counter[str] = Counter()
        for first, last, address in self._slots:
            served[str(address)] += last - first + 1
        states = node_states(self._nodes(), self._options)
        return Description(tuple(replace(state, slots=served[state.name]) for state in states), values, more)

    def _values(self, until: float) -> tuple[dict[str, int], bool]:
        """Return name -> value, read in one round for each primary, and whether there are more counters.

        It begins no round after ``until``.
        """
        with client(self._primary(COUNTERS), self._ask_options) as node:
            names, more = counter_names(node)
        homes: defaultdict[Address, list[str]] = defaultdict(list)
        for name in names:
            homes[self._primary(value_key(name))].append(name)
        found: dict[str, int] = {}
        for address, here in homes.items():
            if time.monotonic() > until:
                raise UnavailableError("the primaries answer too slowly")
            with client(address, self._ask_options) as node, node.pipeline(transaction=False) as pipeline:
                for name in here:
                    pipeline.get(value_key(name))
                found |= {name: int(value or 0) for name, value in zip(here, pipeline.execute(), strict=True)}
        return {name: found[name] for name in names}, more

    def _primary(self, key: str) -> Address:
        """Return the primary of the key's slot; raises UnavailableError if none is known."""
        if self._stale:
            self._refresh()
        slot = key_slot(key.encode())
        for first, last, address in self._slots:
            if first <= slot <= last:
                return address
        self._stale = True
        raise UnavailableError(f"no primary serves slot {slot}")

    def _queue(self, address: Address) -> PrimaryQueue:
        queue = self._queues.get(address)
        if queue is None:
            acks = self._config.required_acks
            alone = None if acks else lambda replicas, *_: self._alone(replicas)
            link = Link(lambda _: address, self._options, acks=acks, reason_to_refuse=alone, site=self._config.site)
            queue = self._queues.setdefault(address, PrimaryQueue(link))
        return queue

    def _nodes(self) -> list[Address]:
        return sorted({*self._config.redis_nodes, *(address for _, _, address in self._slots)})

    def _refresh(self) -> None:
        """Ask nodes in random order until one knows the slots. One thread asks, the others go on with what is known."""
        if not self._refreshing.acquire(blocking=not self._slots, timeout=-1 if self._slots else ASK_SECONDS):
            return
        try:
            if not self._stale:
                return
            deadline = time.monotonic() + 2 * ASK_SECONDS
            for address in random.sample(self._nodes(), len(self._nodes())):
                try:
                    with client(address, self._ask_options) as node:
                        reply: Any = node.execute_command("CLUSTER", "SLOTS")
                    slots = _slots(reply, address)
                    if not slots:
                        raise RedisError("a node without the cluster's data has not joined it yet")
                    self._slots = slots
                    # For how long a node has not answered says nothing once it is a primary again.
                    primaries = {primary for _, _, primary in self._slots}
                    self._queues = {one: queue for one, queue in self._queues.copy().items() if one in primaries}
                    self._stale = False
                    return
                except (RedisError, OSError):
                    if time.monotonic() > deadline:
                        return
        finally:
            self._refreshing.release()


def _slots(reply: Any, asked: Address) -> list[tuple[int, int, Address]]:
    """Read CLUSTER SLOTS: ranges with their primaries.

    A node that does not know its own name leaves it empty. Those of others it may learn later, which leaves ranges out.
    """
    return [
        (int(first), int(last), Address(str(primary[0] or asked.host), int(primary[1])))
        for first, last, primary, *_ in reply
        if primary[0] != UNKNOWN
    ]
