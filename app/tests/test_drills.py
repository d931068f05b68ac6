"""Drills against gunicorn, recorded and judged from outside; the negative controls must come out FAIL."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from history.checker import Result, Verdict, check
from history.model import load
from history.recorder import Plan, record
from processes import Gunicorn, RedisServer, running, wait_until
from topologies import SentinelSet, addresses

pytestmark = pytest.mark.fault


@pytest.fixture
def redis_set(tmp_path: Path) -> Iterator[SentinelSet]:
    found = SentinelSet(tmp_path)
    with running(*found.processes):
        yield found.up()


def drill(
    server: Gunicorn, seconds: float, fault: Callable[[], object], *, keys: bool = True, clients: int = 16
) -> Path:
    """Record ``seconds`` of load with ``fault`` after the first second."""
    out = server.log.with_suffix(f".{keys}.jsonl")
    failures: list[BaseException] = []

    def run() -> None:
        try:
            record(Plan(server.url, "drill", clients, seconds, out, keys=keys))
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(1)
    fault()
    thread.join(seconds + 60)
    assert not thread.is_alive()
    assert not failures
    return out


def judged(out: Path, redis: RedisServer | None = None, *, expect_switch: bool = False) -> Result:
    history = load(out)
    if redis:
        history = replace(history, log=frozenset(redis.client().smembers("{drill}:log")))
    return check(history, expect_switch=expect_switch)


def test_a_killed_primary_loses_nothing(tmp_path: Path, redis_set: SentinelSet) -> None:
    server = Gunicorn(tmp_path, **redis_set.environ(), HISTORY_LOG="1")
    with running(server):
        primary = redis_set.primary()
        out = drill(server.up(), 8, primary.kill)
        primary.up()
        result = judged(out, redis_set.healed(), expect_switch=True)
    assert result.verdict is Verdict.PASS, result
    assert result.ok > 100


def test_without_replicas_confirming_a_killed_primary_loses_increments(tmp_path: Path, redis_set: SentinelSet) -> None:
    server = Gunicorn(tmp_path, **redis_set.environ(), WRITE_CONCERN="none")

    def fault() -> None:
        primary = redis_set.primary()
        primary.client().config_set("min-replicas-to-write", 0)
        for replica in redis_set.replicas():  # a lagging network
            replica.client().config_set("masterauth", "wrong")
            replica.client().config_set("min-replicas-to-write", 0)
        primary.client().client_kill_filter(_type="replica")
        time.sleep(1)
        primary.kill()

    with running(server):
        result = judged(drill(server.up(), 8, fault), expect_switch=True)
    assert result.verdict is Verdict.FAIL
    assert result.lost > 0
    assert {1, 4} <= {violation.invariant for violation in result.violations}


def test_independent_nodes_fail(tmp_path: Path, three_servers: list[RedisServer]) -> None:
    server = Gunicorn(tmp_path, TOPOLOGY="independent", REDIS_NODES=addresses(three_servers))
    with running(server):
        result = judged(drill(server.up(), 3, lambda: None))
    assert result.verdict is Verdict.FAIL
    assert {1, 3, 4} <= {violation.invariant for violation in result.violations}


@pytest.mark.parametrize(("keys", "verdict"), [(True, Verdict.PASS), (False, Verdict.FAIL)])
def test_clients_that_retry_need_keys(
    tmp_path: Path, redis_server: RedisServer, *, keys: bool, verdict: Verdict
) -> None:
    server = Gunicorn(tmp_path, REDIS_NODES=redis_server.address, HISTORY_LOG="1")

    def fault() -> None:
        """Kill the replica between the store's reply and its answer, again and again until it hit."""
        for _ in range(4):
            server.kill()
            wait_until("the workers to notice", lambda: not server.listening())
            server.up()
            time.sleep(0.5)

    with running(server):
        result = judged(drill(server.up(), 12, fault, keys=keys), redis_server if keys else None)
    assert result.verdict is verdict, result
    assert (result.doubled > 0) is not keys
