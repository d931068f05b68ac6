"""Whose data Redis holds: a stack counts on its own data only, with real Redis processes of every topology."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from support.passwords import APP_PASSWORD
from support.processes import APP_DIR, RedisServer, running
from topologies import Node, addresses, topology

from counter.store.keys import SITE_KEY

Build = Callable[..., FlaskClient]
OURS, THEIRS = "0123456789abcdef" * 2, "f" * 32


def marked(environ: dict[str, str], *arguments: str, password: str = APP_PASSWORD) -> dict[str, Any]:
    """Run the program for a store, given as ``COUNTER_*`` without the prefix; return what it found."""
    variables = {f"COUNTER_{key}": value for key, value in environ.items() if key != "REDIS_PASSWORD_FILE"}
    given = {"environment": variables, "password": password}
    done = subprocess.run(
        [sys.executable, "-m", "counter.site", *arguments],
        input=json.dumps(given) + "\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=APP_DIR,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def independent(tmp_path: Path) -> Iterator[tuple[list[RedisServer], dict[str, str]]]:
    """Start two nodes that know nothing of each other."""
    nodes = [Node(tmp_path, "standalone") for _ in range(2)]
    with running(*nodes):
        yield [node.up() for node in nodes], {"TOPOLOGY": "independent", "REDIS_NODES": addresses(nodes)}


def test_a_node_whose_volume_is_empty_does_not_count_from_zero(client_of: Build, redis_server: RedisServer) -> None:
    environ = {"TOPOLOGY": "external", "REDIS_URL": f"redis://{redis_server.address}"}
    marked(environ, OURS, "counter", "0", password="")
    client = client_of(**environ, SITE=OURS, DEADLINE_SECONDS="1")
    assert client.post("/api/counters/a/increment").json["value"] == 1
    redis_server.kill()
    redis_server.wipe()
    redis_server.up()
    assert redis_server.client().dbsize() == 0
    refused = client.post("/api/counters/a/increment")
    assert refused.status_code == 503
    assert f"no counters of this stack (site {OURS}): they were lost or replaced" in client.get("/readyz").text
    assert redis_server.client().get("{a}:value") is None
    marked(environ, OURS, "counter", "1", "--anyway", password="")
    assert client.post("/api/counters/a/increment").json["value"] == 1


@pytest.mark.parametrize("kind", ["standalone", "cluster"])
def test_what_is_emptied_under_open_connections_does_not_count_from_zero(
    client_of: Build, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    found, processes, environ = topology(kind, tmp_path)
    with ExitStack() as stack:
        stack.enter_context(running(*processes))
        found.up()
        marked(environ, OURS, "counter", "0")
        client = client_of(**environ, SITE=OURS, DEADLINE_SECONDS="5")
        for name in "abcdef":
            assert client.post(f"/api/counters/{name}/increment").json["value"] == 1
        nodes = [node.client() for node in processes if node.client().role()[0] == "master"]
        for node in nodes:
            node.flushall()
        refused = [client.post(f"/api/counters/{name}/increment").status_code for name in "abcdefghij"]
        assert refused == [503] * 10
        reasons = {str(getattr(record, "reason", "")).partition(" holds ")[2] for record in caplog.records}
        assert f"no counters of this stack (site {OURS}): they were lost or replaced" in reasons
        assert not [key for node in nodes for key in node.scan_iter("*:value") if not key.startswith("{.")]
        marked(environ, OURS, "counter", "1", "--anyway")
        assert client.post("/api/counters/a/increment").json["value"] == 1


def test_data_of_another_stack_is_not_counted_on(client_of: Build, redis_server: RedisServer) -> None:
    environ = {"TOPOLOGY": "external", "REDIS_URL": f"redis://{redis_server.address}"}
    marked(environ, THEIRS, "second", "0", password="")
    client = client_of(**environ, SITE=OURS, DEADLINE_SECONDS="1")
    assert client.get("/readyz").status_code == 503
    assert f"the counters of stack second (site {THEIRS}), not those of site {OURS}" in client.get("/readyz").text
    assert client_of(**environ, SITE=THEIRS).post("/api/counters/a/increment").json["value"] == 1
    redis_server.client().set(SITE_KEY, "something else")
    assert "which is not that of a stack" in client_of(**environ, SITE=OURS).get("/readyz").text


@pytest.mark.parametrize("kind", ["standalone", "sentinel", "cluster"])
def test_each_deployment_raises_the_generation(client_of: Build, tmp_path: Path, kind: str) -> None:
    found, processes, environ = topology(kind, tmp_path)
    with ExitStack() as stack:
        stack.enter_context(running(*processes))
        found.up()
        assert marked(environ, OURS, "counter", "0") == {"others": [], "generation": 1, "counters": 0, "sum": 0}
        client = client_of(**environ, SITE=OURS)
        # In a cluster, on each primary.
        for name in "abcdef":
            assert client.post(f"/api/counters/{name}/increment").json["value"] == 1
        again = marked(environ, OURS, "counter", "1")
        assert again | {"counters": 6} == {"others": [], "generation": 2, "counters": 6, "sum": again["counters"]}
        older = marked(environ, OURS, "counter", "5")
        assert older["others"] == [{"site": OURS, "stack": "counter", "generation": 2}]
        other = marked(environ, THEIRS, "second", "0")
        assert other["others"] == [{"site": OURS, "stack": "counter", "generation": 2}]
        assert older["generation"] == 5
        # Nothing was marked.
        assert marked(environ, OURS, "counter", "2")["generation"] == 3
        assert marked(environ, THEIRS, "second", "0", "--anyway")["generation"] == 4
        assert marked(environ, THEIRS, "second", "4")["others"] == []


def test_independent_nodes_are_marked_one_by_one(
    client_of: Build, independent: tuple[list[RedisServer], dict[str, str]], tmp_path: Path
) -> None:
    nodes, environ = independent
    assert marked(environ, OURS, "counter", "0")["generation"] == 1
    (secret := tmp_path / "password").write_text(APP_PASSWORD)
    client = client_of(**environ, REDIS_PASSWORD_FILE=secret, SITE=OURS)
    for _ in range(20):
        assert client.post("/api/counters/a/increment").status_code == 200
    found = marked(environ, OURS, "counter", "1")
    assert (found["counters"], found["sum"]) == (1, 20)
    # As a node that is added.
    nodes[0].client().flushall()
    assert marked(environ, OURS, "counter", "2")["others"] == []
    for node in nodes:
        node.client().flushall()
    lost = marked(environ, OURS, "counter", "3")
    assert lost["others"] == 2 * [{"site": "", "stack": "", "generation": 0}]


def test_a_store_that_does_not_answer_is_named(redis_server: RedisServer) -> None:
    redis_server.client().config_set("requirepass", "right")
    given = {"environment": {"COUNTER_TOPOLOGY": "external", "COUNTER_REDIS_URL": "http://x"}, "password": ""}
    command = [sys.executable, "-m", "counter.site", OURS, "counter", "0"]
    done = subprocess.run(
        command, input=json.dumps(given), capture_output=True, text=True, check=False, timeout=60, cwd=APP_DIR
    )
    assert done.returncode == 1
    assert "COUNTER_REDIS_URL" in done.stderr
