"""The service: it makes backups by its schedule, logs and reports them, and ends at once."""

from __future__ import annotations

import json
import queue
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from receiving import receiver
from sites import Site, session_of
from support.waiting import wait_until

from backup.processes import locked
from counter.store.keys import BACKUP_KEY


def test_it_makes_logs_and_reports_backups(new_site: Site, tmp_path: Path, stack: ExitStack) -> None:
    """Two services wait for the next minute: one of them cannot use its repository, the other one makes its own."""
    new_site.count({"a": 2})
    url, received = stack.enter_context(receiver())
    new_site.plan |= {"schedule": "* * * * *", "report_url": url}
    good = new_site.start("serve")
    new_site.plan |= {"stack": "other", "repository": str(tmp_path / "file" / "below"), "work": str(tmp_path / "other")}
    (tmp_path / "file").write_text("no directory")
    bad = new_site.start("serve")
    reports: dict[str, dict[str, Any]] = {}
    while len(reports) < 2:
        report = received.get(timeout=240)
        reports.setdefault(report["stack"], report)
    assert (reports["counter"]["backup"]["sum"], reports["counter"]["error"]) == (2, "")
    assert reports["other"]["backup"] is None
    assert "not a directory" in reports["other"]["error"]
    logs = {}
    for name, process in (("counter", good), ("other", bad)):
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
        assert process.returncode == 0
        logs[name] = [json.loads(line) for line in said.splitlines()]
    made, *_ = [line for line in logs["counter"] if line["event"] == "backup proved"]
    assert made["backup"] == reports["counter"]["backup"]
    failed, *_ = [line for line in logs["other"] if line["event"] == "backup failed"]
    assert (failed["level"], failed["error"]) == ("error", reports["other"]["error"])


def late(site: Site, url: str) -> None:
    """Let a service find that a backup was due since the newest one."""
    site.count({"a": 1})
    site.run("run")
    client = site.nodes[0].client()
    client.set(BACKUP_KEY, json.dumps(json.loads(str(client.get(BACKUP_KEY))) | {"time": "2020-01-01T00:00:00Z"}))
    site.plan |= {"schedule": "0 0 1 1 *", "report_url": url, "retry_seconds": 1}


def test_a_backup_that_failed_is_tried_again_and_reported_once(site: Site, stack: ExitStack) -> None:
    url, received = stack.enter_context(receiver())
    late(site, url)
    repository = Path(site.plan["repository"])
    away = repository.rename(repository.with_name("away"))
    process = site.start("serve")
    lines = (json.loads(line) for line in process.said)
    for _ in range(2):
        assert "does not exist" in next(line["error"] for line in lines if line["event"] == "backup failed")
    away.rename(repository)
    reports = [received.get(timeout=60) for _ in range(2)]
    assert "does not exist" in reports[0]["error"]
    assert (reports[1]["backup"]["sum"], reports[1]["error"]) == (1, "")
    # It waits for the next time of the schedule.
    next(line for line in lines if line["event"] == "next backup" and "retry" not in line)
    process.send_signal(signal.SIGTERM)
    process.wait(20)
    assert received.empty()


def test_a_backup_that_was_due_while_no_service_ran_is_made_after_another_run(site: Site, stack: ExitStack) -> None:
    url, received = stack.enter_context(receiver())
    late(site, url)
    with locked(Path(site.plan["work"], "lock")):
        process = site.start("serve")
        wait_until("its run", lambda: len(session_of(process)) > 1)
        with pytest.raises(queue.Empty):
            received.get(timeout=4)
    assert received.get(timeout=60)["error"] == ""
    process.send_signal(signal.SIGTERM)
    process.wait(20)


def handles_sigterm(pid: int) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = next(line.split()[1] for line in lines if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("schedule", ["", "0 0 1 1 *"])
def test_it_ends_while_it_waits(site: Site, schedule: str) -> None:
    site.plan["schedule"] = schedule
    with site.start("serve") as process:
        wait_until("its handler of SIGTERM", lambda: handles_sigterm(process.pid))
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_a_run_that_is_ended_leaves_no_lock(site: Site) -> None:
    site.count({"a": 1})
    site.run("run")
    locks = Path(site.plan["repository"], "locks")
    with site.start("run") as process:
        wait_until("restic to lock the repository", lambda: list(locks.iterdir()))
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (1, "ended by SIGTERM\n")
    assert not list(locks.iterdir())


def test_it_waits_for_the_former_task_on_its_host(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Restic judges the locks of both by process ids, and sends SIGHUP to the process that has such an id now."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    lock, of_the_former = Path(site.plan["work"], "serving"), Path(site.plan["work"], "log", "1")
    of_the_former.mkdir(parents=True)
    with locked(lock):
        service = site.start("serve")
        opened = Path(f"/proc/{service.pid}/fd")
        wait_until("it to wait", lambda: lock in [path.resolve() for path in opened.iterdir()])
        service.send_signal(signal.SIGHUP)
        assert of_the_former.exists()
    wait_until("it to serve", (tmp_path / "serving").exists)
    assert not of_the_former.exists()
