"""Redis on a full disk: nothing acknowledged is lost, a node says why it waits, and goes on when there is room."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from history.checker import Verdict, check
from history.model import load
from history.recorder import Plan, recording
from redis import Redis
from replicated import Set, is_primary
from support.configurations import configuration
from support.passwords import APP_PASSWORD
from support.processes import Gunicorn, RedisServer, running
from support.small_disk import MIB, small_disk
from support.waiting import wait_until

pytestmark = pytest.mark.fault


@pytest.fixture
def three(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Set]:
    """Return three nodes with Sentinels, of which nothing runs yet."""
    found = Set(tmp_path / "set", configuration(tmp_path_factory, "sentinel"))
    yield found
    found.kill()


@contextlib.contextmanager
def counting(app: Gunicorn) -> Iterator[Callable[[int], None]]:
    """Let clients count meanwhile; yield a function that waits for so many more acknowledged increments."""
    plan = Plan(app.url, "full", 8, 300, app.log.with_suffix(".jsonl"), tick=0.005)
    with recording(plan) as more:
        more(100)
        yield more
        more(200)  # so that every client has finished what it began on the full disk


def judge(app: Gunicorn, primary: Redis) -> None:
    """Nothing acknowledged is missing, and nothing counted twice."""
    history = replace(load(app.log.with_suffix(".jsonl")), log=frozenset(map(str, primary.smembers("{full}:log"))))
    result = check(history, expect_log=True)
    assert result.verdict is Verdict.PASS, result
    assert result.ok >= 300


def test_a_single_redis_loses_nothing_and_counts_again_when_there_is_room(tmp_path: Path) -> None:
    (volume := tmp_path / "volume").mkdir()
    with small_disk(volume) as disk:
        redis = RedisServer(volume, "appendonly yes", "appendfsync always")
        redis.log = tmp_path / "redis.log"
        app = Gunicorn(tmp_path, REDIS_NODES=redis.address, HISTORY_LOG="1")
        with running(redis, app):
            redis.up()
            app.up()
            with counting(app):
                disk.fill()
                for _ in range(3):  # Swarm starts it again each time
                    assert redis.wait(30) == 1
                    assert re.search("Short write|No space left on device", redis.log.read_text())
                    redis.log.write_text("")
                    redis.start()
                disk.make_room()
                redis.kill()
                redis.up()
            judge(app, redis.client())


def test_a_primary_with_a_full_disk_is_replaced_waits_and_returns(tmp_path: Path, three: Set) -> None:
    full, *others = three.nodes
    (tmp_path / "password").write_text(APP_PASSWORD)
    app = Gunicorn(
        tmp_path,
        TOPOLOGY="sentinel",
        REDIS_NODES=",".join(node.address for node in three.nodes),
        SENTINEL_NODES=",".join(sentinel.address for sentinel in three.sentinels),
        REDIS_PASSWORD_FILE=str(tmp_path / "password"),
        REPLICAS_PER_PRIMARY="2",
        HISTORY_LOG="1",
    )
    with small_disk(full.volume) as disk, running(app):
        try:
            three.start()
            three.settled()
            assert is_primary(full)
            app.up()
            with counting(app) as more:
                disk.fill()
                assert full.process
                assert full.process.wait(30) == 1
                full.start()  # as Swarm does
                wait_until("it to say why it waits", lambda: "has 0 MiB free, and 64 MiB are needed" in full.said())
                wait_until("another primary", lambda: any(map(is_primary, others)))
                more(100)
                disk.fill(leave=40 * MIB)
                wait_until("it to say what is free", lambda: "has 40 MiB free, and 64 MiB are needed" in full.said())
                more(100)
                assert full.process.poll() is None
                assert not full.listens()
                disk.make_room()
                three.settled()
                more(100)
            assert not is_primary(full)
            judge(app, three.primary().client("counter"))
        finally:
            three.kill()


def test_a_primary_with_a_full_disk_hands_over_when_it_is_stopped(three: Set) -> None:
    full = three.nodes[0]
    with small_disk(full.volume) as disk:
        try:
            three.start()
            three.settled()
            assert three.increment(3, started=True) == 3
            disk.fill()
            full.stop()
            assert "handed over to " in full.said()
            assert "Traceback" not in full.log.read_text()
            assert three.value() == 3
            full.start()
            wait_until("it to wait", lambda: "waits for room" in full.said())
            disk.make_room()
            three.settled()
            assert three.increment() == 4
        finally:
            three.kill()


def test_a_sentinel_with_a_full_disk_keeps_what_it_knows_and_returns(three: Set) -> None:
    full = three.sentinels[0]
    with small_disk(full.volume, mib=8) as disk:
        try:
            three.start()
            three.settled()
            assert three.increment(3, started=True) == 3
            disk.fill()
            three.primary().stop()
            wait_until("another primary", lambda: any(map(is_primary, three.nodes)))
            full.kill()
            known = (full.volume / "sentinel.conf").read_text()
            full.start()
            wait_until("it to wait", lambda: "has 0 MiB free, and 1 MiB are needed" in full.said())
            assert (full.volume / "sentinel.conf").read_text() == known
            disk.make_room()
            three.nodes[0].start()
            three.settled()
            assert three.increment() == 4
        finally:
            three.kill()
