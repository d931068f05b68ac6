"""``python receiver.py ADDRESS PORT FILE``: appends what is sent by POST to a file, one line of JSON each.

A GET is appended as ``{"beat": true}``. It ends by itself after an hour.
"""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

LIFETIME = 3600.0


class Handler(BaseHTTPRequestHandler):
    """Takes everything."""

    file: Path

    def do_POST(self) -> None:
        """Take a message."""
        self.take(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def do_GET(self) -> None:
        """Take a heartbeat."""
        self.take({"beat": True})

    def take(self, what: object) -> None:
        """Append it, and answer."""
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(what) + "\n")
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()


def main(arguments: list[str]) -> None:
    """Serve."""
    address, port, file = arguments
    Handler.file = Path(file)
    with ThreadingHTTPServer((address, int(port)), Handler) as server:
        threading.Timer(LIFETIME, server.shutdown).start()
        server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
