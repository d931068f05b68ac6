"""The application's configuration: one frozen object read once from the environment."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NoReturn

from counter.cors import ANY

CLOCK_SKEW_SECONDS = 120.0
"""The largest difference between the clocks of two Redis nodes."""
NO_ORIGINS = "none"
_ORIGIN = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")


class ConfigError(ValueError):
    """A variable of the environment breaks a rule; the text names value, rule and an example."""


class Topology(StrEnum):
    """How the Redis nodes behind the counter are arranged."""

    STANDALONE = "standalone"
    INDEPENDENT = "independent"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"
    EXTERNAL = "external"


class WriteConcern(StrEnum):
    """Which Redis nodes must have an increment on disk before it is acknowledged, the primary included."""

    NONE = "none"
    MAJORITY = "majority"
    ALL = "all"


class Edge(StrEnum):
    """What stands between the client and the replicas."""

    PROXY = "proxy"
    MESH = "mesh"
    NONE = "none"


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """A TCP endpoint; ``str()`` gives ``host:port``."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return ``host:port``."""
        return f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str, default_port: int) -> Address:
        """Read ``host`` or ``host:port``."""
        host, separator, port = text.strip().rpartition(":")
        if not separator:
            return cls(text.strip(), default_port)
        return cls(host, int(port))


@dataclass(frozen=True, slots=True)
class Config:
    """All settings of the process. Durations are in seconds."""

    topology: Topology = Topology.STANDALONE
    redis_nodes: tuple[Address, ...] = (Address("127.0.0.1", 6379),)
    sentinel_nodes: tuple[Address, ...] = ()
    redis_url: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    site: str = ""
    """Whose data Redis must hold (``counter.store.site``); empty: anybody's."""
    write_concern: WriteConcern = WriteConcern.MAJORITY
    replicas_per_primary: int = 0
    edge: Edge = Edge.NONE
    replica: str = "1"
    node: str = "localhost"
    image: str = "dev"
    """The tag of the image."""
    version: str = ""
    """The project's version; empty if it is unknown."""
    threads: int = 32
    deadline: float = 5.0
    drain: float = 3.0
    key_seconds: float = 600.0
    history_log: bool = False
    max_counters: int = 100_000
    new_counters_per_minute: int = 1_000
    """For the whole stack, like the number of counters."""
    cors_origins: tuple[str, ...] = ("*",)
    """Whose scripts may read the answers (``counter.cors``)."""

    @property
    def id_lifetime(self) -> float:
        """The least time for which an id is stored, from the first attempt.

        A client may learn at the deadline that the result is unknown, repeat at the end of ``key_seconds`` after that,
        and the repeat takes until its own deadline. The clock of the host that is the primary by then decides whether
        the id has expired.
        """
        return self.key_seconds + 2 * self.deadline + CLOCK_SKEW_SECONDS

    @property
    def required_acks(self) -> int:
        """Replicas (the primary not counted) that must confirm an increment before it is acknowledged."""
        match self.write_concern:
            case WriteConcern.NONE:
                return 0
            case WriteConcern.MAJORITY:
                return (self.replicas_per_primary + 1) // 2
            case WriteConcern.ALL:
                return self.replicas_per_primary

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Config:
        """Read ``COUNTER_*``; every variable has a default.

        Raises:
            ConfigError: a value is not allowed.

        """
        env, default = _Environment(environ), cls()
        topology = env.choice("TOPOLOGY", Topology, default.topology)
        redis_nodes = env.addresses("REDIS_NODES", str(default.redis_nodes[0]), 6379)
        sentinel_nodes = env.addresses("SENTINEL_NODES", "", 26379)
        redis_url = env.secret("REDIS_URL_FILE") or env.text("REDIS_URL", "") or None
        password = env.secret("REDIS_PASSWORD_FILE")
        if topology is Topology.SENTINEL and not sentinel_nodes:
            env.refuse("SENTINEL_NODES", "", "topology sentinel needs it", "sentinel-1:26379,sentinel-2:26379")
        if topology is Topology.EXTERNAL and not (redis_url or "").startswith(("redis://", "rediss://")):
            shown = re.sub(r"//.*@", "//***@", redis_url or "")  # without a password
            env.refuse("REDIS_URL", shown, "topology external needs redis:// or rediss://", "redis://host:6379")
        deadline = env.seconds("DEADLINE_SECONDS", default.deadline, 0.3, 60.0)
        key_seconds = env.seconds("KEY_SECONDS", default.key_seconds, 10.0, 604800.0)
        if key_seconds < 2 * deadline:
            rule = f"must be at least twice the deadline of {deadline:g} s, to leave time for a repeat"
            env.refuse("KEY_SECONDS", f"{key_seconds:g}", rule, f"{2 * deadline:g}")
        hostname = socket.gethostname()
        return cls(
            topology=topology,
            redis_nodes=redis_nodes,
            sentinel_nodes=sentinel_nodes,
            redis_url=redis_url,
            password=password,
            ca_file=env.text("REDIS_CA_FILE", "") or None,
            site=env.text("SITE", ""),
            write_concern=env.choice("WRITE_CONCERN", WriteConcern, default.write_concern),
            replicas_per_primary=env.integer("REPLICAS_PER_PRIMARY", _default_replicas(topology, redis_nodes), 0, 1000),
            edge=env.choice("EDGE", Edge, default.edge),
            replica=env.text("REPLICA", hostname),
            node=env.text("NODE", hostname),
            image=env.text("IMAGE", default.image),
            version=env.text("VERSION", default.version),
            threads=env.integer("THREADS", default.threads, 2, 1000),
            deadline=deadline,
            drain=env.seconds("DRAIN_SECONDS", default.drain, 0.0, 600.0),
            key_seconds=key_seconds,
            history_log=env.flag("HISTORY_LOG"),
            max_counters=env.integer("MAX_COUNTERS", default.max_counters, 1, 10_000_000),
            new_counters_per_minute=env.integer(
                "NEW_COUNTERS_PER_MINUTE", default.new_counters_per_minute, 1, 1_000_000
            ),
            cors_origins=env.origins("CORS_ORIGINS", default.cors_origins),
        )


def _default_replicas(topology: Topology, nodes: tuple[Address, ...]) -> int:
    match topology:
        case Topology.SENTINEL:
            return max(len(nodes) - 1, 2)
        case Topology.CLUSTER:
            return 1
        case _:
            return 0


@dataclass(frozen=True, slots=True)
class _Environment:
    """Typed access to ``COUNTER_*`` with errors that say what would be right."""

    variables: Mapping[str, str]

    def refuse(self, name: str, value: str, rule: str, example: str) -> NoReturn:
        msg = f"COUNTER_{name}={value!r}: {rule}; for example COUNTER_{name}={example}"
        raise ConfigError(msg)

    def text(self, name: str, default: str) -> str:
        return self.variables.get(f"COUNTER_{name}", "").strip() or default

    def choice[E: StrEnum](self, name: str, kind: type[E], default: E) -> E:
        value = self.text(name, default)
        if value not in {member.value for member in kind}:
            self.refuse(name, value, "must be one of " + ", ".join(kind), default)
        return kind(value)

    def integer(self, name: str, default: int, least: int, most: int) -> int:
        value = self.text(name, str(default))
        if not (value.isascii() and value.isdigit() and least <= int(value) <= most):
            self.refuse(name, value, f"must be a whole number from {least} to {most}", str(default))
        return int(value)

    def seconds(self, name: str, default: float, least: float, most: float) -> float:
        value = self.text(name, str(default))
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not least <= number <= most:
            self.refuse(name, value, f"must be a number of seconds from {least:g} to {most:g}", f"{default:g}")
        return number

    def flag(self, name: str) -> bool:
        value = self.text(name, "false").lower()
        if value not in {"0", "1", "false", "true", "no", "yes"}:
            self.refuse(name, value, "must be true or false", "true")
        return value in {"1", "true", "yes"}

    def addresses(self, name: str, default: str, default_port: int) -> tuple[Address, ...]:
        value = self.text(name, default)
        try:
            return tuple(Address.parse(item, default_port) for item in value.split(",") if item.strip())
        except ValueError:
            self.refuse(name, value, "must be host:port,host:port", f"redis-1:{default_port},redis-2:{default_port}")

    def origins(self, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
        value = self.text(name, ",".join(default))
        found = () if value == NO_ORIGINS else tuple(item.strip() for item in value.split(","))
        if not all(item == ANY or _ORIGIN.fullmatch(item) for item in found):
            rule = f"must be {ANY}, {NO_ORIGINS}, or origins: a scheme and a host, without a path or a slash at the end"
            self.refuse(name, value, rule, "https://blog.example,https://shop.example:8443")
        return found

    def secret(self, name: str) -> str | None:
        path = self.text(name, "")
        if not path:
            return None
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            self.refuse(name, path, f"must be a readable file ({error.strerror})", "/run/secrets/redis_password")
