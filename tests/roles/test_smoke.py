"""The last stage of a deployment: what it counts must be what the counter grew by."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import CompletedProcess
from threading import Thread

import pytest
import yaml
from support.ansible import ROOT, run


class Counting(BaseHTTPRequestHandler):
    """A counter of two replicas, which breaks off its second answer; each increment adds `surplus` more than one."""

    value = 0
    asked = 0
    surplus = 0
    limit = 99
    """The requests until the edge's limit is reached once."""

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        """Return the value."""
        if self.is_limited():
            return
        self.answer({"value": Counting.value})

    def do_POST(self) -> None:
        """Count; return the replica."""
        if self.is_limited():
            return
        Counting.asked += 1
        Counting.value += 1 + Counting.surplus
        if Counting.asked != 2:
            self.answer({"replica": str(Counting.asked % 2)})

    def is_limited(self) -> bool:
        """Answer as the edge does beyond its limit."""
        Counting.limit -= 1
        if Counting.limit:
            return False
        self.send_response(429)
        self.send_header("Retry-After", "1")
        self.send_header("Content-Length", "0")
        self.end_headers()
        return True

    def answer(self, document: dict[str, int | str]) -> None:
        """Send a document."""
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def origin() -> Iterator[str]:
    """Serve a counter; return its address."""
    Counting.value = Counting.asked = Counting.surplus = 0
    Counting.limit = 99
    with ThreadingHTTPServer(("127.0.0.1", 0), Counting) as server:
        Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def smoke(site: Path, origin: str, timeout: int = 20) -> CompletedProcess[str]:
    """Check the counter."""
    play = {
        "hosts": "localhost",
        "roles": ["settings"],
        "tasks": [
            {"ansible.builtin.import_role": {"name": "preflight", "tasks_from": "settings"}},
            {"ansible.builtin.import_role": {"name": "smoke"}},
        ],
    }
    (site / "play.yml").write_text(yaml.safe_dump([play]))
    given = {
        "replicas": 2,
        "counter_origins": [origin],
        "counter_url": f"{origin}/",
        "counter_headers": {},
        "https_served": [],
        "smoke_timeout": timeout,
    }
    (site / "hosts.yml").write_text("{managers: {hosts: {localhost: {ansible_connection: local}}}}")
    return run(
        *("ansible-playbook", "-i", site / "hosts.yml", site / "play.yml", "-e", json.dumps(given)),
        ANSIBLE_ROLES_PATH=str(ROOT / "roles"),
        # A proxy for the internet does not know the nodes.
        http_proxy="http://127.0.0.1:1",
        no_proxy="",
    )


def test_an_increment_without_an_answer_may_have_counted(tmp_path: Path, origin: str) -> None:
    done = smoke(tmp_path, origin)
    assert done.returncode == 0, done.stdout
    assert Counting.asked == Counting.value == 4
    assert f"{origin}: 3 acknowledged, 4 counted, replicas 0 1" in done.stdout


@pytest.mark.parametrize("limit", [1, 2, 6])
def test_the_limit_of_requests_is_waited_for(tmp_path: Path, origin: str, limit: int) -> None:
    """Also by the last request, which reads the counter."""
    Counting.limit = limit
    done = smoke(tmp_path, origin)
    assert done.returncode == 0, done.stdout
    assert Counting.limit <= 0
    assert f"{origin}: 3 acknowledged, 4 counted, replicas 0 1" in done.stdout


def test_another_program_at_the_address_is_recognized(
    tmp_path: Path, origin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Counting, "do_GET", lambda self: self.answer({"status": "ok"}))
    done = smoke(tmp_path, origin, timeout=5)
    assert done.returncode != 0
    said = " ".join(done.stdout.split())
    assert "0 of 2 replicas answered" in said
    assert "last error: the answer has no value: another program may answer there" in said


def test_a_counter_that_grows_by_more_is_refused(tmp_path: Path, origin: str) -> None:
    Counting.surplus = 1
    done = smoke(tmp_path, origin)
    assert done.returncode != 0
    assert "increments were acknowledged at" in done.stdout
    assert f"the counter grew by {Counting.value}" in done.stdout
