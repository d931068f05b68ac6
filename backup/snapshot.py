"""Copies of what the Redis nodes hold, made while clients count: one dump for each primary, from a replica of it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from redis.crc import key_slot
from redis.exceptions import RedisError

from backup.errors import BackupError
from backup.plan import Plan
from backup.processes import TIMED_OUT, run
from counter.config import Address, Config
from counter.store.attempt import Failure
from counter.store.client import client, connection_options
from counter.store.keys import SITE_KEY, value_key
from counter.store.primaries import Primaries
from counter.store.site import objection
from counter.store.store import Route

CATCH_UP_SECONDS = 10.0
DUMP_SECONDS = 600
POLL_SECONDS = 0.1
SLOTS = 16384


@cache
def _slots() -> tuple[str, ...]:
    """Return a key of each slot of a cluster, with or without a value."""
    found: dict[int, str] = {}
    names = map(value_key, map(str, count()))
    while len(found) < SLOTS:
        found.setdefault(key_slot((key := next(names)).encode()), key)
    return tuple(found.values())


@dataclass(frozen=True, slots=True)
class Holder:
    """A primary, and the node from which its data is copied: a replica that has all of it, or the primary itself."""

    primary: Address
    node: Address
    used: int
    """Bytes of memory that the primary's data takes."""
    replication_id: str
    """What the primary calls its changes."""


class Nodes:
    """The nodes of the stack, asked as the user that may copy their data."""

    def __init__(self, config: Config, plan: Plan, route: Route) -> None:
        """Take how to log in, and the way to the primaries."""
        self._config, self._plan, self._route = config, plan, route
        self._options = connection_options(config) | {"username": plan.redis_user, "password": plan.redis_password}

    def homes(self) -> dict[str, Address]:
        """Return the primary of a key of each slot, confirmed by its replicas.

        Raises:
            BackupError: a primary was replaced meanwhile.
            UnavailableError: the nodes do not answer.

        """
        # So that it asks again which slots are where.
        self._route.failed(Failure("slots may have moved"))
        queues = {key: self._route.queue(key) for key in _slots()}
        one_of = {queue: key for key, queue in queues.items()}
        Primaries(self._route).run([("EXISTS", key) for key in one_of.values()])
        if not all(queue.link.node for queue in one_of):
            raise BackupError("the primaries changed meanwhile")
        addresses = {queue: Address.parse(queue.link.node, 6379) for queue in one_of}
        return {key: addresses[queue] for key, queue in queues.items()}

    def refuse_others(self) -> None:
        """Raise BackupError unless the primaries hold the counters of the plan's stack."""
        if not self._plan.site:
            return
        if reason := objection(Primaries(self._route).run([("GET", SITE_KEY)])[0], self._plan.site):
            raise BackupError(f"Redis holds {reason}. Nothing of it was saved; this says more: ./counter deploy")

    def holders(self, primaries: Iterable[Address]) -> list[Holder]:
        """Return where to copy from. What was acknowledged before this call is there when it returns."""
        wanted = sorted(set(primaries))
        facts = {node: self._facts(node) for node in {*self._config.redis_nodes, *wanted}}
        return [self._holder(primary, facts) for primary in wanted]

    def position(self, primary: Address) -> tuple[str, int]:
        """Return what its changes are called, and how far they go; raises BackupError."""
        facts = _known(primary, self._facts(primary))
        return str(facts["master_replid"]), int(facts["master_repl_offset"])

    def limit(self, primaries: Iterable[Address]) -> int:
        """Return how many bytes the data on these primaries may take together; 0: no limit. Raises BackupError."""
        limits = [int(_known(node, self._facts(node))["maxmemory"]) for node in set(primaries)]
        return sum(limits) if all(limits) else 0

    def _holder(self, primary: Address, facts: dict[Address, dict[str, Any]]) -> Holder:
        info = _known(primary, facts[primary])
        told = int(info["used_memory"]), str(info["master_replid"])
        replicas = [
            node
            for node, other in facts.items()
            if other.get("role") == "slave"
            and other.get("master_link_status") == "up"
            and other.get("master_replid") == info["master_replid"]
        ]
        deadline = time.monotonic() + CATCH_UP_SECONDS
        while replicas and time.monotonic() < deadline:
            for node in replicas:
                if int(self._facts(node).get("slave_repl_offset", -1)) >= int(info["master_repl_offset"]):
                    return Holder(primary, node, *told)
            time.sleep(POLL_SECONDS)
        return Holder(primary, primary, *told)

    def _facts(self, node: Address) -> dict[str, Any]:
        """Return what a node says of its replication and memory, or ``error``."""
        try:
            with client(node, self._options) as connection:
                return dict(connection.info("replication", "memory"))
        except (RedisError, OSError) as error:
            return {"error": str(error)}

    def dump(self, node: Address, path: Path) -> None:
        """Write a node's data to a file, in Redis' own format; raises BackupError."""
        tls = ["--tls", "--cacert", self._config.ca_file] if self._config.ca_file else []
        where = ["-h", node.host, "-p", str(node.port), "--user", self._plan.redis_user, "--no-auth-warning"]
        done = run(
            ["redis-cli", *where, *tls, "--rdb", str(path)],
            DUMP_SECONDS,
            environ=os.environ | {"REDISCLI_AUTH": self._plan.redis_password},
        )
        if done.status:
            lines = (done.said + done.printed).strip().splitlines()
            late = f" within {DUMP_SECONDS} s" if done.status == TIMED_OUT else ""
            raise BackupError(f"the data of {node} could not be copied{late}: {'; '.join(lines[-3:])}")

    def empty(self) -> None:
        """Remove all keys from all primaries, confirmed by their replicas; raises BackupError."""
        homes = self.homes()
        for primary in set(homes.values()):
            try:
                with client(primary, self._options | {"socket_timeout": DUMP_SECONDS}) as connection:
                    connection.flushall()
            except (RedisError, OSError) as error:
                raise BackupError(f"{primary} could not be emptied: {error}") from error
        if self.homes() != homes:
            raise BackupError("a primary was replaced while it was emptied: repeat the restore")


def _known(node: Address, facts: dict[str, Any]) -> dict[str, Any]:
    if "error" in facts:
        raise BackupError(f"{node} does not report its role: {facts['error']}")
    return facts
