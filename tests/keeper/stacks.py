"""A stack of real processes: Redis, two replicas of the app, two edges, and a keeper that tells of them."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from keeper_process import KeeperProcess, Received, mail_server, taken, webhook
from support.edge import HAPROXY, on_loopback
from support.https import SITE, certificate, pem
from support.ports import free_port, listens
from support.processes import Gunicorn, Process, RedisServer, running
from support.waiting import wait_until

from counter.store.keys import BACKUP_KEY

PAIR = {"certificate": certificate(SITE), "key": pem(SITE)}
EDGES: dict[str, dict[str, Any]] = {
    "plain": {},
    "maintenance": {"maintenance": {"text": "Back soon.", "allow": [], "pass": "let-me-through"}},
    "https": {"edge_tls": "own", "https_port": 8443, "edge_certificates": [PAIR], "edge_domains": ["counter.example"]},
}


class Edge(Process):
    """An edge with the configuration that is deployed, in front of the first replica."""

    def __init__(self, directory: Path, texts: dict[str, dict[str, str]], app: Gunicorn) -> None:
        """Take an empty directory, and the rendered files of each of `EDGES`."""
        self._directory, self._texts, self._app = directory, texts, app
        self.port, self.secure, self._operator = free_port(), free_port(), free_port()
        super().__init__([HAPROXY, "-db", "-f", str(directory / "haproxy.cfg")], directory / "haproxy.log")

    def up(self, kind: str = "plain", days: tuple[int, int] = (-1, 90)) -> None:
        """Start it anew with a kind of configuration, and a certificate that is valid for these days."""
        self.kill()
        texts = dict(self._texts[kind])
        texts["haproxy.cfg"] = texts["haproxy.cfg"].replace("bind :8443", f"bind 127.0.0.1:{self.secure}")
        (self._directory / "certificate-1.pem").write_text(certificate(SITE, days=days) + pem(SITE))
        on_loopback(texts, self._directory, edge=self.port, app=self._app.port, operator=self._operator)
        self.start()
        wait_until("the edge", lambda: listens(self.port))


class Stack:
    """All of it. ``hooks`` and ``mails`` are what the keeper sends, ``beats`` its heartbeats."""

    def __init__(self, directory: Path, texts: dict[str, dict[str, str]], context: ExitStack) -> None:
        """Make the processes; the ``context`` ends them."""
        self.redis = RedisServer(directory)
        self.apps = [Gunicorn(directory, str(number), REDIS_NODES=self.redis.address) for number in (1, 2)]
        self.edges = []
        for number in (1, 2):
            place = directory / f"edge-{number}"
            place.mkdir()
            self.edges.append(Edge(place, texts, self.apps[0]))
        hook, self.hooks = context.enter_context(webhook())
        mail, self.mails = context.enter_context(mail_server())
        beat, self.beats = context.enter_context(webhook())
        self.keeper = KeeperProcess(
            directory,
            replicas=2,
            edges=2,
            app_at=",".join(f"127.0.0.1:{app.port}" for app in self.apps),
            edge_at=",".join(f"127.0.0.1:{edge.port}" for edge in self.edges),
            notify_urls=[f"json://{hook}/a-token", f"mailto://{mail}?from=counter@mail.example&to=me@mail.example"],
            heartbeat_url=f"http://{beat}/beat",
        )
        context.enter_context(running(self.redis, *self.apps, *self.edges, self.keeper))

    def serve(self) -> None:
        """Start what the keeper asks."""
        self.redis.up()
        for app in self.apps:
            app.up()
        for edge in self.edges:
            edge.up()

    def up(self) -> Stack:
        """Start all; return when the keeper finds it well."""
        self.serve()
        self.keeper.start()
        wait_until("a heartbeat", self.beats.qsize)
        return self

    def note(self, **newest: str) -> None:
        """Note what the service for backups notes of the newest one."""
        self.redis.client().set(BACKUP_KEY, json.dumps(newest))

    def told(self, received: Received | None = None) -> tuple[str, str]:
        """Wait for the next message; return title and text, and see that there is no other one."""
        received = received or self.hooks
        wait_until("a message", received.qsize)
        self.keeper.looks(4)
        (message,) = taken(received)
        return message["title"], message["message"]
