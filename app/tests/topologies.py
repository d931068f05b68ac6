"""Whole Redis topologies of real processes on 127.0.0.1, configured as the project deploys them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from support.processes import RedisServer
from support.waiting import wait_until

PASSWORD = "app-password"  # noqa: S105
APP_RIGHTS = (
    f"user counter on >{PASSWORD} resetkeys ~{{*}}:* ~key:* ~counters -@all +eval +get +set +incr +incrby "
    "+hget +hmget +hset +pttl +rename +pexpire +exists +sadd +smembers +sscan +mget +wait +waitaof +role +info "
    "+cluster|slots +readonly"
)
"""What the application's user may do on a data node: all that it and the drills do, tested by using nothing else."""
BACKUP_RIGHTS = f"user backup on >{PASSWORD} ~* -@all +info +sync +psync +replconf +flushall"
"""What the program that makes backups may do on a data node, beside what it does as the application's user."""
SENTINEL_RIGHTS = (
    f"user counter on >{PASSWORD} -@all +sentinel|master +sentinel|get-master-addr-by-name +sentinel|myid "
    "+sentinel|is-master-down-by-addr"
)
"""What the application's user may do on a Sentinel."""

DURABLE = ("appendonly yes", "appendfsync always", "maxmemory-policy noeviction", APP_RIGHTS, BACKUP_RIGHTS)
REPLICATED = (
    "min-replicas-to-write 1",
    "min-replicas-max-lag 3",
    "repl-timeout 10",
    "repl-ping-replica-period 2",
    "repl-diskless-sync-delay 0",
    "replica-serve-stale-data no",
)


class SentinelSet:
    """One primary, two replicas, three Sentinels. A node that is silent for ``down`` milliseconds counts as down."""

    name = "counter"

    def __init__(self, directory: Path, down: int = 1000) -> None:
        """Write the configurations."""
        self._down = down
        self.nodes = [RedisServer(directory, *DURABLE, *REPLICATED)]
        first = self.nodes[0].port
        self.nodes += [RedisServer(directory, *DURABLE, *REPLICATED, f"replicaof 127.0.0.1 {first}") for _ in range(2)]
        self.sentinels = [self.sentinel(directory, first) for _ in range(3)]

    def sentinel(self, directory: Path, primary: int) -> RedisServer:
        """Return a Sentinel that has yet to be started."""
        return RedisServer(
            directory,
            f"sentinel monitor {self.name} 127.0.0.1 {primary} 2",
            f"sentinel down-after-milliseconds {self.name} {self._down}",
            f"sentinel failover-timeout {self.name} 6000",
            f"sentinel parallel-syncs {self.name} 2",
            SENTINEL_RIGHTS,
            sentinel=True,
        )

    def up(self) -> SentinelSet:
        """Start everything and wait until a failover could happen."""
        for node in self.nodes:
            node.up()
        for sentinel in self.sentinels:
            sentinel.up()
            # One that stood still for two seconds acts on nothing for a while. That is 30 seconds by default.
            sentinel.client().execute_command("SENTINEL", "DEBUG", "TILT-PERIOD", 1000)

        def known() -> bool:
            facts = [sentinel.client().sentinel_master(self.name) for sentinel in self.sentinels]
            return all(fact["num-slaves"] == 2 and fact["num-other-sentinels"] == 2 for fact in facts)

        wait_until("the Sentinels to know everybody", known, 30)
        wait_until("both replicas to follow", lambda: self.nodes[0].client().wait(2, 200) == 2, 30)
        return self

    @property
    def processes(self) -> list[RedisServer]:
        """All six."""
        return [*self.nodes, *self.sentinels]

    def primary(self) -> RedisServer:
        """Return the node that the Sentinels agree on."""

        def agreed() -> RedisServer | None:
            named = [one.client().sentinel_get_master_addr_by_name(self.name) for one in self.sentinels]
            ports = {int(address[1]) if isinstance(address, tuple) else 0 for address in named}
            return next((node for node in self.nodes if ports == {node.port}), None)

        found = wait_until("the Sentinels to agree", agreed)
        assert found
        return found

    def replicas(self) -> list[RedisServer]:
        """Return the other two."""
        primary = self.primary()
        return [node for node in self.nodes if node is not primary]

    def healed(self) -> RedisServer:
        """Wait until one primary has two replicas in sync; return it."""

        def in_step() -> RedisServer | None:
            primary = self.primary()
            client = primary.client()
            roles = [node.client().role()[0] for node in self.nodes]
            client.set("{heal}:value", 1)
            return primary if sorted(roles) == ["master", "slave", "slave"] and client.wait(2, 500) == 2 else None

        found = wait_until("the set to heal", in_step, 60)
        assert found
        return found

    def environ(self) -> dict[str, str]:
        """``COUNTER_*`` (without the prefix) for this set."""
        return {
            "TOPOLOGY": "sentinel",
            "REDIS_NODES": addresses(self.nodes),
            "SENTINEL_NODES": addresses(self.sentinels),
            "REPLICAS_PER_PRIMARY": "2",
        }


class Cluster:
    """Three primaries with one replica each. A node that is silent for ``down`` milliseconds counts as down."""

    def __init__(self, directory: Path, down: int = 1000) -> None:
        """Write the configurations."""
        self.nodes = [
            RedisServer(
                directory,
                *DURABLE,
                *REPLICATED,
                "cluster-enabled yes",
                f"cluster-node-timeout {down}",
                "cluster-replica-validity-factor 0",
            )
            for _ in range(6)
        ]
        self.processes = self.nodes

    def up(self) -> Cluster:
        """Start and join the nodes."""
        for node in self.nodes:
            node.up()
        command = ["redis-cli", "--cluster", "create", *[node.address for node in self.nodes]]
        subprocess.run(
            [*command, "--cluster-replicas", "1", "--cluster-yes"], check=True, timeout=60, capture_output=True
        )
        self.healed()
        return self

    def healed(self) -> None:
        """Wait until every node sees all slots served and every primary has a replica in sync."""

        def good() -> bool:
            infos = [node.client().execute_command("CLUSTER", "INFO") for node in self.nodes]
            roles = [node.client().role() for node in self.nodes]
            replicas = [role for role in roles if role[0] == "slave"]
            return (
                all("cluster_state:ok" in str(info) for info in infos)
                and len(replicas) == 3
                and all(role[3] == "connected" for role in replicas)
                and all(role[2] for role in roles if role[0] == "master")
            )

        wait_until("the cluster to heal", good, 60)

    def primary_of(self, key: str, ask: Sequence[RedisServer] = ()) -> RedisServer:
        """Return the node that answers for the key's slot, as one of ``ask`` (default: any running node) says."""

        def serving() -> RedisServer | None:
            for node in ask or self.nodes:
                if node.process and node.process.poll() is None and node.client().role()[0] == "master":
                    slots = node.client().execute_command("CLUSTER", "SLOTS")
                    slot = node.client().execute_command("CLUSTER", "KEYSLOT", key)
                    for first, last, primary, *_ in slots:
                        if first <= slot <= last:
                            return next(found for found in self.nodes if found.port == primary[1])
            return None

        found = wait_until(f"a primary of {key}", serving)
        assert found
        return found

    def environ(self) -> dict[str, str]:
        """``COUNTER_*`` (without the prefix) for this cluster."""
        return {"TOPOLOGY": "cluster", "REDIS_NODES": addresses(self.nodes), "REPLICAS_PER_PRIMARY": "1"}


def topology(kind: str, directory: Path, down: int = 1000) -> tuple[Any, list[RedisServer], dict[str, str]]:
    """Return a topology that has yet to be started, its processes, and ``COUNTER_*`` (without the prefix) for it."""
    if kind == "standalone":
        node = RedisServer(directory, *DURABLE)
        return node, [node], {"TOPOLOGY": kind, "REDIS_NODES": node.address}
    found = SentinelSet(directory, down) if kind == "sentinel" else Cluster(directory, down)
    return found, found.processes, found.environ()


def addresses(servers: Iterable[RedisServer]) -> str:
    """Return ``host:port,host:port``."""
    return ",".join(server.address for server in servers)
