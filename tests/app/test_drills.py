"""Drills against gunicorn, recorded and judged from outside; the negative controls must come out FAIL."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from history.checker import Result, Verdict, check
from history.model import Outcome, load
from history.recorder import Plan, Repeat, acknowledged, recording
from history.ways import KEY, WAYS, Way
from load import TICK_SECONDS
from support.followers import following
from support.passwords import BACKUP_PASSWORD
from support.ports import free_port
from support.processes import Gunicorn, RedisServer, running
from support.waiting import wait_until
from topologies import Cluster, Node, SentinelSet, addresses, topology

pytestmark = pytest.mark.fault


def drill(
    server: Gunicorn, fault: Callable[[], object], repeat: Repeat = Repeat.KEY, ways: tuple[Way, ...] = (KEY,)
) -> Path:
    """Record some load, the fault, and load again."""
    out = server.log.with_suffix(".jsonl")
    # Without reads, increments are under way whenever a fault comes.
    reads = 0.0 if repeat is Repeat.BLIND else 0.1
    plan = Plan(server.url, "drill", 16, 120, out, repeat, read_share=reads, tick=TICK_SECONDS, ways=ways)
    with recording(plan) as more:
        more(200)
        fault()
        more(400)  # so that every client has finished what the fault interrupted
    return out


def judged(out: Path, redis: RedisServer | None = None, *, expect_switch: bool = False) -> Result:
    history = load(out)
    if redis:
        history = replace(history, log=frozenset(map(str, redis.client().smembers("{drill}:log"))) or None)
    return check(history, expect_switch=expect_switch, expect_log=redis is not None)


@pytest.mark.parametrize("repeat", [Repeat.KEY, pytest.param(Repeat.ID, marks=pytest.mark.slow)])
def test_a_killed_primary_loses_nothing(tmp_path: Path, redis_set: SentinelSet, repeat: Repeat) -> None:
    server = Gunicorn(tmp_path, **redis_set.environ(), HISTORY_LOG="1")
    with running(server):
        primary = redis_set.primary()
        out = drill(server.up(), primary.kill, repeat)
        primary.up()
        result = judged(out, redis_set.healed(), expect_switch=True)
    assert result.verdict is Verdict.PASS, result
    assert result.ok > 100


@pytest.mark.parametrize("kind", ["sentinel", "cluster"])
def test_a_mix_of_all_ways_to_count_loses_and_doubles_nothing(tmp_path: Path, kind: str) -> None:
    """One that was acknowledged is counted once, another at most once, and what is refused not at all."""
    found, processes, environ = topology(kind, tmp_path)

    def primary() -> RedisServer:
        return found.primary_of("{drill}:value") if isinstance(found, Cluster) else found.primary()

    def fault() -> None:
        """Kill the primary, and the app while it waits for another."""
        broken.kill()
        time.sleep(0.5)
        server.kill()
        server.up()
        wait_until("another primary", lambda: primary() is not broken, 60)

    server = Gunicorn(tmp_path, **environ, HISTORY_LOG="1")
    with running(*processes, server):
        found.up()
        broken = primary()
        out = drill(server.up(), fault, ways=tuple(WAYS.values()))
        broken.up()
        found.healed()
        result = judged(out, primary(), expect_switch=True)
    assert result.verdict is Verdict.PASS, result
    assert result.ok > 500
    increments = load(out).increments
    assert {one.outcome for one in increments if not one.keyed} == set(Outcome)
    # The answers of the form have no value.
    assert {one.value is None for one in increments if not one.keyed and one.outcome is Outcome.OK} == {True, False}


def test_without_replicas_confirming_a_killed_primary_loses_increments(tmp_path: Path, redis_set: SentinelSet) -> None:
    server = Gunicorn(tmp_path, **redis_set.environ(), WRITE_CONCERN="none")

    def fault() -> None:
        primary = redis_set.primary()
        primary.client().config_set("min-replicas-to-write", 0)
        replicas = redis_set.replicas()
        right = str(replicas[0].client().config_get("masterauth")["masterauth"])
        for replica in replicas:  # a lagging network
            replica.client().config_set("masterauth", "wrong")
            replica.client().config_set("min-replicas-to-write", 0)
        primary.client().client_kill_filter(_type="replica")
        out = server.log.with_suffix(".jsonl")
        wanted = acknowledged(out) + 200  # many more than are repeated or in doubt
        with following(primary.client(), "backup", BACKUP_PASSWORD, port=free_port()):
            wait_until("increments that no replica has", lambda: acknowledged(out) >= wanted)
            primary.kill()
        for replica in replicas:
            replica.client().config_set("masterauth", right)

    with running(server):
        result = judged(drill(server.up(), fault), expect_switch=True)
    assert result.verdict is Verdict.FAIL
    assert result.lost > 0
    assert {1, 4} <= {violation.invariant for violation in result.violations}


def test_independent_nodes_fail(tmp_path: Path, three_servers: list[RedisServer]) -> None:
    server = Gunicorn(tmp_path, TOPOLOGY="independent", REDIS_NODES=addresses(three_servers))
    with running(server):
        result = judged(drill(server.up(), lambda: None, Repeat.ID))
    assert result.verdict is Verdict.FAIL
    assert {1, 3, 4} <= {violation.invariant for violation in result.violations}


@pytest.mark.parametrize(
    ("repeat", "verdict"),
    [
        (Repeat.KEY, Verdict.PASS),
        pytest.param(Repeat.ID, Verdict.PASS, marks=pytest.mark.slow),
        (Repeat.BLIND, Verdict.FAIL),
    ],
)
def test_clients_that_retry_need_keys(
    tmp_path: Path, redis_server: RedisServer, repeat: Repeat, verdict: Verdict
) -> None:
    replica = Node(tmp_path, "standalone", f"replicaof 127.0.0.1 {redis_server.port}", "repl-diskless-sync-delay 0")
    server = Gunicorn(tmp_path, REDIS_NODES=redis_server.address, REPLICAS_PER_PRIMARY="1", HISTORY_LOG="1")

    def fault() -> None:
        """Kill the application between the execution of increments and their answers."""
        replica.signal(signal.SIGSTOP)
        time.sleep(0.4)  # what it has confirmed is answered by then
        wait_until("increments to wait for it", lambda: redis_server.client().info("clients")["blocked_clients"])
        server.kill()
        replica.signal(signal.SIGCONT)
        server.up()

    with running(replica, server):
        replica.up()
        wait_until("the replica", lambda: redis_server.client().wait(1, 100) == 1, 30)
        result = judged(drill(server.up(), fault, repeat), None if repeat is Repeat.BLIND else redis_server)
    assert result.verdict is verdict, result
    assert (result.doubled > 0) is (repeat is Repeat.BLIND)
