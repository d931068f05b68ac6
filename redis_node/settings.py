"""Settings of a node: its environment, and its secrets, which may change while it runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class Address(NamedTuple):
    """A TCP endpoint; ``str()`` gives ``host:port``."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return ``host:port``."""
        return f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``host:port``; raises ValueError."""
        host, _, port = text.strip().rpartition(":")
        return cls(host, int(port))


@dataclass(frozen=True, slots=True)
class Settings:
    """``NODE_*`` of the environment."""

    kind: str
    """Which module runs this node (see ``__main__``)."""
    address: Address
    """The address of this node."""
    nodes: tuple[Address, ...]
    """All nodes that hold data, in the same order everywhere."""
    sentinels: tuple[Address, ...]
    data: Path
    """Directory of the node's volume."""
    config: Path
    """The configuration that all nodes of this kind share."""
    ca: str
    """File of the authority's certificate; empty: no TLS."""
    write_concern: str
    """``none`` if no replica confirms a write."""
    secrets: Path
    """Directory of users and logins, which the deployment may change while the node runs."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read the environment; raises KeyError or ValueError for what is missing."""
        return cls(
            kind=environ["NODE_KIND"],
            address=Address.parse(environ["NODE_ADDRESS"]),
            nodes=_addresses(environ["NODE_NODES"]),
            sentinels=_addresses(environ.get("NODE_SENTINELS", "")),
            data=Path(environ.get("NODE_DATA", "/data")),
            config=Path(environ.get("NODE_CONFIG", "/etc/redis.conf")),
            ca=environ.get("NODE_CA", ""),
            write_concern=environ.get("NODE_WRITE_CONCERN", "majority"),
            secrets=Path(environ.get("NODE_SECRETS", "/run/secrets")),
        )

    @property
    def listen(self) -> list[str]:
        """The lines of the server's configuration that say at which port it listens."""
        return ["port 0", f"tls-port {self.address.port}"] if self.ca else [f"port {self.address.port}"]

    @property
    def passwords(self) -> Mapping[str, str]:
        """Passwords by user, for the users that nodes log in as. Read each time, because they change."""
        lines = (self.secrets / "logins").read_text(encoding="utf-8").splitlines()
        return dict(line.split() for line in lines if not line.startswith("#"))

    @property
    def peers(self) -> tuple[Address, ...]:
        """The other nodes that hold data."""
        return tuple(node for node in self.nodes if node != self.address)


def _addresses(text: str) -> tuple[Address, ...]:
    return tuple(Address.parse(part) for part in text.split(",") if part.strip())
