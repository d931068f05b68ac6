"""The program keeper in a process, and what receives its messages."""

from __future__ import annotations

import json
import os
import queue
import re
import socketserver
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_string
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from support.ports import free_port, listens
from support.processes import Process
from support.serving import Handler, serving
from support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
HURRY = 0.01
"""A look each 0.15 s; a problem is told when it has lasted for 0.9 s."""
Received = queue.Queue[dict[str, Any]]


class KeeperProcess(Process):
    """The keeper with a plan, in a directory."""

    def __init__(self, directory: Path, **plan: Any) -> None:
        """Take the plan (``keeper.plan``)."""
        self.port, self.files = free_port(), directory / "keeper"
        self.files.mkdir(exist_ok=True)
        own = {"stack": "counter", "port": self.port, "files": str(self.files), "hurry": HURRY}
        self.plan: dict[str, Any] = own | plan
        super().__init__([sys.executable, "-m", "keeper"], directory / "keeper.log")

    def start(self) -> None:
        """Start it with the plan as it is now."""
        self.environ = os.environ | {"PYTHONPATH": str(ROOT), "KEEPER_PLAN": json.dumps(self.plan)}
        super().start()
        wait_until("the keeper", lambda: listens(self.port))

    def read(self, path: str) -> str:
        """Return what it serves at a path."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            text: str = answer.read().decode()
        return text

    def metric(self, name: str) -> float | None:
        """Return a metric by its name and labels; None if there is none."""
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.read("/metrics"), re.MULTILINE)
        return float(found[1]) if found else None

    def looks(self, number: int) -> None:
        """Wait for so many looks that begin from now on."""
        for _ in range(number + 1):
            last = self.metric("counter_keeper_look_timestamp_seconds")
            wait_until("a look", partial(self._looked_since, last))

    def _looked_since(self, last: float | None) -> bool:
        return self.metric("counter_keeper_look_timestamp_seconds") != last

    def written(self) -> dict[str, Any]:
        """Return its state as a file."""
        found: dict[str, Any] = json.loads((self.files / "state.json").read_text())
        return found


@contextmanager
def webhook(status: int = 200) -> Iterator[tuple[str, Received]]:
    """Run an HTTP server; yield HOST:PORT, and what is posted to it as JSON, or the path that is called."""
    received: Received = queue.Queue()

    class Hook(Handler):
        def reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            received.put(json.loads(body) if body else {"path": self.path})
            self.answer(b"{}", status)

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Hook)) as server:
        yield f"127.0.0.1:{server.server_port}", received


@contextmanager
def mail_server() -> Iterator[tuple[str, Received]]:
    """Run an SMTP server that accepts any mail; yield HOST:PORT, and the mails."""
    received: Received = queue.Queue()

    class Session(socketserver.StreamRequestHandler):
        def say(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

        def handle(self) -> None:
            self.say("220 mail.example")
            for line in self.rfile:
                match line.split()[0].upper():
                    case b"DATA":
                        self.say("354 go on")
                        text = "".join(iter(lambda: self.rfile.readline().decode().replace("\r\n", "\n"), ".\n"))
                        mail = message_from_string(text)
                        part = next(part for part in mail.walk() if not part.is_multipart())
                        payload = part.get_payload(decode=True)
                        assert isinstance(payload, bytes)
                        received.put({"title": mail["Subject"], "message": payload.decode()})
                        self.say("250 taken")
                    case b"QUIT":
                        self.say("221 bye")
                        return
                    case _:
                        self.say("250 mail.example")

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with serving(Server(("127.0.0.1", 0), Session)) as server:
        yield f"127.0.0.1:{server.server_address[1]}", received


def taken(received: Received) -> list[dict[str, Any]]:
    """Return what has arrived, and forget it."""
    return [received.get_nowait() for _ in range(received.qsize())]
