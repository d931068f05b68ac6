"""Whole Redis topologies of real processes on 127.0.0.1, configured as the project deploys them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from secrets import token_hex
from typing import Any, ClassVar

from support.configurations import DOWN_MILLISECONDS
from support.passwords import APP_PASSWORD
from support.processes import RedisServer
from support.waiting import wait_until

from counter.store.store import Store


class Node(RedisServer):
    """A node of a topology, or a Sentinel, as deployed. Tests themselves may do everything, as the user ``default``."""

    configuration: ClassVar[Callable[[str], dict[str, str]]]
    """Return the files of a variant (`support.configurations`); a fixture of the whole run sets it."""

    def __init__(self, directory: Path, variant: str, *options: str, sentinel: bool = False) -> None:
        """Take the parent directory, the variant, and options that differ."""
        name = "sentinel" if sentinel else "users"
        texts = Node.configuration(variant)
        rights = directory / f"{variant}-{name}.acl"
        rights.write_text(re.sub("(?m)^user default .*$", "user default on nopass ~* &* +@all", texts[f"{name}.acl"]))
        config = texts["sentinel.conf" if sentinel else "redis.conf"]
        # Of what a server is told, only places differ.
        lines = [line for line in config.splitlines() if not line.startswith(("#", "bind ", "dir ", "aclfile "))]
        super().__init__(directory, *filter(None, lines), f"aclfile {rights}", *options, sentinel=sentinel)


class SentinelSet:
    """One primary, two replicas, three Sentinels. A node that is silent for ``down`` milliseconds counts as down."""

    name = "counter"

    def __init__(self, directory: Path, down: int = DOWN_MILLISECONDS) -> None:
        """Write the configurations."""
        self._down = down
        self.nodes: list[RedisServer] = [Node(directory, "sentinel")]
        first = self.nodes[0].port
        self.nodes += [Node(directory, "sentinel", f"replicaof 127.0.0.1 {first}") for _ in range(2)]
        self.sentinels = [self.sentinel(directory, first) for _ in range(3)]
        # Otherwise they learn of each other in some seconds.
        replicas = [f"known-replica {self.name} 127.0.0.1 {node.port}" for node in self.nodes[1:]]
        ids = {one.port: token_hex(20) for one in self.sentinels}
        known = {port: f"known-sentinel {self.name} 127.0.0.1 {port} {identity}" for port, identity in ids.items()}
        for sentinel in self.sentinels:
            own = {sentinel.port: f"myid {ids[sentinel.port]}"}
            with (sentinel.directory / "redis.conf").open("a") as config:
                config.writelines(f"sentinel {line}\n" for line in (*replicas, *(known | own).values()))

    def sentinel(self, directory: Path, primary: int) -> RedisServer:
        """Return a Sentinel that has yet to be started."""
        watched = f"sentinel monitor {self.name} 127.0.0.1 {primary} 2"
        down = f"sentinel down-after-milliseconds {self.name} {self._down}"
        return Node(directory, "sentinel", watched, down, sentinel=True)

    def up(self) -> SentinelSet:
        """Start everything and wait until a failover could happen."""
        for node in self.nodes:
            node.up()
        for sentinel in self.sentinels:
            sentinel.up()
            # One that stood still for two seconds acts on nothing for a while. That is 30 seconds by default.
            sentinel.client().execute_command("SENTINEL", "DEBUG", "TILT-PERIOD", 1000)

        def known() -> bool:
            seen = [one for sentinel in self.sentinels for one in sentinel.client().sentinel_slaves(self.name)]
            return all((one["flags"], one["master-link-status"]) == ("slave", "ok") for one in seen)

        wait_until("both replicas to follow", lambda: self.nodes[0].client().wait(2, 200) == 2, 30)
        wait_until("the Sentinels to see the replicas", known, 30)
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
        return logged_in("sentinel", self.nodes) | {
            "SENTINEL_NODES": addresses(self.sentinels),
            "REPLICAS_PER_PRIMARY": "2",
        }


class Cluster:
    """Three primaries with one replica each. A node that is silent for ``down`` milliseconds counts as down."""

    def __init__(self, directory: Path, down: int = DOWN_MILLISECONDS) -> None:
        """Write the configurations."""
        options = "cluster-announce-hostname localhost", f"cluster-node-timeout {down}"
        self.nodes: list[RedisServer] = [Node(directory, "cluster", *options) for _ in range(6)]
        self.processes = self.nodes
        # To let them meet takes some seconds more than to start nodes that have met.
        ids, bounds = [token_hex(20) for _ in self.nodes], (0, 5461, 10923, 16384)
        for own in self.nodes:
            lines = ["vars currentEpoch 3 lastVoteEpoch 0\n"]
            for number, node in enumerate(self.nodes):
                shard, kind = number % 3, "myself," if node is own else ""
                role = f"{kind}slave {ids[shard]}" if number > 2 else f"{kind}master -"
                slots = "" if number > 2 else f" {bounds[shard]}-{bounds[shard + 1] - 1}"
                where = f"{node.address}@{node.port + 10_000},localhost"
                lines.append(f"{ids[number]} {where} {role} 0 0 {shard + 1} connected{slots}\n")
            (own.directory / "nodes.conf").write_text("".join(lines))

    def up(self) -> Cluster:
        """Start the nodes."""
        for node in self.nodes:
            node.up()
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
        # By the names that the nodes announce.
        named = addresses(self.nodes).replace("127.0.0.1", "localhost")
        return logged_in("cluster", self.nodes) | {"REDIS_NODES": named, "REPLICAS_PER_PRIMARY": "1"}


def topology(
    kind: str, directory: Path, down: int = DOWN_MILLISECONDS
) -> tuple[Any, list[RedisServer], dict[str, str]]:
    """Return a topology that has yet to be started, its processes, and ``COUNTER_*`` (without the prefix) for it."""
    if kind == "standalone":
        node = Node(directory, kind)
        return node, [node], logged_in(kind, [node])
    found = SentinelSet(directory, down) if kind == "sentinel" else Cluster(directory, down)
    return found, found.processes, found.environ()


def logged_in(kind: str, nodes: Sequence[RedisServer]) -> dict[str, str]:
    """Return what lets the app log in at the nodes with its password, as deployed."""
    password = nodes[0].directory.parent / "password"
    password.write_text(APP_PASSWORD)
    return {"TOPOLOGY": kind, "REDIS_NODES": addresses(nodes), "REDIS_PASSWORD_FILE": str(password)}


def shown_counters(store: Store) -> dict[str, int]:
    """Return the counters that the app shows. One look waits half a second for a node; a busy machine may need more."""

    def look() -> list[dict[str, int]]:
        found = store.describe().counters
        return [] if found is None else [found]

    return wait_until("a look at the counters", look)[0]


def addresses(servers: Iterable[RedisServer]) -> str:
    """Return ``host:port,host:port``."""
    return ",".join(server.address for server in servers)
