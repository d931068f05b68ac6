"""An engine that answers what a test gives it, for Ansible's own modules to ask: in states that no machine is in."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

# Path and body of the request.
Change = Callable[[str, Any], None]


class Engine(ThreadingMixIn, UnixStreamServer):
    """Serves the engine's API on a socket; ``answers`` is path -> answer, or a function of the query's ``filters``.

    ``look`` gets the path before each answer, ``change`` gets path and body of each change.
    """

    daemon_threads = True

    def __init__(self, path: Path, answers: dict[str, Any]) -> None:
        super().__init__(str(path), Handler)
        self.answers = answers
        self.look: Callable[[str], None] = lambda _path: None
        self.change: Change = lambda _path, _body: None


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: Engine
    protocol_version = "HTTP/1.1"

    def address_string(self) -> str:
        return "socket"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        path = self.plain_path()
        self.server.look(path)
        found = path in self.server.answers
        answer = self.server.answers[path] if found else {"message": f"nothing at {path}"}
        if callable(answer):
            answer = answer(json.loads(parse_qs(urlsplit(self.path).query).get("filters", ["{}"])[0]))
        body = json.dumps(answer).encode()
        missing = HTTPStatus.SERVICE_UNAVAILABLE if path == "/swarm" else HTTPStatus.NOT_FOUND
        self.send_response(HTTPStatus.OK if found else missing)
        self.send_header("Api-Version", "1.41")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def change(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "null")
        self.server.change(self.plain_path(), body)
        self.do_GET()

    def plain_path(self) -> str:
        return re.sub(r"^/v[\d.]+(?=/)|\?.*", "", self.path)

    do_POST = do_PUT = do_DELETE = change  # noqa: N815


SETTINGS = {
    "Name": "default",
    "Orchestration": {"TaskHistoryRetentionLimit": 5},
    "Raft": {"SnapshotInterval": 10_000},
    "Dispatcher": {"HeartbeatPeriod": 5_000_000_000},
    "TaskDefaults": {},
}
"""Those of a new swarm; the period is in nanoseconds."""


def engine(
    node: str = "", *, manager: bool = False, roles: Mapping[str, str] | None = None, settings: Any = SETTINGS
) -> dict[str, Any]:
    """Return the answers of an old engine that has the base image, as ``node`` of a swarm, if that is given.

    ``settings``: those of the swarm.
    """
    swarm: dict[str, Any] = {
        "NodeID": node,
        "LocalNodeState": "active" if node else "inactive",
        "ControlAvailable": manager,
        "NodeAddr": "127.0.0.1",
    }
    image = {"Id": "sha256:base", "RepoTags": ["debian:trixie-slim"]}
    cluster = {"ID": "swarm", "Spec": settings}
    answers = {
        "/version": {"ApiVersion": "1.41", "MinAPIVersion": "1.12", "Version": "20.10.24"},
        "/info": {
            "Name": node,
            "ServerVersion": "20.10.24",
            "DockerRootDir": "/no/such/directory",
            "Swarm": swarm | ({"Cluster": cluster} if manager else {}),
        },
        "/containers/json": [],
        "/networks": [],
        "/networks/create": {"Id": "gateway"},
        "/volumes": {"Volumes": []},
        "/images/json": [image],
        f"/images/{image['Id']}/json": image,
    }
    if manager:
        described = {name: describe(name, role) for name, role in (roles or {node: "manager"}).items()}
        answers |= {f"/nodes/{name}": about for name, about in described.items()}
        answers |= {f"/nodes/{name}/update": {} for name in described}
        tokens = {"JoinTokens": {"Manager": "token-of-managers", "Worker": "token-of-workers"}, "Version": {"Index": 1}}
        answers |= {
            "/nodes": list(described.values()),
            "/services": [],
            "/configs": [],
            "/tasks": [],
            "/swarm": cluster | tokens,
            "/swarm/update": {},
        }
    else:
        answers |= {"/swarm/leave": {}, "/swarm/join": {}}
    return answers


def describe(node: str, role: str) -> dict[str, Any]:
    """Return what a manager knows of a node."""
    return {
        "ID": node,
        "Version": {"Index": 1},
        "Spec": {"Role": role, "Availability": "active", "Labels": {"counter.host": node}},
        "Description": {"Hostname": node},
        "Status": {"State": "ready", "Addr": "127.0.0.1"},
    }


@contextmanager
def serve(site: Path, name: str, answers: dict[str, Any]) -> Iterator[Engine]:
    """Run an engine; ``site``/NAME.python is an interpreter whose modules ask it."""
    with Engine(site / f"{name}.sock", answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        interpreter(site, name, sys.executable)
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def interpreter(site: Path, name: str, python: str) -> None:
    """Write ``site``/NAME.python, an interpreter whose modules find the engine of that name, which may not be there."""
    path = site / f"{name}.python"
    path.write_text(f'#!/bin/sh\nDOCKER_HOST="unix://{site}/{name}.sock" exec {python} "$@"\n')
    path.chmod(0o755)
