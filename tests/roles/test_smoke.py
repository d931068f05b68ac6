"""The last stage of a deployment: what it counts must be what the counter grew by."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from support.ansible import ROOT, play, run
from support.workers import made_once


class Counter(ThreadingHTTPServer):
    """A counter of two replicas, which breaks off its second answer; each increment adds ``surplus`` more than one."""

    def __init__(self, *, surplus: int = 0, limit: int = 99, is_another: bool = False) -> None:
        """Let the edge's limit of requests be reached once, by request number ``limit``."""
        super().__init__(("127.0.0.1", 0), Counting)
        self.value = self.asked = 0
        self.surplus, self.limit, self.is_another = surplus, limit, is_another


class Counting(BaseHTTPRequestHandler):
    """Answers one request."""

    server: Counter

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        """Return the value."""
        if not self.is_limited():
            self.answer({"status": "ok"} if self.server.is_another else {"value": self.server.value})

    def do_POST(self) -> None:
        """Count; return the replica."""
        if self.is_limited():
            return
        self.server.asked += 1
        self.server.value += 1 + self.server.surplus
        if self.server.asked != 2:
            self.answer({"replica": str(self.server.asked % 2)})

    def is_limited(self) -> bool:
        """Answer as the edge does beyond its limit."""
        self.server.limit -= 1
        if self.server.limit:
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


LIMITS = (1, 2, 6)
COUNTERS: dict[str, dict[str, Any]] = {
    "usual": {},
    **{f"limited-{limit}": {"limit": limit} for limit in LIMITS},
    "another": {"is_another": True},
    "surplus": {"surplus": 1},
}


@pytest.fixture(scope="module")
def smoked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Return what is said of each counter that is accepted or refused, and how far it came."""
    return made_once(tmp_path_factory, "smoke", smoke)


def smoke(site: Path) -> dict[str, dict[str, Any]]:
    """Check the counters, each from a host of its own."""
    with ExitStack() as stack:
        counters = {name: stack.enter_context(Counter(**given)) for name, given in COUNTERS.items()}
        hosts = {}
        for name, counter in counters.items():
            Thread(target=counter.serve_forever).start()
            stack.callback(counter.shutdown)
            origin = f"http://127.0.0.1:{counter.server_port}"
            own = {"origin": origin, "patience": 5 if name == "another" else 20}
            hosts[name] = {"ansible_connection": "local", **own}
        given = {
            "replicas": 2,
            "counter_origins": ["{{ origin }}"],
            "counter_url": "{{ origin }}/",
            "counter_headers": {},
            "https_served": [],
            "smoke_timeout": "{{ patience }}",
        }
        (site / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": hosts}}))
        (site / "play.yml").write_text(yaml.safe_dump(play({"ansible.builtin.import_role": {"name": "smoke"}})))
        done = run(
            *("ansible-playbook", "-i", site / "hosts.yml", site / "play.yml", "-e", json.dumps(given)),
            ANSIBLE_ROLES_PATH=str(ROOT / "roles"),
            ANSIBLE_ANY_ERRORS_FATAL="false",
            # A proxy for the internet does not know the nodes.
            http_proxy="http://127.0.0.1:1",
            no_proxy="",
        )
    said = " ".join(done.stdout.partition("PLAY RECAP")[0].split())
    parts = re.split(r"(fatal|ok|failed): \[([\w-]+)\]", said)
    found: dict[str, dict[str, Any]] = {}
    for name, counter in counters.items():
        found[name] = {"ok": "", "refused": "", "asked": counter.asked, "value": counter.value, "limit": counter.limit}
    for verdict, host, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        found[host]["ok" if verdict == "ok" else "refused"] += text
    return found


def test_an_increment_without_an_answer_may_have_counted(smoked: dict[str, dict[str, Any]]) -> None:
    usual = smoked["usual"]
    assert not usual["refused"]
    assert usual["asked"] == usual["value"] == 4
    assert ": 3 acknowledged, 4 counted, replicas 0 1)" in usual["ok"]


@pytest.mark.parametrize("limit", LIMITS)
def test_the_limit_of_requests_is_waited_for(smoked: dict[str, dict[str, Any]], limit: int) -> None:
    """Also by the last request, which reads the counter."""
    limited = smoked[f"limited-{limit}"]
    assert not limited["refused"]
    assert limited["limit"] <= 0
    assert ": 3 acknowledged, 4 counted, replicas 0 1)" in limited["ok"]


def test_another_program_at_the_address_is_recognized(smoked: dict[str, dict[str, Any]]) -> None:
    said = smoked["another"]["refused"]
    assert "0 of 2 replicas answered" in said
    assert "last error: the answer has no value: another program may answer there" in said


def test_a_counter_that_grows_by_more_is_refused(smoked: dict[str, dict[str, Any]]) -> None:
    surplus = smoked["surplus"]
    assert "increments were acknowledged at" in surplus["refused"]
    assert f"the counter grew by {surplus['value']}" in surplus["refused"]
