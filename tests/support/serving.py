"""HTTP servers of the tests, which answer as a part of a deployment does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from socketserver import BaseServer


class Handler(BaseHTTPRequestHandler):
    """Keeps its connections, and prints nothing. A server defines ``reply``."""

    protocol_version = "HTTP/1.1"

    def reply(self) -> None:
        """Answer one request."""
        raise NotImplementedError

    def do_GET(self) -> None:
        """Answer one request."""
        self.reply()

    def do_POST(self) -> None:
        """Answer one request."""
        self.reply()

    def answer(self, body: bytes = b"", status: int = 200, **headers: str) -> None:
        """Send an answer; an underscore in the name of a header stands for a hyphen."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        """Return nothing: the peer of a socket of Unix has no address."""
        return ""

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def serving[Server: BaseServer](server: Server) -> Iterator[Server]:
    """Serve until the block ends."""
    with server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
