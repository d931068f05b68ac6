"""Less ``redis_memory`` than the data takes is refused, with a server that stands for the app."""

from __future__ import annotations

import json
import re
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml
from support.ansible import ROOT, play, run
from support.ports import free_port
from support.workers import made_once

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


# Which memory is asked for, and whether an app answers.
ASKED = {
    "less": ("128M", True),
    "enough": ("192M", True),
    "same": ("256M", True),
    "more": ("1G", True),
    "silent": ("64M", False),
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Return what each deployment is refused with, and which had to read how much memory the nodes use."""
    return made_once(tmp_path_factory, "memory", deploy)


def deploy(site: Path) -> dict[str, list[str]]:
    """Run the tasks before Redis is deployed, on stacks with 256M; each host stands for one."""
    with HTTPServer(("127.0.0.1", 0), App) as app:
        Thread(target=app.serve_forever, daemon=True).start()
        hosts = {
            name: {
                "redis_memory": memory,
                "ansible_connection": "local",
                "docker_host_engine": {"host_info": {"Swarm": {"NodeAddr": "127.0.0.1"}}},
                "swarm_nodes": {"nodes": [{"ID": "id-1", "Spec": {"Labels": {"counter.redis-1": "here"}}}]},
                "deployed_store": {"files": {}},
                "deployed": {
                    "addresses": ["127.0.0.1"],
                    "settings": {"http_port": app.server_port if answers else free_port(), "redis_memory": "256M"},
                    "move": {},
                    "redis": {},
                },
            }
            for name, (memory, answers) in ASKED.items()
        }
        (site / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": hosts}}))
        refuse = {"ansible.builtin.import_role": {"name": "redis", "tasks_from": "refuse"}}
        (site / "play.yml").write_text(yaml.safe_dump(play(refuse)))
        done = run(
            *("ansible-playbook", "-i", site / "hosts.yml", site / "play.yml"),
            ANSIBLE_ROLES_PATH=str(ROOT / "roles"),
            ANSIBLE_ANY_ERRORS_FATAL="false",
        )
        app.shutdown()
    output = re.sub(r"\s+", " ", done.stdout.partition("PLAY RECAP")[0])
    assert "TASK [redis : " in output, done.stdout + done.stderr
    parts = re.split(r"fatal: \[(\w+)\]", output)
    read = output.partition("Read how much memory the nodes use")[2].partition("TASK [redis")[0]
    return dict(zip(parts[1::2], ([text] for text in parts[2::2]), strict=True)) | {
        "read": re.findall(r"\[(\w+)\]", read)
    }


def test_memory_that_the_data_would_fill_is_refused(said: dict[str, list[str]]) -> None:
    assert set(said) == {"less", "read"}
    [message] = said["less"]
    assert "redis_memory=128M: a node of counter holds 100.0 MiB, but may then hold only 76.8 MiB (60 %)" in message
    assert "No node was changed. Keep the deployed value, preferably in the inventory: -e redis_memory=256M" in message


def test_memory_that_suffices_or_of_which_nothing_is_known_is_taken(said: dict[str, list[str]]) -> None:
    """Only for less memory, the app is asked."""
    assert sorted(set(said["read"])) == ["enough", "less", "silent"]
    assert not {"enough", "same", "more", "silent"} & said.keys()
