"""What stays in the repository, who can open it, and what a full disk does."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest
from sites import Site
from support.small_disk import MIB, small_disk

from counter.store.keys import BACKUP_KEY


def opens(site: Site, password: str) -> bool:
    command = ["restic", "--no-cache", "cat", "config", "--no-lock"]
    environ = {"RESTIC_REPOSITORY": site.plan["repository"], "RESTIC_PASSWORD": password}
    done = subprocess.run(command, env={"PATH": "/usr/bin:/bin"} | environ, capture_output=True, check=False)
    assert done.returncode in {0, 12}
    return done.returncode == 0


def test_a_changed_password(site: Site, tmp_path: Path) -> None:
    site.count({"a": 1})
    site.run("run")
    site.plan["passwords"] = ["two", "zero", "one"]
    site.run("run")
    assert (opens(site, "two"), opens(site, "one")) == (True, False)
    # As if it had been interrupted between the two steps.
    former = tmp_path / "former"
    former.write_text("one")
    site.restic("key", "add", "--new-password-file", str(former))
    assert opens(site, "one")
    site.run("run")
    assert (opens(site, "two"), opens(site, "one")) == (True, False)
    assert len(json.loads(site.restic("key", "list", "--json"))) == 1
    assert len(site.backups) == 3


def test_a_former_password_stays_while_another_stack_may_use_it(site: Site) -> None:
    site.plan["stack"] = "other"
    site.count({"a": 1})
    other = site.run("run")
    assert other["shared_with"] == []
    site.plan |= {"stack": "counter", "passwords": ["two", "one"]}
    assert site.run("run")["shared_with"] == ["other"]
    assert (opens(site, "two"), opens(site, "one")) == (True, True)
    site.plan |= {"stack": "other", "passwords": ["one"]}
    assert site.run("verify", other["id"])


def test_retention(site: Site) -> None:
    site.count({"a": 1})
    first = site.run("run")["id"]

    def add(day: int, hour: int, *tags: str) -> str:
        """Add a backup of a day in the past."""
        identifier = f"202601{day:02}T{hour:02}0000Z"
        told = ["counter-deploy", f"id={identifier}", "format=1", *tags]
        options = [option for tag in told for option in ("--tag", tag)]
        site.restic("backup", "--quiet", "--time", f"2026-01-{day:02} {hour:02}:00:00", *options, site.plan["state"])
        return identifier

    stranger = add(1, 1, "stack=other", "proved", "proved=2026-01-01T01:00:00Z")
    unproved = [add(2, hour, "stack=counter") for hour in range(4)]
    proved = [
        add(day, hour, "stack=counter", "proved", "proved=2026-01-03T00:00:00Z") for day in (3, 4) for hour in (1, 2)
    ]
    site.plan["keep"] = {"last": 3, "daily": 3}
    second = site.run("run")["id"]
    assert [saved["id"] for saved in site.backups] == [stranger, *unproved[1:], proved[1], proved[3], first, second]
    site.plan["keep"] = {"last": 2}
    third = site.run("run")["id"]
    assert [saved["id"] for saved in site.backups] == [stranger, *unproved[1:], second, third]


def test_the_same_id_in_several_stacks(site: Site) -> None:
    """By default, all stacks make their backups at the same second of the night."""
    site.plan["stack"] = "first"
    site.count({"a": 1})
    shared = site.run("run")["id"]
    site.plan["stack"] = "second"
    site.count({"a": 1})
    other = site.run("run")["id"]
    site.restic("tag", "--tag", "stack=second", "--remove", f"id={other}", "--add", f"id={shared}")
    assert site.run("state", shared)["backup"]["stack"] == "second"
    site.plan["stack"] = "third"
    said = site.refused("restore", shared)
    assert f"several stacks have {shared}; choose one of them: first/{shared}, second/{shared}" in said
    assert "no proved backup of third" in site.refused("restore", "latest")
    assert site.run("restore", f"second/{shared}")["sum"] == 2
    assert site.run("restore", "first/latest")["sum"] == 1
    assert [proved["stack"] for proved in site.run("verify", f"first/{shared}")] == ["first"]


def test_state(site: Site) -> None:
    site.count({"a": 1})
    state = Path(site.plan["state"])
    (state / "redis-secrets").mkdir()
    (state / "redis-secrets" / "key").write_text("of this host")
    (state / "redis" / "redis-secrets").write_text("of this host")
    saved = site.run("run")
    assert json.loads(str(site.nodes[0].client().get(BACKUP_KEY)))["id"] == saved["id"]
    found = site.run("state", "latest")
    assert found["files"] == {"deployed.json": '{"format": 2}\n', "redis/passwords": "secret\n"}
    assert found["backup"] | {"less_than": "", "not_freed": "", "shared_with": []} == saved
    assert (found["manifest"]["stack"], found["manifest"]["counters"]) == ("counter", 1)
    assert "of this host" not in json.dumps(found)
    # What a restore is given before it is certain is not stored anywhere yet.
    site.plan["passwords"] = ["given", "one"]
    assert site.run("state", "latest") == found
    assert (opens(site, "given"), opens(site, "one")) == (False, True)


@pytest.mark.parametrize("full", ["work", "repository"])
def test_a_full_disk(site: Site, tmp_path: Path, stack: ExitStack, full: str) -> None:
    site.count({"a": 1})
    path = tmp_path / "disk"
    path.mkdir()
    disk = stack.enter_context(small_disk(path, 160))
    site.plan[full] = str(path / full)
    first = site.run("run")
    site.store.increment("a")
    before = site.keys
    disk.fill()
    for verb in ("run", *(["restore latest", "verify latest"] if full == "work" else [])):
        said = site.refused(*verb.split()).lower()
        assert "make room" in said or "no space left" in said
        assert "traceback" not in said
    assert site.keys == before
    disk.make_room()
    assert [(saved["id"], saved["bad"]) for saved in site.backups if saved["proved"]] == [(first["id"], "")]
    saved = site.run("run")
    assert (saved["sum"], saved["bad"]) == (2, "")
    assert site.run("restore", "latest")["sum"] == 2


def test_the_latest_backup_is_none_that_a_restore_made(site: Site) -> None:
    """A restore that is repeated would restore what it was to replace."""
    site.count({"a": 1})
    first = site.run("run")
    site.store.increment("a")
    second = site.run("run", "replaced")
    assert (first["replaced"], second["replaced"]) == (False, True)
    assert site.run("restore", "latest")["backup"]["id"] == first["id"]
    assert site.run("restore", second["id"])["sum"] == 2


def test_a_backup_that_a_restore_made_takes_the_place_of_no_other(site: Site) -> None:
    site.plan["keep"] = {"last": 2}
    site.count({"a": 1})
    first = site.run("run")
    safety = site.run("run", "replaced")
    site.run("verify", safety["id"])
    second = site.run("run")
    assert [saved["id"] for saved in site.backups] == [saved["id"] for saved in (first, safety, second)]


def test_what_is_saved_need_not_fit_into_the_directory_for_temporary_files(
    site: Site, tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of the service has 16 MiB (templates/backup.stack.yml.j2)."""
    (path := tmp_path / "t").mkdir()
    stack.enter_context(small_disk(path, 16))
    site.count({"a": 1})
    Path(site.plan["state"], "large").write_bytes(os.urandom(40 * MIB))
    monkeypatch.setenv("TMPDIR", str(path))
    assert site.run("run")["proved"]


def test_nothing_is_removed_after_a_loss(site: Site) -> None:
    """A store that lost its data is saved too; the backups from before are all that is left of it."""
    site.plan["keep"] = {"last": 1}
    site.count({"a": 3})
    first = site.run("run")
    assert first["less_than"] == ""
    site.nodes[0].client().set("{a}:value", 1)
    second = site.run("run")
    assert second["less_than"] == first["id"]
    assert [saved["id"] for saved in site.backups] == [first["id"], second["id"]]
    note = json.loads(str(site.nodes[0].client().get(BACKUP_KEY)))
    assert (note["id"], note["less_than"]) == (second["id"], first["id"])
    # What a restore replaces, and what counts after it, may hold anything.
    site.nodes[0].client().set("{a}:value", 0)
    safety = site.run("run", "replaced")
    assert safety["less_than"] == ""
    assert json.loads(str(site.nodes[0].client().get(BACKUP_KEY)))["less_than"] == ""
    site.count({"a": 5})
    last = site.run("run")
    assert last["less_than"] == ""
    assert [saved["id"] for saved in site.backups] == [safety["id"], last["id"]]
