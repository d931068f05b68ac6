"""Ports and networks of 127.0.0.0/8."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager

_held: list[socket.socket] = []


def free_port() -> int:
    """Return a TCP port that nothing listens on, and that no process gets from here while this one runs.

    Tests in other processes must not take the port of a server that is down for a moment. So each port is held by a
    UDP socket of the same number, which a server that listens on TCP does not notice.

    It lies below the range from which the kernel takes the ports of outgoing connections, so that it is still free when
    a server starts, and when it starts again. The port 10,000 above it, where a node of a Redis Cluster listens too, is
    never returned.
    """
    while True:
        port = random.randrange(10_000, 20_000)
        if _hold("127.0.0.1", port) and not listens(port):
            return port


@contextmanager
def closed_port() -> Iterator[int]:
    """Yield a TCP port that refuses connections, and that nothing else can listen on."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        yield closed.getsockname()[1]


def free_network() -> str:
    """Return the first three numbers of addresses that no process gets from here while this one runs."""
    while True:
        network = f"127.{random.randint(2, 250)}.{random.randint(1, 250)}"
        if _hold(f"{network}.1", 6379):
            return network


def _hold(address: str, port: int) -> bool:
    holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        holder.bind((address, port))
    except OSError:
        holder.close()
        return False
    _held.append(holder)
    return True


def listens(port: int, host: str = "127.0.0.1") -> bool:
    """Tell whether something accepts connections on a port."""
    try:
        with socket.create_connection((host, port), 1):
            return True
    except OSError:
        return False
