"""gunicorn's threaded worker, with a bound on what slow clients take from other clients.

In gunicorn's own worker, an incomplete request occupies its thread until the client sends the rest. When the connection
ends, closing it blocks the thread that accepts connections for two seconds (``gunicorn.util.close_graceful``).
"""

from __future__ import annotations

import contextlib
import socket
import time
from functools import partial
from typing import Any

from gunicorn.workers.gthread import TConn, ThreadWorker

RECEIVE_SECONDS = 2.0
"""How long a request may take to arrive. The edge sends only complete requests."""


class BoundedWorker(ThreadWorker):  # type: ignore[misc]
    """Ends connections whose request does not arrive, and never waits for a client in the accepting thread."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """Take what gunicorn passes."""
        super().__init__(*args, **options)
        self._arriving: dict[TConn, float] = {}

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
        return super().handle_request(req, conn)

    def murder_pending(self) -> None:
        """End connections whose request takes too long; gunicorn calls this once a second."""
        super().murder_pending()
        late = time.monotonic() - RECEIVE_SECONDS
        for conn, since in list(self._arriving.items()):
            if since < late:
                with contextlib.suppress(OSError):  # the connection has just ended
                    conn.sock.shutdown(socket.SHUT_RDWR)

    def _close(self, conn: TConn, *, graceful: bool = False) -> None:
        """Close a connection. A graceful close waits for the client, so it runs in one of the threads."""
        if graceful and self.alive:
            self.tpool.submit(TConn.close, conn, graceful=True)
        else:
            TConn.close(conn, graceful)
