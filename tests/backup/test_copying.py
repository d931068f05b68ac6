"""A second repository has what is proved and the log of changes, each backup proved there again."""

from __future__ import annotations

import json
import shutil
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from receiving import BEAT, receiver
from sites import RECORDED, Site, of_site
from support.waiting import wait_until

from counter.store.keys import BACKUP_KEY

INTERVAL = 2


def note(site: Site) -> dict[str, Any]:
    return dict(json.loads(str(site.nodes[0].client().get(BACKUP_KEY))))


def ids(site: Site, *copy: str) -> list[str]:
    return [saved["id"] for saved in site.run(*copy, "list")["backups"]]


@pytest.fixture
def both(site: Site) -> Site:
    """Return a site that copies its backups."""
    site.plan["copy_repository"] = str(shutil.copytree(RECORDED, site.directory / "copy"))
    of_site(site, "a")
    return site


def other_site(site: Site, stack: ExitStack) -> Site:
    """Return nodes without counters, whose repository is the copy."""
    other = Site(site.directory / "other", "standalone", stack, repository=site.plan["copy_repository"])
    of_site(other, "b")
    return other


def config_of(site: Site, repository: str) -> dict[str, Any]:
    return dict(json.loads(site.restic("--repo", site.plan[repository], "cat", "config")))


def test_what_is_proved_is_copied_and_proved_there(both: Site, stack: ExitStack) -> None:
    both.plan["copy_repository"] = str(both.directory / "new")
    both.count({"a": 2})
    assert both.run("copy")["copied"] is None  # there is nothing yet
    first = both.run("run")
    both.run("run", "replaced")
    assert both.run("copy")["copied"] == first["time"] == note(both)["copied"]
    (copied,) = both.run("--copy", "list")["backups"]
    assert (copied["id"], copied["sum"], copied["site"]) == (first["id"], 2, "a" * 32)
    assert copied["proved"] > first["proved"]
    polynomials = {config_of(both, one)["chunker_polynomial"] for one in ("repository", "copy_repository")}
    assert len(polynomials) == 1
    assert len({config_of(both, one)["id"] for one in ("repository", "copy_repository")}) == 2
    # As if the run had been killed before the proof.
    tag = ("--repo", both.plan["copy_repository"], "tag", "--tag", "proved")
    both.restic(*tag, "--remove", f"proved={copied['proved']}")
    both.restic(*tag, "--add", f"proved={first['proved']}")
    both.run("copy")
    assert [saved["proved"] > first["proved"] for saved in both.run("--copy", "list")["backups"]] == [True]
    (proved,) = both.run("--copy", "verify", "all")
    assert proved["proved"] > copied["proved"]
    assert (note(both)["id"], note(both)["proved"]) == (first["id"], first["proved"])
    assert both.run("--copy", "export", "latest", "csv")["sum"] == 2
    # The first repository is lost, and so are its hosts.
    other = other_site(both, stack)
    assert "of another stack named counter" in other.refused("run")
    assert other.run("whose")["backup"]["id"] == first["id"]
    assert other.run("state", "latest")["files"]["site"] == "a" * 32 + "\n"
    assert other.run("restore", "latest")["sum"] == 2
    assert other.counters == {"a": 2}
    # The stack that was restored has this id now.
    Path(other.plan["state"], "site").write_text("a" * 32 + "\n")
    assert other.run("run")["sum"] == 2


def test_a_backup_that_is_proved_later_is_copied_too(both: Site) -> None:
    """When it was made, it could not be read back."""
    both.count({"a": 1})
    first = both.run("run")
    both.restic("tag", "--remove", "proved", "--remove", f"proved={first['proved']}")
    second = both.run("run")
    both.run("copy")
    assert ids(both, "--copy") == [second["id"]]
    both.run("verify", first["id"])
    both.run("copy")
    assert ids(both, "--copy") == ids(both) == [first["id"], second["id"]]


@pytest.mark.slow
def test_copies_are_kept_like_backups(both: Site) -> None:
    both.plan["keep"] = {"last": 1}
    both.count({"a": 1})
    made = []
    for _ in range(2):
        made.append(both.run("run")["id"])
        both.run("copy")
    assert ids(both) == ids(both, "--copy") == made[-1:]
    # What is held and deleted, is so in both.
    both.run("change", "hold", made[-1])
    made.append(both.run("run")["id"])
    both.run("copy")
    assert ids(both) == ids(both, "--copy") == made[-2:]
    both.run("change", "unhold", made[-2])
    both.run("change", "delete", made[-2])
    assert ids(both) == ids(both, "--copy") == made[-1:]
    # After a loss, nothing is removed.
    both.nodes[0].client().set("{a}:value", 0)
    made.append(both.run("run")["id"])
    both.run("copy")
    assert ids(both) == ids(both, "--copy") == made[-2:]


def test_a_copy_that_fails_leaves_the_backup_proved(both: Site, stack: ExitStack) -> None:
    both.count({"a": 1})
    first = both.run("run")
    both.run("copy")
    copies = Path(both.plan["copy_repository"])
    away = copies.rename(copies.with_name("away"))
    second = both.run("run")
    for failed in ("does not exist", "of another stack named counter"):
        assert failed in both.refused("copy")
        assert (note(both)["id"], note(both)["proved"]) == (second["id"], second["proved"])
        assert note(both)["copied"] == first["time"]
        assert failed in note(both)["copy_failure"]
        assert failed in note(both)["failure"]
        if not copies.exists():
            other = other_site(both, stack)
            other.count({"b": 1})
            other.run("run")
    copies.rename(copies.with_name("foreign"))
    away.rename(copies)
    # One of its files is damaged.
    for path in copies.glob("data/*/*"):
        path.chmod(0o600)
        path.write_bytes(bytes(path.stat().st_size))
    assert "cannot be read back" in both.refused("copy")
    assert both.backups[-1]["proved"] == second["proved"]
    assert both.run("copy", "repaired")["removed"]
    third = both.run("run")
    assert both.run("copy")["copied"] == third["time"]
    assert note(both)["copy_failure"] == ""


@pytest.mark.slow
def test_the_service_copies_the_log_too_and_tells_of_a_copy_that_fails(both: Site, stack: ExitStack) -> None:
    url, received = stack.enter_context(receiver())
    both.count({"a": 1})
    both.run("run")
    both.plan |= {"log_seconds": INTERVAL, "report_url": url, "heartbeat_url": url, "schedule": "0 0 1 1 *"}
    both.plan["retry_seconds"] = 5
    copies = Path(both.plan["copy_repository"])
    shutil.rmtree(copies)
    copies.write_text("no directory")
    service = both.start("serve")

    def report() -> dict[str, Any]:
        while (told := received.get(timeout=60)) == BEAT:
            pass
        return told

    failed = report()
    assert (failed["copied"], "not a directory" in failed["error"]) == (None, True)
    while not received.empty():
        received.get()
    wait_until("the log to begin", lambda: both.run("list")["logs"], 60)
    both.count({"a": 1})
    time.sleep(2 * INTERVAL)
    copies.unlink()
    # Only the first failure is reported, and no heartbeat follows it.
    copied = received.get(timeout=60)
    assert (copied["copied"], copied["error"]) == (note(both)["time"], "")
    assert received.get(timeout=60) == BEAT
    until = both.run("--copy", "list")["logs"][-1]["until"]
    wait_until("an upload", lambda: both.run("list")["logs"][-1]["until"] > until, 60)
    both.run("copy")
    assert both.run("--copy", "list")["logs"][-1]["until"] > until
    service.send_signal(signal.SIGTERM)
    service.communicate(timeout=60)
    other = other_site(both, stack)
    assert other.run("restore", "log")["sum"] == 2
