"""What others are told of the log of changes: each event once, and that all is well."""

from __future__ import annotations

import json
import logging
import queue
import shutil
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from receiving import BEAT, receiver
from sites import Site
from support.waiting import wait_until

from backup.plan import Plan
from backup.watch import Watch
from counter.store.keys import BACKUP_KEY

INTERVAL = 2
Told = tuple[Plan, queue.Queue[dict[str, Any]]]


def all_of(received: queue.Queue[dict[str, Any]]) -> list[dict[str, Any]]:
    return [received.get_nowait() for _ in range(received.qsize())]


@pytest.fixture
def told(stack: ExitStack) -> Told:
    """Return a plan of which reports and heartbeats are received."""
    url, received = stack.enter_context(receiver())
    return Plan("counter", "/", ("one",), log_seconds=10, late_seconds=0, report_url=url, heartbeat_url=url), received


def test_a_log_that_stops_is_reported_at_its_beginning_and_its_end(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, received = told
    now = time.monotonic()
    watch = Watch(plan)
    monkeypatch.setattr("backup.watch.time.monotonic", lambda: now)
    watch.look()
    assert all_of(received) == []  # it has not begun
    watch.log_saved("2026-11-26T03:00:00Z")
    watch.look()
    assert all_of(received) == [BEAT]
    watch.log_failed("no room")
    now += 30
    watch.look()
    assert all_of(received) == []
    now += 1
    for _ in range(2):
        watch.look()
    error = "changes after 2026-11-26T03:00:00Z have not reached the repository: no room"
    assert all_of(received) == [{"stack": "counter", "log_until": "2026-11-26T03:00:00Z", "error": error}]
    watch.log_saved("2026-11-26T03:01:00Z")
    for _ in range(2):
        watch.look()
    assert all_of(received) == [{"stack": "counter", "log_until": "2026-11-26T03:01:00Z", "error": ""}, BEAT, BEAT]


def test_no_heartbeat_follows_a_backup_that_failed(told: Told) -> None:
    plan, received = told
    watch = Watch(plan)
    watch.log_saved("2026-11-26T03:00:00Z")
    watch.backup_ended(None, "no room", is_good=False)
    watch.backup_ended(None, "no room", is_good=False, known=True)
    watch.look()
    assert all_of(received) == [{"stack": "counter", "backup": None, "error": "no room"}]
    watch.backup_ended({"sum": 1}, "", is_good=True)
    watch.look()
    assert all_of(received) == [{"stack": "counter", "backup": {"sum": 1}, "error": ""}, BEAT]
    watch.copy_ended(None, "no room")
    watch.copy_ended(None, "no room", known=True)
    watch.look()
    assert all_of(received) == [{"stack": "counter", "copied": None, "error": "no room"}]


@pytest.mark.parametrize("noted", [{"less_than": "an earlier one"}, {"uncompared": "an earlier one"}])
def test_no_heartbeat_follows_a_loss_until_it_is_confirmed(told: Told, noted: dict[str, str]) -> None:
    """Neither is known to a service that was started since."""
    plan, received = told
    note = dict(noted)
    watch = Watch(plan, lambda: note)
    watch.log_saved("2026-11-26T03:00:00Z")
    watch.look()
    assert all_of(received) == []
    note.clear()
    watch.look()
    assert all_of(received) == [BEAT]


@pytest.mark.parametrize("url", ["", "http://[x"])
def test_a_report_that_arrives_nowhere_is_logged(caplog: pytest.LogCaptureFixture, stack: ExitStack, url: str) -> None:
    """A redirection would turn it into a request without a report."""
    address, received = stack.enter_context(receiver(status=302))
    watch = Watch(Plan("counter", "/", ("one",), report_url=url or address))
    with caplog.at_level(logging.WARNING):
        watch.backup_ended(None, "no room", is_good=False)
    assert [record.message for record in caplog.records] == ["not reported"]
    assert received.qsize() == (0 if url else 1)


def test_a_log_that_has_stopped_is_noted_and_reported(site: Site, stack: ExitStack) -> None:
    url, received = stack.enter_context(receiver())
    site.count({"a": 1})
    site.run("run")
    site.plan |= {"log_seconds": INTERVAL, "late_seconds": 10, "report_url": url, "heartbeat_url": url}
    service = site.start("serve")
    client = site.nodes[0].client()

    def note() -> dict[str, Any]:
        return dict(json.loads(str(client.get(BACKUP_KEY))))

    # On a busy machine, it may begin late.
    while received.get(timeout=60) != BEAT:
        pass
    assert note()["log_began"] <= note()["log_until"]
    assert note()["log_failure"] == ""
    assert note()["seconds"] > 0
    assert note()["repository_bytes"] > 1000
    repository = Path(site.plan["repository"])
    away = repository.rename(repository.with_name("away"))

    def report() -> dict[str, Any]:
        return wait_until("a report", lambda: next((one for one in all_of(received) if one != BEAT), None), 60) or {}

    stopped = report()
    assert "does not exist" in stopped["error"]
    assert "does not exist" in note()["log_failure"]
    assert note()["failure"].startswith("change log: ")
    shutil.rmtree(repository, ignore_errors=True)
    away.rename(repository)
    goes_on = report()
    assert (goes_on["error"], goes_on["log_until"] > stopped["log_until"]) == ("", True)
    assert received.get(timeout=60) == BEAT
    assert note()["log_failure"] == ""
    client.set(BACKUP_KEY, json.dumps(note() | {"less_than": "an earlier one"}))
    time.sleep(INTERVAL)
    all_of(received)
    time.sleep(2 * INTERVAL)
    assert all_of(received) == []
    client.set(BACKUP_KEY, json.dumps(note() | {"less_than": ""}))
    assert received.get(timeout=60) == BEAT
    service.send_signal(signal.SIGTERM)
    service.communicate(timeout=60)


def test_a_backup_of_the_schedule_replays_the_log(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.count({"a": 1})
    site.run("run")
    site.plan["log_seconds"] = INTERVAL
    service = site.start("serve")
    wait_until("the log to begin", lambda: site.run("list")["logs"], 60)
    site.count({"a": 1, "b": 5})
    assert site.run("run", "scheduled")["log_failure"] == ""
    # A log that lacks all changes.
    program, real = tmp_path / "redis-check-aof", shutil.which("redis-check-aof")
    program.write_text(f'#!/bin/sh\nexec {real} "$1" 1 "$3"\n')
    program.chmod(0o755)
    with monkeypatch.context() as context:
        context.setenv("PATH", str(tmp_path), prepend=":")
        failed = site.run("run", "scheduled")
    assert failed["proved"]
    assert "b: 0, but 5 before and 5 after" in failed["log_failure"]
    wait_until("another log", lambda: len(site.run("list")["logs"]) == 2, 60)
    assert site.run("run", "scheduled")["log_failure"] == ""
    service.send_signal(signal.SIGTERM)
    assert "log of changes begins anew" in service.communicate(timeout=60)[1]
