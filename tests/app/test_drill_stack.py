"""What a drill reads from a deployed stack, with real Redis processes behind a ``docker`` that knows three commands."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from drill.containers import Host
from drill.stack import Stack
from support.passwords import APP_PASSWORD
from support.processes import running
from support.waiting import wait_until
from topologies import Cluster, SentinelSet

DOCKER = """#!{python}
import json, os, subprocess, sys
ports = {ports!r}
match sys.argv[2:]:
    case ["ps", "--filter", stack, *_]:
        names = ports if stack.endswith("-redis") else {{"app": 0}}
        for name in names:
            print(json.dumps({{"Names": f"{{stack.rpartition('=')[2]}}_{{name}}.1.x", "ID": name}}))
    case ["exec", "app", "cat", "/run/secrets/redis_password"]:
        print({password!r}, end="")
    case ["exec", name, "sh", "-c", script]:
        sys.exit(subprocess.run(["sh", "-c", script.replace("redis-cli", f"redis-cli -p {{ports[name]}}")]).returncode)
    case ["exec", name, "python3", "-m", "redis_node", "role"]:
        asked = subprocess.run(["redis-cli", "-p", str(ports[name]), "role"], capture_output=True, text=True).stdout
        print("primary" if asked.startswith("master") else "replica")
    case ["exec", name, "cat", "/data/sentinel.conf"]:
        print("sentinel monitor counter redis-1 6379 2")
    case other:
        sys.exit(f"unknown: {{other}}")
"""


def stack_of(directory: Path, nodes: dict[str, int]) -> Stack:
    docker = directory / "host"
    docker.write_text(DOCKER.format(python=sys.executable, ports=nodes, password=APP_PASSWORD))
    docker.chmod(0o755)
    return Stack("counter", (Host(str(docker)),))


@pytest.fixture
def sentinel(tmp_path: Path) -> Iterator[tuple[Stack, SentinelSet]]:
    found = SentinelSet(tmp_path)
    with running(*found.processes):
        found.up()
        nodes = {f"redis-{number}": node.port for number, node in enumerate(found.nodes, 1)}
        nodes |= {f"sentinel-{number}": node.port for number, node in enumerate(found.sentinels, 1)}
        yield stack_of(tmp_path, nodes), found


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[Stack, Cluster]]:
    found = Cluster(tmp_path)
    with running(*found.nodes):
        found.up()
        yield stack_of(tmp_path, {f"redis-{number}": node.port for number, node in enumerate(found.nodes, 1)}), found


def test_all_copies_of_a_counter_are_compared(sentinel: tuple[Stack, SentinelSet]) -> None:
    stack, found = sentinel
    primary, replica, _ = (node.client() for node in found.nodes)
    assert stack.log() is None
    primary.set("{drill}:value", 2)
    primary.sadd("{drill}:log", "a", "b")
    wait_until("the copies", lambda: primary.wait(2, 1000) == 2)
    state = stack.state()
    assert (state.primaries, state.copies, set(state.digests)) == (("redis-1",), 3, {"redis-1", "redis-2", "redis-3"})
    assert len(set(state.digests.values())) == 1
    assert stack.log() == {"a", "b"}
    # A replica that differs, in its value or in its ids only, is seen.
    replica.config_set("replica-read-only", "no")
    replica.srem("{drill}:log", "a")
    replica.sadd("{drill}:log", "c")
    assert len(set(stack.digests().values())) == 2


def test_a_node_that_does_not_answer_has_no_digest(sentinel: tuple[Stack, SentinelSet]) -> None:
    stack, found = sentinel
    replica = found.nodes[1].client()
    for one in found.sentinels:  # after some seconds, they would let the replica follow its primary again
        one.kill()
    replica.replicaof("127.0.0.1", 1)  # it has lost its primary, and shows nothing
    replica.config_set("replica-serve-stale-data", "no")
    assert set(stack.digests()) == {"redis-1", "redis-3"}
    assert stack.copies() == 3


def test_in_a_cluster_the_pair_of_the_counter_is_compared(cluster: tuple[Stack, Cluster]) -> None:
    stack, nodes = cluster
    primary = nodes.primary_of("{drill}:value").client()
    primary.set("{drill}:value", 2)
    wait_until("the copy", lambda: primary.wait(1, 1000) == 1)
    state = stack.state()
    assert len(state.digests) == state.copies == 2
    assert len(set(state.digests.values())) == 1
