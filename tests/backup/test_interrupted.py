"""Runs that are killed, that lose a primary, or that another run is in the way of."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from sites import Site, session_of
from support.programs import Program
from support.waiting import wait_until

from backup.processes import locked

LOCKED = "a backup, a proof or a restore is already running"


def test_a_lock_is_waited_for_no_longer_than_that_is_useful(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path), pytest.raises(BlockingIOError), locked(path, seconds=0.3):
        pytest.fail("two have the lock")
    with locked(path, seconds=0):
        pass


@pytest.fixture
def filled(site: Site) -> Site:
    """Return a site with so many keys that runs take a while."""
    site.count({"a": 3, "b": 1})
    node = site.nodes[0].client()
    for number in range(20):
        names = [f"n{number}-{each}" for each in range(200)]
        node.mset({f"{{{name}}}:value": 7 for name in names})
        node.sadd("counters", *names)
    return site


TOTAL = 20 * 200 * 7 + 4


def runs(process: Program, program: str) -> bool:
    """Tell whether the program runs another one, which ends with it from then on (`backup.processes.bound`)."""
    return any((path / "cmdline").read_bytes().startswith(program.encode()) for path in session_of(process))


def kill(process: Program, after: float) -> bool:
    """Kill it after some seconds; tell whether it still ran."""
    try:
        process.communicate(timeout=after)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False


def test_after_a_run_was_killed_the_next_one_works(filled: Site) -> None:
    began = time.monotonic()
    filled.run("run")
    lasted = time.monotonic() - began
    killed = 0
    chance = random.Random(seed := random.randrange(1_000_000))
    print(f"{seed=}")
    moments: list[str | float] = ["redis-server", "restic\0", *[chance.uniform(0.2, lasted) for _ in range(2)]]
    for moment in moments:
        process = filled.start("run")
        if isinstance(moment, str):
            wait_until(moment, partial(runs, process, moment))
        killed += kill(process, 0 if isinstance(moment, str) else moment)
        # Otherwise they could go on beside the next run: a restic that holds a lock, a Redis that takes memory.
        wait_until("its programs to end", lambda: not session_of(process), 20)  # noqa: B023
    assert killed >= 2
    saved = filled.run("run")
    assert (saved["sum"], bool(saved["proved"]), saved["bad"]) == (TOTAL, True, "")
    listed = filled.backups
    assert listed[-1]["id"] == saved["id"]
    assert len({one["id"] for one in listed}) == len(listed)
    assert all(one["sum"] == TOTAL and not one["bad"] for one in listed)
    assert not list(Path(filled.plan["work"], "files").iterdir())
    assert filled.run("restore", "latest")["sum"] == TOTAL


def killed_while_it_restores(site: Site) -> bool:
    """Kill a restore that has emptied the node and writes; tell whether it had not ended before."""
    node = site.nodes[0].client()
    node.set("{later}:value", 1)
    node.sadd("counters", "later")
    restoring = site.start("restore", "latest")
    wait_until("the restore to write", lambda: not node.exists("{later}:value"))
    node.client_pause(60_000, all=False)
    restoring.send_signal(signal.SIGKILL)
    _, said = restoring.communicate()
    node.client_unpause()
    assert restoring.returncode in (0, -signal.SIGKILL), said
    return restoring.returncode != 0


def test_a_restore_that_was_killed_is_completed_by_the_next_one(filled: Site) -> None:
    filled.run("run")
    wait_until("one to be killed in time", lambda: killed_while_it_restores(filled), 240)
    assert filled.run("restore", "latest")["sum"] == TOTAL
    assert filled.counters.keys() >= {"a", "b", "n0-0"}
    assert "later" not in filled.counters
    assert filled.run("run")["sum"] == TOTAL


@pytest.mark.parametrize("verb", ["run", "serve"])
def test_what_was_prepared_for_no_restore_is_removed(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    site.count({"a": 1})
    site.run("run")
    site.run("prepare", "latest")
    prepared, record = Path(site.plan["work"], "prepared"), Path(site.plan["state"], "restore.json")

    def stays() -> bool:
        (serving := tmp_path / "serving").unlink(missing_ok=True)
        with site.start(verb) as process:
            if verb == "serve":
                wait_until("it to serve", serving.exists)
                process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
        return any(prepared.iterdir())

    # A restore may be about to stop the app.
    assert stays()
    os.utime(prepared, (0, 0))
    record.write_text('{"backup": "counter/latest", "before": ""}\n')
    assert stays()
    record.write_text("{}\n")
    assert not stays()


def test_the_schedule_makes_no_backup_between_the_steps_of_a_restore(site: Site) -> None:
    """It would have the counters that are about to be replaced, and the app would be stopped for longer."""
    site.count({"a": 1})
    saved = site.run("run")
    site.run("prepare", saved["id"])
    assert "a restore has been prepared, and may be about to begin" in site.refused("run", "scheduled")
    assert site.run("run", "replaced")["proved"]
    site.run("restore", saved["id"])
    assert site.run("run", "scheduled")["proved"]


def test_of_two_runs_the_second_is_refused(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.count({"a": 1})
    # Long enough for the others to be refused meanwhile.
    monkeypatch.setenv("PATH", restic_that(tmp_path, "backup", "sleep 10"))
    with site.start("run") as first:
        wait_until("its files", Path(site.plan["work"], "files").exists)
        # The backup that a restore makes: the app is stopped already.
        waiting = site.start("run", "replaced")
        for verb in ("run", "verify latest"):
            assert LOCKED in site.refused(*verb.split())
        _, said = waiting.communicate(timeout=240)
        assert waiting.returncode == 0, said
        printed, said = first.communicate()
    assert first.returncode == 0, said
    assert json.loads(printed)["proved"]


def test_a_tag_that_was_half_changed_makes_no_second_backup(site: Site) -> None:
    """Restic saves the snapshot with the new tags before it removes the one with the old tags."""
    site.count({"a": 1})
    saved = site.run("run")
    snapshots = Path(site.plan["repository"], "snapshots")
    (former,) = snapshots.iterdir()
    content = former.read_bytes()
    # The time of its proof is one of the tags, in seconds.
    time.sleep(1)
    verified = site.run("verify", saved["id"])
    (snapshots / former.name).write_bytes(content)
    assert len(json.loads(site.restic("snapshots", "--json"))) == 2
    assert site.backups == verified
    site.plan["keep"] = {"last": 5}
    assert len(site.run("run")["id"]) == len(saved["id"])
    assert len(json.loads(site.restic("snapshots", "--json"))) == 2
    assert len(site.backups) == 2


def restic_that(directory: Path, work: str, does: str) -> str:
    """Return a search path with a restic that does something else, in the shell, when asked for some work."""
    real = shutil.which("restic")
    (program := directory / "bin" / "restic").parent.mkdir()
    program.write_text(f'#!/bin/sh\ncase " $* " in *" {work} "*) {does} ;; esac\nexec {real} "$@"\n')
    program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}"


@pytest.mark.parametrize("work", ["forget", "prune"])
def test_a_backup_is_proved_although_old_ones_cannot_be_removed(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    site.count({"a": 1})
    site.run("run")
    site.plan["keep"] = {"last": 1}
    locked = "echo 'repository is already locked by PID 1' >&2; exit 11"
    monkeypatch.setenv("PATH", restic_that(tmp_path, work, locked))
    saved = site.run("run")
    assert saved["proved"]
    assert "is in use; try again later" in saved["not_freed"]


@pytest.mark.parametrize("work", ["restore", "check"])
def test_a_restic_that_was_killed_says_nothing_of_the_backup(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    """The kernel does so when there is too little memory."""
    site.count({"a": 1})
    saved = site.run("run")
    with monkeypatch.context() as patched:
        patched.setenv("PATH", restic_that(tmp_path, work, "kill -KILL $$"))
        said = site.refused("verify", "all")
    assert "restic ended with -9 (raise backup_memory)" in said
    (kept,) = site.backups
    assert kept["proved"] >= saved["proved"]
    assert not kept["bad"]
    assert site.run("verify", "all")


@pytest.mark.fault
def test_a_failover_during_a_run(tmp_path: Path, stack: ExitStack) -> None:
    site = Site(tmp_path / "site", "sentinel", stack)
    site.count({f"c{number}": 3 for number in range(20)})
    acknowledged = dict(site.counters)
    with site.start("run") as running:
        wait_until("it to begin", Path(site.plan["work"], "files").exists)
        site.found.primary().kill()
        printed, said = running.communicate(timeout=240)
    if running.returncode:
        assert "Traceback" not in said
        saved = site.run("run")
    else:
        saved = json.loads(printed)
    assert saved["proved"]
    assert saved["sum"] == sum(acknowledged.values())
    wait_until("the survivors", lambda: site.counters == acknowledged)
