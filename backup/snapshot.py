"""Copies of what the Redis nodes hold, made while clients count: one dump for each primary, from a replica of it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from string import ascii_letters, digits
from typing import Any

from redis.exceptions import RedisError

from backup.errors import BackupError
from backup.plan import Plan
from counter.config import Address, Config
from counter.store.client import client, connection_options
from counter.store.durable import Route
from counter.store.keys import COUNTERS, value_key
from counter.store.primaries import Primaries

CATCH_UP_SECONDS = 10.0
DUMP_SECONDS = 600
POLL_SECONDS = 0.1
_DIGITS = ascii_letters + digits + "-_"
_CLAIMS = [f"{{.{first}{second}}}:keys" for first, second in product(_DIGITS, repeat=2)]
"""All keys of claims (``counter.store.ids.claim_place``), with or without a value."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A primary, and the node from which its data is copied: a replica that has all of it, or the primary itself."""

    primary: Address
    node: Address
    used: int
    """Bytes of memory that the primary's data takes."""


class Nodes:
    """The nodes of the stack, asked as the user that may copy their data."""

    def __init__(self, config: Config, plan: Plan, route: Route) -> None:
        """Take how to log in, and the way to the primaries."""
        self._config, self._plan, self._route = config, plan, route
        self._options = connection_options(config) | {"username": plan.redis_user, "password": plan.redis_password}

    def primaries(self, names: Iterable[str]) -> list[Address]:
        """Return the primaries of all keys that counters of these names can have, each confirmed by its replicas."""
        keys = {id(self._route.lane(key)): key for key in [*map(value_key, names), *_CLAIMS, COUNTERS]}
        Primaries(self._route).run([("EXISTS", key) for key in keys.values()])
        return sorted({Address.parse(self._route.lane(key).link.node, 6379) for key in keys.values()})

    def holders(self, names: Iterable[str]) -> list[Holder]:
        """Return where to copy from. What was acknowledged before this call is there when it returns."""
        primaries = self.primaries(names)
        facts = {node: self._facts(node) for node in {*self._config.redis_nodes, *primaries}}
        return [self._holder(primary, facts) for primary in primaries]

    def _holder(self, primary: Address, facts: dict[Address, dict[str, Any]]) -> Holder:
        told = facts[primary]
        if "error" in told:
            raise BackupError(f"{primary} does not tell its role: {told['error']}")
        replicas = [
            node
            for node, other in facts.items()
            if other.get("role") == "slave"
            and other.get("master_link_status") == "up"
            and other.get("master_replid") == told["master_replid"]
        ]
        deadline = time.monotonic() + CATCH_UP_SECONDS
        while replicas and time.monotonic() < deadline:
            for node in replicas:
                if int(self._facts(node).get("slave_repl_offset", -1)) >= int(told["master_repl_offset"]):
                    return Holder(primary, node, int(told["used_memory"]))
            time.sleep(POLL_SECONDS)
        return Holder(primary, primary, int(told["used_memory"]))

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
        try:
            done = subprocess.run(
                ["redis-cli", *where, *tls, "--rdb", str(path)],
                env=os.environ | {"REDISCLI_AUTH": self._plan.redis_password},
                capture_output=True,
                text=True,
                timeout=DUMP_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise BackupError(f"copying the data of {node} took more than {DUMP_SECONDS} s") from None
        if done.returncode:
            said = (done.stderr + done.stdout).strip().splitlines()
            raise BackupError(f"the data of {node} could not be copied: {'; '.join(said[-3:])}")

    def empty(self, names: Iterable[str]) -> None:
        """Remove all keys from all primaries; raises BackupError."""
        for primary in self.primaries(names):
            try:
                with client(primary, self._options | {"socket_timeout": DUMP_SECONDS}) as connection:
                    connection.flushall()
            except (RedisError, OSError) as error:
                raise BackupError(f"{primary} could not be emptied: {error}") from error
