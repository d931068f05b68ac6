"""The log of changes in the repository: nothing of it can be missing, and each change goes there once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sites import RECORDED, Site
from support.small_disk import small_disk
from support.waiting import wait_until

from backup.errors import BadBackupError
from backup.repository import Repository
from backup.saved import LOG_FORMAT
from backup.segments import Segments, joined

INTERVAL = 2


def ended(site: Site, **counts: int) -> str:
    """Record a log until it has these counts, and end it; return its last moment."""
    site.plan["log_seconds"] = INTERVAL
    service = site.start("serve")
    wait_until("the log to begin", lambda: site.run("list")["logs"], 60)
    site.count(counts)
    service.send_signal(signal.SIGTERM)
    service.communicate(timeout=60)
    assert service.returncode == 0
    return str(site.run("list")["logs"][-1]["until"])


def saved_again(site: Site, directory: Path, until: str, form: int = LOG_FORMAT) -> None:
    """Save a directory as a log of which nothing else is known."""
    repository = Repository(site.read_plan())
    repository.open(create=False)
    labels = {"stack": "counter", "format": form, "id": "a log", "began": until, "until": until}
    repository.save_log(directory, datetime.now(UTC), labels)


def segments(directory: Path) -> list[Path]:
    """Return the closed segments, of which the log says how many there are; it may have begun another one."""
    found = sorted(directory.rglob("*.aof"), key=lambda path: int(path.suffixes[0][1:]))
    return found[: json.loads((directory / "log.json").read_text())["streams"]["1"]["segments"]]


@pytest.mark.parametrize("damage", ["missing", "short", "changed"])
def test_a_log_without_a_part_is_refused(site: Site, tmp_path: Path, damage: str) -> None:
    site.count({"a": 1})
    until = ended(site, b=2)
    fetched = tmp_path / "fetched"
    site.restic("restore", "--quiet", "--tag", f"log,until={until}", "latest", "--target", str(fetched))
    parts = segments(fetched)
    first, last = parts[0], parts[-1]
    match damage:
        case "missing":
            first.unlink()
            reason = "1.0.aof of the log is missing"
        case "short":
            os.truncate(last, last.stat().st_size - 1)
            reason = "stream 1 of the log has"
        case _:
            last.write_bytes(last.read_bytes().swapcase())
            reason = "stream 1 of the log is not what was saved"
    site.restic("forget", "--quiet", "--unsafe-allow-remove-all", "--tag", "log")
    saved_again(site, fetched, until)
    assert reason in site.refused("restore", until)
    assert site.counters == {"a": 1, "b": 2}


def test_a_log_of_an_earlier_version_can_be_restored(site: Site, tmp_path: Path) -> None:
    """A recording of what that version saved: each stream in a file, and nothing that says how many there are."""
    earlier = shutil.copytree(RECORDED.with_name("log"), tmp_path / "log")
    shutil.copytree(site.plan["state"], earlier / "state")
    until = json.loads((earlier / "log.json").read_text())["until"]
    saved_again(site, earlier, until, form=1)
    assert site.run("restore", until)["sum"] == 5
    assert site.counters == {"a": 3, "b": 2}


def test_uploads_are_in_proportion_to_the_changes(site: Site) -> None:
    """Each once uploaded 439 KiB for 250 bytes, beside a copy of 6 MiB."""
    client = site.nodes[0].client()
    for number in range(60):
        client.set(f"{{.load}}:{number}", os.urandom(50_000).hex())
    site.plan["log_seconds"] = INTERVAL
    site.start("serve")
    wait_until("the log to begin", lambda: site.run("list")["logs"], 60)
    snapshots = Path(site.plan["repository"], "snapshots")

    def grown(uploads: int) -> int:
        seen, made = set(snapshots.iterdir()), 0
        before = size(site)
        while made < uploads:
            client.set("{a}:value", made)
            there = set(snapshots.iterdir())
            made, seen = made + len(there - seen), seen | there
            time.sleep(0.1)
        return (size(site) - before) // uploads

    assert grown(5) < 20_000


def test_a_log_removes_what_it_replaced_despite_the_lock_of_a_dead_program(site: Site) -> None:
    """Removing needs a lock for itself. All snapshots once stayed until the next backup of the schedule."""
    site.count({"a": 1})
    site.plan["log_seconds"] = INTERVAL
    told = os.environ | {"RESTIC_REPOSITORY": site.plan["repository"], "RESTIC_PASSWORD": site.plan["passwords"][0]}
    command = ["restic", "--no-cache", "backup", "--stdin"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=told) as program:
        repository = Path(site.plan["repository"])
        # Not one that is being written: its name ends otherwise.
        locks = wait_until("the lock", lambda: list(repository.glob("locks/" + 64 * "?")), 60)
        program.kill()
    site.start("serve")
    seen: set[Path] = set()
    deadline = time.monotonic() + 120
    while len(seen) < 8 and time.monotonic() < deadline:
        seen |= set(repository.glob("snapshots/*"))
        time.sleep(0.1)
    assert len(seen) >= 8
    assert len(list(repository.glob("snapshots/*"))) <= 4
    assert locks
    assert not locks[0].exists()


def size(site: Site) -> int:
    return sum(path.stat().st_size for path in Path(site.plan["repository"]).rglob("*") if path.is_file())


def test_what_a_full_disk_took_in_part_is_no_part_of_a_segment(tmp_path: Path) -> None:
    with small_disk(tmp_path, mib=1) as disk:
        files = Segments(tmp_path, "1")
        files.write(b"first")
        disk.fill(leave=1 << 16)
        with pytest.raises(OSError, match="No space"):
            files.write(b"x" * (1 << 20))
        disk.make_room()
        assert joined(tmp_path, "1", files.end()).read_bytes() == b"first"


def test_segments_are_one_file_again(tmp_path: Path) -> None:
    files = Segments(tmp_path, "1")
    for number in range(130):
        files.write(b"%d " % number)
        manifest = files.end()
    # What nobody changed is no segment of its own.
    assert files.end() == manifest
    assert manifest["segments"] == 130
    files.write(b"later")
    files.end()
    assert len(list(tmp_path.rglob("1.*.aof"))) == 131
    assert joined(tmp_path, "1", manifest).read_text() == "".join(f"{number} " for number in range(130))
    with pytest.raises(BadBackupError, match=r"1\.0\.aof of the log is missing"):
        joined(tmp_path, "1", manifest)
