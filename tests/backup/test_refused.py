"""What the program refuses, with the reason, before anything changes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from sites import Site, deny
from support.ports import free_port
from support.waiting import wait_until

from backup.errors import BackupError
from backup.plan import Plan
from backup.snapshot import Nodes
from counter.config import Address, Config
from counter.store import open_route
from counter.store.keys import BACKUP_KEY


def wrong_password(site: Site) -> None:
    site.plan["passwords"] = ["two"]


def gone(site: Site) -> None:
    """Leave an empty directory, as a disk that is not mounted does."""
    repository = Path(site.plan["repository"])
    repository.rename(repository.with_name("elsewhere"))
    repository.mkdir()


def something_else(site: Site) -> None:
    site.plan["repository"] += "-of-somebody"
    site.restic("init")
    site.restic("backup", "--quiet", site.plan["state"])


def newer_format(site: Site) -> None:
    site.restic("tag", "--remove", "format=1", "--add", "format=2")


def not_proved(site: Site) -> None:
    (saved,) = site.backups
    site.restic("tag", "--remove", "proved", "--remove", f"proved={saved['proved']}")


def nothing(_: Site) -> None:
    pass


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return a stack with one backup and an increment after it."""
    with ExitStack() as stack:
        site = Site(tmp_path_factory.mktemp("shared") / "site", "standalone", stack)
        site.count({"a": 2, "b": 1})
        site.run("run")
        site.store.increment("a", "after it")
        yield site


@contextmanager
def copied(site: Site, directory: Path) -> Iterator[Site]:
    """Let the site use a copy of its repository."""
    plan = dict(site.plan)
    subprocess.run(["cp", "-a", plan["repository"], directory / "repository"], check=True)
    site.plan |= {"repository": str(directory / "repository"), "work": str(directory / "work")}
    try:
        yield site
    finally:
        site.plan = plan


@pytest.mark.parametrize(
    ("spoil", "verbs", "reasons"),
    [
        (wrong_password, ["run", "list", "restore latest", "verify all"], ["the password does not open"]),
        (gone, ["run", "restore latest"], ["does not exist"]),
        (something_else, ["run", "list", "restore latest"], ["holds 1 snapshots of something else, and no backup"]),
        (nothing, ["restore 20200101T000000Z", "state x"], ["no backup ", "the newest are: ", "Z of counter"]),
        (newer_format, ["restore latest", "verify all"], ["has format 2, and this version reads format 1 at most"]),
        (not_proved, ["restore latest", "state latest"], ["no proved backup of counter", "of counter (not proved)"]),
    ],
)
def test_refused(
    shared: Site, tmp_path: Path, spoil: Callable[[Site], None], verbs: list[str], reasons: list[str]
) -> None:
    with copied(shared, tmp_path) as site:
        # A run knows from the nodes that the repository is not new.
        note, client = shared.nodes[0].client().get(BACKUP_KEY), shared.nodes[0].client()
        try:
            if spoil is gone:
                client.delete(BACKUP_KEY)
                site.run("run")
            spoil(site)
            before = site.keys
            files = sorted(Path(site.plan["repository"]).rglob("*"))
            for verb in verbs:
                said = site.refused(*verb.split())
                for reason in reasons:
                    assert reason in said
            assert site.keys == before
            assert sorted(Path(site.plan["repository"]).rglob("*")) == files
        finally:
            client.set(BACKUP_KEY, str(note))


def flip(pack: Path) -> None:
    content = bytearray(pack.read_bytes())
    content[len(content) // 3] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(content)


def truncate(pack: Path) -> None:
    pack.chmod(0o600)
    pack.write_bytes(pack.read_bytes()[: pack.stat().st_size // 2])


@pytest.mark.parametrize("damage", [flip, pytest.param(truncate, marks=pytest.mark.slow), Path.unlink])
def test_damage_is_found_and_repaired_only_when_asked(
    shared: Site, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    with copied(shared, tmp_path) as site:
        (first,) = site.backups
        before_packs = set(Path(site.plan["repository"], "data").rglob("*"))
        Path(site.plan["state"], damage.__name__).write_text(damage.__name__)  # the next one refers to the same data
        newest = site.run("run")
        # All packs that the newest added, of data and of trees.
        for pack in set(Path(site.plan["repository"], "data").rglob("*")) - before_packs:
            if pack.is_file():
                damage(pack)
        before = site.keys
        assert f"{newest['id']} cannot be read back" in site.refused("restore", newest["id"])
        assert site.keys == before
        # A restore judges nothing.
        assert all(saved["proved"] and not saved["bad"] for saved in site.backups)
        said = site.refused("verify", "all")
        assert newest["id"] in said
        assert first["id"] not in said
        assert "damaged" in said
        # Only what has another content is bad.
        marked = {saved["id"]: bool(saved["bad"]) for saved in site.backups}
        assert marked == {first["id"]: False, newest["id"]: damage is flip}
        named = note["id"] if (note := json.loads(str(site.nodes[0].client().get(BACKUP_KEY)))) else ""
        assert named == (first if damage is flip else newest)["id"]
        # A new backup refers to what is damaged, since the repository has it already.
        if damage is Path.unlink:  # otherwise, what the next one needs may be intact
            assert "cannot be read back" in site.refused("run")
        again = site.run("run", "repaired")
        assert again["proved"]
        assert again["not_freed"] == ""
        assert newest["id"] in again["removed"]
        assert [saved["id"] for saved in site.backups] == [first["id"], again["id"]]
        (copies,) = Path(site.plan["work"], "damaged").iterdir()
        assert any((copies / "snapshots").iterdir())
        assert any(path.read_text() for path in (copies / "index").iterdir())
        assert site.run("restore", "latest")["backup"]["id"] == again["id"]


def test_what_cannot_be_read_for_a_while_is_neither_bad_nor_removed(shared: Site, tmp_path: Path) -> None:
    """A server that has the snapshots, and not the data; a permission that is missing."""
    with copied(shared, tmp_path) as site:
        site.plan["keep"] = {"last": 7}
        (first,) = site.backups
        Path(site.plan["state"], "more").write_text("more")
        second = site.run("run")
        data = Path(site.plan["repository"], "data")
        away = data.rename(data.with_name("away"))
        data.mkdir()
        assert first["id"] in (said := site.refused("verify", "all"))
        assert second["id"] in said
        assert f"{second['id']} cannot be read back" in site.refused("restore", "latest")
        data.rmdir()
        away.rename(data)
        assert not any(saved["bad"] for saved in site.backups)
        third = site.run("run")
        assert third["not_freed"] == ""
        assert [saved["id"] for saved in site.backups] == [saved["id"] for saved in (first, second, third)]


def test_a_repair_removes_nothing_that_may_be_read_again(shared: Site, tmp_path: Path) -> None:
    with copied(shared, tmp_path) as site:
        Path(site.plan["state"], "more").write_text("more")
        site.run("run")
        before = site.backups
        try:
            deny(site, tmp_path, '*" restore "* | *" check "*')
            assert "nothing was repaired" in site.refused("run", "repaired")
            # Only one of them.
            deny(site, tmp_path, f'*" restore "*{before[0]["snapshot"]}* | *" check "*')
            assert site.run("run", "repaired")["removed"] == []
        finally:
            del site.environ["PATH"]
        assert site.backups[:2] == before


def test_what_a_repair_removes_is_named_although_no_backup_follows(shared: Site, tmp_path: Path) -> None:
    with copied(shared, tmp_path) as site:
        packs = set(Path(site.plan["repository"], "data").rglob("*"))
        Path(site.plan["state"], "named").write_text("named")
        lost = site.run("run")
        for pack in set(Path(site.plan["repository"], "data").rglob("*")) - packs:
            if pack.is_file():
                flip(pack)
        deny(site, tmp_path, '*" backup "*')
        try:
            said = site.refused("run", "repaired")
        finally:
            del site.environ["PATH"]
        assert f"Removed what needed damaged or missing files: {lost['id']}" in said
        assert "403 Access Denied" in said


def test_a_bad_backup_is_proved_again_before_it_is_removed(site: Site) -> None:
    """It may have been found bad by mistake, for example by an earlier version."""
    site.count({"a": 1})
    saved = site.run("run")
    site.restic("tag", "--remove", "proved", "--add", "bad", "--add", "bad=2026-11-26T03:00:00Z")
    again = site.run("run")
    assert [(one["id"], one["bad"]) for one in site.backups] == [(saved["id"], ""), (again["id"], "")]


def test_a_backup_that_is_found_bad_is_not_the_newest_proved_one(site: Site) -> None:
    site.count({"a": 1})
    saved = site.run("run")
    assert site.store.newest_backup()["id"] == saved["id"]
    for pack in Path(site.plan["repository"], "data").rglob("*"):
        if pack.is_file():
            flip(pack)
    assert saved["id"] in site.refused("verify", saved["id"])
    assert site.store.newest_backup() == {}
    # The repository is still known: it is not made anew where it is missing.
    repository = Path(site.plan["repository"])
    repository.rename(repository.with_name("away"))
    assert "does not exist" in site.refused("run")
    repository.with_name("away").rename(repository)
    assert site.store.newest_backup() == {}


def test_a_lock(site: Site) -> None:
    site.plan["lock_seconds"] = 2
    site.count({"a": 1})
    saved = site.run("run")
    reading = ["restic", "--no-cache", "backup", "--quiet", "--stdin-from-command", "--", "sleep", "600"]
    environ = {"RESTIC_REPOSITORY": site.plan["repository"], "RESTIC_PASSWORD": "one"}
    locks = Path(site.plan["repository"], "locks")
    with subprocess.Popen(reading, env={"PATH": "/usr/bin:/bin"} | environ, start_new_session=True) as other:
        try:
            wait_until("a lock", lambda: list(locks.iterdir()))
            said = site.refused("verify", saved["id"])
            assert "is in use; try again later" in said
            assert f"locked by PID {other.pid} on " in said
            assert [one["id"] for one in site.backups] == [saved["id"]]
        finally:
            os.killpg(other.pid, signal.SIGKILL)
    # A lock of a program that has died.
    assert list(locks.iterdir())
    assert site.run("run")["proved"]
    assert not list(locks.iterdir())


def test_too_little_memory_is_found_before_anything_changes(site: Site, tmp_path: Path, stack: ExitStack) -> None:
    site.count({"a": 1})
    site.run("run")
    small = Site(tmp_path / "small", "standalone", stack, repository=site.plan["repository"])
    small.count({"kept": 1})
    small.nodes[0].client().config_set("maxmemory", 500_000)
    before = small.keys
    assert "deploy with more redis_memory" in small.refused("restore", "latest")
    assert small.keys == before


def test_a_node_that_does_not_say_how_much_it_may_hold_is_not_taken_for_one_without_a_limit(site: Site) -> None:
    config = Config.from_env(site.environ)
    nodes = Nodes(config, Plan("counter", "/nowhere", ("one",)), open_route(config))
    with pytest.raises(BackupError, match="does not report its role"):
        nodes.limit([Address("127.0.0.1", free_port())])


def test_a_counter_that_is_not_listed_is_saved_and_listed(site: Site) -> None:
    """A replica of the app lists a counter a moment after it was first counted."""
    site.count({"a": 1, "b": 2})
    node = site.nodes[0].client()
    node.srem("counters", "b")
    node.sadd("counters", "only listed")
    # Ids that another version looks for, of a client's key that ends like the value of a counter.
    node.set("key:x}:value", "a", px=600_000)
    node.set("{a}:op:x}:value", 1, px=600_000)
    saved = site.run("run")
    assert (saved["counters"], saved["sum"]) == (2, 3)
    site.run("restore", "latest")
    assert site.counters == {"a": 1, "b": 2, "only listed": 0}


def test_of_two_stacks_backups_with_the_same_id_the_own_one_is_used(site: Site) -> None:
    site.count({"a": 1})
    saved = site.run("run")
    site.restic("tag", "--remove", "stack=counter", "--add", "stack=other")
    site.store.increment("a")
    second = site.run("run")
    site.restic("tag", "--remove", f"id={saved['id']}", "--add", f"id={second['id']}", "--tag", "stack=other")
    assert site.run("verify", second["id"])[0]["sum"] == 2
    assert [(one["stack"], one["sum"]) for one in site.backups] == [("counter", 2), ("other", 1)]


def test_a_part_of_the_counters_is_not_saved(shared: Site, tmp_path: Path) -> None:
    """The file of a restore that has ended stays."""
    record = Path(shared.plan["state"], "restore.json")
    with copied(shared, tmp_path) as site:
        try:
            record.write_text('{"backup": "20261126T030000Z", "before": ""}\n')
            assert "a restore is unfinished" in site.refused("run")
            record.write_text("{}\n")
            assert site.run("run")["proved"]
        finally:
            record.unlink()
