"""An HTTP server that keeps what a service reports to it."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BEAT: dict[str, Any] = {"beat": True}
"""What stands for a heartbeat among the reports."""


@contextmanager
def receiver(*, status: int = 204) -> Iterator[tuple[str, queue.Queue[dict[str, Any]]]]:
    """Run the server, which answers with a status; yield its address, and what is sent to it."""
    received: queue.Queue[dict[str, Any]] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self._take(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def do_GET(self) -> None:
            self._take(BEAT)

        def _take(self, what: dict[str, Any]) -> None:
            received.put(what)
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", received
    finally:
        server.shutdown()
