"""What follows a node as the change log of backups does: as a replica without a port, which confirms nothing."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis import Redis

from support.waiting import wait_until

WAITS = "Waiting for replicas before shutting down"
"""What Redis logs if it does not stop at once."""


@contextmanager
def following(node: Redis, user: str = "", password: str = "", *, port: int = 0) -> Iterator[None]:
    """Follow a node for the block; without a user, where none has to log in. With a port, as a replica that lags."""
    where = node.connection_pool.connection_kwargs
    with socket.create_connection((where["host"], where.get("port", 6379))) as connection:
        if user:
            connection.sendall(f"AUTH {user} {password}\r\n".encode())
            assert connection.recv(100) == b"+OK\r\n"
        if port:
            connection.sendall(f"REPLCONF listening-port {port}\r\n".encode())
            assert connection.recv(100) == b"+OK\r\n"
        connection.sendall(b"PSYNC ? -1\r\n")

        def online() -> bool:
            connection.sendall(b"REPLCONF ACK 0\r\n")
            return any(one["port"] == port and one["state"] == "online" for one in _followers(node))

        wait_until("the follower", online)
        yield


def _followers(node: Redis) -> list[dict[str, Any]]:
    return [one for name, one in node.info("replication").items() if re.fullmatch(r"slave\d+", name)]
