"""Ports of 127.0.0.1."""

from __future__ import annotations

import random
import socket

_given: set[int] = set()


def free_port() -> int:
    """Return a port that nothing listens on and that was not returned before.

    It lies below the range from which the kernel takes the ports of outgoing connections, so that it is still free when
    a server starts, and when it starts again. The port 10,000 above it, where a node of a Redis Cluster listens too, is
    never returned.
    """
    while True:
        port = random.randrange(10_000, 20_000)
        if port not in _given and not listens(port):
            _given.add(port)
            return port


def listens(port: int) -> bool:
    """Tell whether something accepts connections on a port."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    except OSError:
        return False
