"""gunicorn's threaded worker, with a bound on what slow clients take from other clients.

In gunicorn's own worker, an incomplete request occupies its thread until the client sends the rest, and a large answer
until the client reads it. When the connection ends, closing it blocks the thread that accepts connections for two
seconds (``gunicorn.util.close_graceful``).
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from functools import partial
from typing import Any

from gunicorn.workers.gthread import TConn, ThreadWorker

RECEIVE_SECONDS = 2.0
"""How long a request's headers may take to arrive."""
STANDSTILL_SECONDS = 1.5
"""If nothing looked for slow clients for so long, this process stood still, and what it has read may be complete."""
LINGER_SECONDS = 2.0
"""How long an answered connection stays half open for a body that no request needs."""


class BoundedWorker(ThreadWorker):  # type: ignore[misc]
    """Ends connections whose client is too slow, and never waits for a client in the accepting thread."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """Take what gunicorn passes."""
        super().__init__(*args, **options)
        self._arriving: dict[TConn, float] = {}
        self._answering: dict[TConn, float] = {}
        self._lingering: dict[TConn, float] = {}
        self._looked = self._runs_since = time.monotonic()

    def handle(self, conn: TConn) -> Any:
        """Read a request and answer it, in one of the threads."""
        if not conn.initialized:
            conn.close = partial(self._close, conn)
        self._arriving[conn] = time.monotonic()
        try:
            return super().handle(conn)
        finally:
            self._arriving.pop(conn, None)

    def handle_request(self, req: Any, conn: TConn) -> Any:
        """Answer a request whose headers have arrived."""
        self._arriving.pop(conn, None)
        # Without a timeout of the socket, which would make Python release its lock once more in each request.
        self._answering[conn] = time.monotonic()
        try:
            return super().handle_request(req, conn)
        finally:
            del self._answering[conn]

    def murder_pending(self) -> None:
        """End connections that take too long; gunicorn calls this at least once a second."""
        super().murder_pending()
        now = time.monotonic()
        if now - self._looked > STANDSTILL_SECONDS:
            self._runs_since = now
        self._looked = now
        slow = [
            conn
            for conn, since in list(self._arriving.items())
            if now - max(since, self._runs_since) > RECEIVE_SECONDS and not _has_unread(conn.sock)
        ]
        # By then a request has its answer (gunicorn_conf), and only its client can be slow.
        slow += [conn for conn, since in list(self._answering.items()) if now - since > self.cfg.graceful_timeout]
        for conn in slow:
            with contextlib.suppress(OSError):  # the connection has just ended
                conn.sock.shutdown(socket.SHUT_RDWR)
        for conn, since in list(self._lingering.items()):
            if now - since > LINGER_SECONDS:
                self._end(conn)

    def _close(self, conn: TConn, *, graceful: bool = False) -> None:
        """Close a connection. A graceful close lets the client read the answer first (RFC 9112, section 9.6).

        gunicorn's own waits for the client, who may be slow. This one leaves the socket to the poller.
        """
        if not graceful or len(self._lingering) >= self.worker_connections:
            TConn.close(conn)
            return
        try:
            conn.sock.settimeout(0)
            conn.sock.shutdown(socket.SHUT_WR)
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._drain, conn))
        except OSError:  # the client has closed it
            TConn.close(conn)
            return
        self._lingering[conn] = time.monotonic()

    def _drain(self, conn: TConn, sock: socket.socket) -> None:
        """Discard what the client still sends; end the connection when the client has closed it."""
        with contextlib.suppress(OSError):
            if sock.recv(1 << 16):
                return
        self._end(conn)

    def _end(self, conn: TConn) -> None:
        del self._lingering[conn]
        self.poller.unregister(conn.sock)
        TConn.close(conn)


def _has_unread(sock: socket.socket) -> bool:
    """Tell whether something has arrived: then this process is slow, and not the client."""
    try:
        return bool(sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except OSError:
        return False
