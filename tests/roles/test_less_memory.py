"""Less ``redis_memory`` than the data takes is refused, with a server that stands for the app."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml
from support.ansible import ROOT, run
from support.ports import free_port

USED = 100 << 20


class App(BaseHTTPRequestHandler):
    """Describes two nodes, one of which says nothing of its memory."""

    def do_GET(self) -> None:
        nodes = [{"name": "redis-1", "reachable": True, "memory": {"used": USED, "limit": 153 << 20}}]
        body = json.dumps({"nodes": [*nodes, {"name": "redis-2", "reachable": True}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), App) as app:
        Thread(target=app.serve_forever, daemon=True).start()
        yield app.server_port
        app.shutdown()


def deploy(site: Path, port: int, memory: str) -> tuple[int, str]:
    """Run the tasks before Redis is deployed, on a stack with 256M; return the exit status, and what is printed."""
    node = {"ID": "id-1", "Spec": {"Labels": {"counter.redis-1": "here"}}}
    facts = {
        "swarm_nodes": {"nodes": [node]},
        "deployed_store": {"files": {}},
        "deployed": {
            "addresses": ["127.0.0.1"],
            "settings": {"http_port": port, "redis_memory": "256M"},
            "move": {},
            "redis": {},
        },
    }
    tasks = [
        {"ansible.builtin.import_role": {"name": "preflight", "tasks_from": "settings"}},
        {"ansible.builtin.set_fact": facts},
        {"ansible.builtin.import_role": {"name": "redis", "tasks_from": "refuse"}},
    ]
    host = {"ansible_connection": "local", "docker_host_engine": {"host_info": {"Swarm": {"NodeAddr": "127.0.0.1"}}}}
    (site / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": {"host": host}}}))
    (site / "play.yml").write_text(yaml.safe_dump([{"hosts": "managers", "roles": ["settings"], "tasks": tasks}]))
    done = run(
        *("ansible-playbook", "-i", site / "hosts.yml", site / "play.yml", "-e", f"redis_memory={memory}"),
        ANSIBLE_ROLES_PATH=str(ROOT / "roles"),
    )
    return done.returncode, re.sub(r"\s+", " ", done.stdout + done.stderr)


def test_memory_that_the_data_would_fill_is_refused(tmp_path: Path, port: int) -> None:
    status, said = deploy(tmp_path, port, "128M")
    assert status != 0
    assert "redis_memory=128M: a node of counter holds 100.0 MiB, but may then hold only 76.8 MiB (60 %)" in said
    assert "No node was changed. Keep the deployed value, preferably in the inventory: -e redis_memory=256M" in said


@pytest.mark.parametrize("memory", ["192M", "256M", "1G"])
def test_memory_that_suffices_is_taken(tmp_path: Path, port: int, memory: str) -> None:
    status, said = deploy(tmp_path, port, memory)
    assert status == 0, said
    assert ("Read how much memory the nodes use" in said) == (memory == "192M")


def test_without_an_answer_nothing_is_refused(tmp_path: Path) -> None:
    status, said = deploy(tmp_path, free_port(), "64M")
    assert status == 0, said
