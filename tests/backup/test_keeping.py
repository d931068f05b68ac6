"""What stays in the repository, who can open it, and what a full disk does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sites import Site, deny, of_site
from support.small_disk import MIB, small_disk

from backup.__main__ import run
from backup.making import impossible
from backup.plan import Plan
from backup.retention import outdated
from backup.saved import BACKUP_ID, Log, Saved
from counter.config import Config
from counter.data import read_all
from counter.records import parse
from counter.remove import remove
from counter.store import open_route, primaries
from counter.store.keys import BACKUP_KEY, REMOVED_KEY, SITE_KEY
from counter.store.primaries import Primaries
from counter.store.site import Mark


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
    assert found["files"] == {
        "deployed.json": '{"format": 2}\n',
        "redis/internal": "internal\n",
        "redis/passwords": "secret\n",
    }
    assert found["backup"] == {name: saved[name] for name in found["backup"]}
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
    if full == "repository":
        shutil.copytree(site.plan["repository"], path / full)
    site.plan[full] = str(path / full)
    first = site.run("run")
    site.store.increment("a")
    before = site.keys
    disk.fill()
    for verb in ("run", *(["restore latest", "verify latest"] if full == "work" else ["verify latest"])):
        said = site.refused(*verb.split()).lower()
        assert "make room" in said or "no space left" in said
        assert "traceback" not in said
    assert site.keys == before
    if full == "repository":
        assert site.run("state", "latest")["files"]
        assert site.run("restore", "latest")["sum"] == 1
        site.store.increment("a")
    disk.make_room()
    assert [(saved["id"], saved["bad"]) for saved in site.backups if saved["proved"]] == [(first["id"], "")]
    saved = site.run("run")
    assert (saved["sum"], saved["bad"]) == (2, "")
    assert site.run("restore", "latest")["sum"] == 2


def test_a_backup_that_a_full_redis_cannot_note_is_followed_by_the_rest(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would be made anew every 15 minutes, and fill the repository."""
    site.count({"a": 1})
    site.run("run")
    for name, value in site.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(primaries, "PATIENCE_SECONDS", 0)
    site.nodes[0].client().config_set("maxmemory", 1)
    made = run(site.read_plan(keep={"last": 1}), ["scheduled"])
    assert "Redis did not store the result" in made["not_freed"]
    assert [saved["id"] for saved in site.backups] == [made["id"]]


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


def note(site: Site) -> dict[str, object]:
    return dict(json.loads(str(site.nodes[0].client().get(BACKUP_KEY))))


def test_nothing_is_removed_after_a_loss_until_it_is_confirmed(site: Site) -> None:
    """One counter that is lost is hidden in the sum by all others; and two backups after a loss hold the same."""
    site.plan["keep"] = {"last": 1}
    site.count({"a": 3, "b": 1})
    first = site.run("run")
    assert (first["less_than"], first["lower"]) == ("", "")
    site.nodes[0].client().set("{a}:value", 1)
    site.count({"b": 8})
    made = [first]
    for _ in range(2):
        made.append(site.run("run"))
        assert (made[-1]["less_than"], made[-1]["lower"]) == (first["id"], "a from 3 to 1")
        assert note(site)["less_than"] == first["id"]
    assert [saved["id"] for saved in site.backups] == [saved["id"] for saved in made]
    confirmed = site.run("run", "confirmed")
    assert (confirmed["less_than"], note(site)["less_than"]) == ("", "")
    assert [saved["id"] for saved in site.backups] == [confirmed["id"]]
    # What a restore replaces, and what counts after it, may hold anything.
    site.nodes[0].client().delete("{a}:value")
    safety = site.run("run", "replaced")
    assert (safety["less_than"], note(site)["id"]) == ("", confirmed["id"])
    last = site.run("run")
    assert last["less_than"] == ""
    assert [saved["id"] for saved in site.backups] == [safety["id"], last["id"]]


def test_a_former_backup_that_cannot_be_read_is_compared_the_next_time(site: Site, tmp_path: Path) -> None:
    """Otherwise a loss that others make up for in the sum would be hidden for good."""
    site.plan["keep"] = {"last": 1}
    site.count({"a": 2, "b": 1})
    first = site.run("run")
    site.nodes[0].client().mset({"{a}:value": 1, "{b}:value": 9})
    deny(site, tmp_path, f'*" restore "*{first["snapshot"]}*')
    second = site.run("run", "scheduled")
    del site.environ["PATH"]
    assert (second["less_than"], second["uncompared"], note(site)["uncompared"]) == ("", first["id"], first["id"])
    third = site.run("run")
    assert (third["less_than"], third["uncompared"], third["lower"]) == (first["id"], "", "a from 2 to 1")
    assert [saved["id"] for saved in site.backups] == [saved["id"] for saved in (first, second, third)]


def test_a_counter_that_was_removed_is_no_loss(site: Site) -> None:
    primaries = Primaries(open_route(Config.from_env(site.environ)))
    site.count({"a": 3, "b": 2})
    first = site.run("run")
    assert remove(primaries, read_all(primaries, "a"), "a", noted=True).counters == 1
    site.count({"a": 1})
    assert site.run("run")["less_than"] == ""
    # What it has now is compared again, and what was lost stays a loss.
    second = site.run("list")["backups"][-1]["id"]
    assert second != first["id"]
    site.nodes[0].client().delete("{a}:value")
    remove(primaries, read_all(primaries, "b"), "b", noted=True)
    lost = site.run("run")
    assert (lost["less_than"], lost["lower"]) == (second, "a from 1 to 0")
    # That is still compared.
    assert site.run("run")["lower"] == "a from 1 to 0"
    site.run("run", "confirmed")
    assert not site.nodes[0].client().exists(REMOVED_KEY)


def test_a_counter_that_is_removed_while_it_is_copied_has_no_impossible_value() -> None:
    before, after = {"a": 3, "b": 1}, {"b": 1}
    for held in (before, after):
        assert impossible(held, before, after, {"a"}) == []
    assert impossible(after, before, after, set()) == ["a: 0, but 3 before and 0 after"]


def test_after_a_restore_on_new_hosts_less_is_no_loss(site: Site, tmp_path: Path, stack: ExitStack) -> None:
    """There is no backup of what the restore replaced, which would tell."""
    site.count({"a": 1})
    first = site.run("run")
    site.store.increment("a")
    site.run("run")
    new = Site(tmp_path / "new", "standalone", stack, repository=site.plan["repository"])
    new.run("restore", first["id"])
    assert new.run("run")["less_than"] == ""


def test_data_that_is_not_the_stacks_is_not_saved(site: Site) -> None:
    """A volume that was emptied or replaced. What is restored until the deployment ends has no mark, or another one."""
    of_site(site, "a")
    site.count({"a": 2})
    first = site.run("run")
    client = site.nodes[0].client()
    client.flushall()
    assert f"no counters of this stack (site {'a' * 32})" in site.refused("run", "scheduled")
    client.set(SITE_KEY, Mark("b" * 32, "other", 1).text())
    site.count({"a": 7})
    assert "the counters of stack other" in site.refused("run")
    assert site.run("run", "replaced")["sum"] == 7
    assert site.run("restore", "latest")["backup"]["id"] == first["id"]
    assert site.run("run")["sum"] == 2


def test_the_latest_backup_lacks_no_counters(site: Site) -> None:
    """Otherwise a restore after a loss would return to what is left, and end the error."""
    site.count({"a": 2})
    first = site.run("run")
    site.nodes[0].client().set("{a}:value", 1)
    lost = site.run("run")
    assert lost["less_than"] == first["id"]
    found = site.run("state", "latest")
    assert (found["backup"]["id"], found["passed_over"]) == (first["id"], [lost["id"]])
    # If no other one is left.
    site.run("change", "delete", first["id"])
    found = site.run("state", "latest")
    assert (found["backup"]["id"], found["passed_over"]) == (lost["id"], [])


def test_two_stacks_of_one_name_do_not_share_a_repository(site: Site, tmp_path: Path, stack: ExitStack) -> None:
    """Such as a copy of a stack for tests, or one that was deployed anew instead of restored."""
    site.count({"a": 1})
    site.run("run")
    # An earlier version gave no ids. The stack knows what it has used.
    of_site(site, "a")
    first = site.run("run")
    assert first["site"] == "a" * 32
    other = Site(tmp_path / "other", "standalone", stack, repository=site.plan["repository"], keep={"last": 1})
    of_site(other, "b")
    other.count({"b": 1})
    said = other.refused("run")
    assert "has backups and changes of another stack named counter" in said
    assert "./counter restore -e backup=latest" in said
    assert [saved["id"] for saved in other.backups] == [saved["id"] for saved in site.backups]
    # The way on, which first saves what the restore replaces.
    replaced = other.run("run", "replaced")
    assert other.run("whose")["backup"]["id"] == first["id"]
    of_site(other, "a")
    assert other.run("restore", "latest")["backup"]["id"] == first["id"]
    assert other.run("run")["sum"] == 1
    assert replaced["id"] in [saved["id"] for saved in other.backups]


def test_whose_the_backups_of_an_earlier_version_are(site: Site, tmp_path: Path, stack: ExitStack) -> None:
    site.count({"a": 1})
    secret = Path(site.plan["state"], "redis", "internal")
    secret.write_text("former\n")
    site.run("run")
    # The nodes may have forgotten the backup: their counters were moved to others.
    site.nodes[0].client().delete(BACKUP_KEY)
    secret.write_text("new\nformer\n")
    of_site(site, "a")
    assert site.run("whose") == {}
    assert site.run("run")["proved"]
    other = Site(tmp_path / "other", "standalone", stack, repository=site.plan["repository"])
    of_site(other, "b")
    assert other.run("whose")["backup"]["sum"] == 1
    other.plan["repository"] += "-that-is-not-there"
    assert other.run("whose") == {}


def test_state_in_any_encoding_is_restored_and_none_is_refused(site: Site) -> None:
    site.count({"a": 1})
    state = Path(site.plan["state"])
    (state / ".swp").write_bytes(b"\xff\x00\xfe")
    saved = site.run("run")
    assert site.run("state", saved["id"])["files"]["redis/passwords"] == "secret\n"
    (state / "releases.json").write_text("[{")
    assert "the state of the stack has no usable releases.json" in site.refused("run")
    (state / "releases.json").unlink()
    (state / "deployed.json").unlink()
    assert "the state of the stack has no usable deployed.json" in site.refused("run")
    assert [one["id"] for one in site.backups] == [saved["id"]]


def made(time: str, **fields: str | bool) -> Saved:
    identifier = f"{datetime.fromisoformat(time):{BACKUP_ID}}"
    texts = {"stack": "counter", "site": "", "snapshot": identifier, "less_than": "", "uncompared": "", "bad": ""}
    numbers = {"format": 1, "size": 1, "counters": 1, "sum": 1}
    proved = {"proved": time, "replaced": False, "held": False}
    return Saved(**{"id": identifier, "time": time} | texts | numbers | proved | fields)  # type: ignore[arg-type]


def log_until(time: str) -> Log:
    texts = {"stack": "counter", "site": "", "snapshot": time, "log": time, "began": time, "until": time, "id": time}
    return Log(**texts, format=1, size=1)  # type: ignore[arg-type]


def test_the_newest_proved_backup_stays_whatever_a_clock_said() -> None:
    now = datetime(2026, 11, 26, 12, tzinfo=UTC)
    plan = Plan("counter", "/repository", ("one",), keep={"last": 1}, log_days=7)
    days = [made(f"2026-11-{day}T03:00:00Z") for day in (24, 25, 26)]
    assert outdated(days, [], plan, now) == days[:2]
    # Made while the clock was ahead, with ids that go on from there.
    ahead = [made("2030-01-01T00:00:00Z"), made("2026-11-26T04:00:00Z", id="20300101T000001Z")]
    assert outdated([*days, *ahead], [], plan, now) == days
    assert outdated([*days, ahead[0]], [], plan, now) == days[:2]
    # Made while the clock was behind.
    behind = made("2020-01-01T00:00:00Z", id="20261126T030001Z")
    assert outdated([*days, behind], [], replace(plan, keep={"daily": 2}), now) == days[:2]
    assert outdated([*days, behind], [], replace(plan, keep={}), now) == []


def test_what_is_no_proved_backup_takes_the_place_of_none() -> None:
    now = datetime(2026, 11, 26, 12, tzinfo=UTC)
    plan = Plan("counter", "/repository", ("one",), keep={"last": 1, "weekly": 2}, log_days=7)
    old, new = (made(f"2026-11-{day}T03:00:00Z") for day in (10, 25))
    safety = [made(f"2026-11-{day}T05:00:00Z", replaced=True) for day in (11, 20, 26)]
    unproved = [made(f"2026-11-26T{hour:02}:00:00Z", proved="") for hour in range(6, 10)]
    bad = made("2026-11-25T04:00:00Z", proved="", bad="2026-11-25T04:00:00Z")
    held = made("2020-01-01T00:00:00Z", held=True)
    logs = [log_until(f"2026-11-{day}T03:00:00Z") for day in (11, 20, 26)] + [log_until("2030-01-01T00:00:00Z")]
    # Without a newer backup, only the log has what was counted since. One that a restore made is not such a backup.
    assert outdated([old, safety[2]], logs, plan, now) == []
    assert outdated([], logs, plan, now) == logs[:1]
    everything = [held, old, safety[0], safety[1], new, bad, safety[2], *unproved]
    assert outdated(everything, logs, plan, now) == [safety[0], unproved[0], logs[0]]


def test_what_is_outdated_goes_without_a_new_backup(site: Site) -> None:
    """Nothing else removes it if there is no schedule."""
    assert site.run("tidy") == {"not_freed": ""}
    site.count({"a": 2})
    site.run("run")
    last = site.run("run")
    site.plan["keep"] = {"last": 1}
    assert site.run("tidy") == {"not_freed": ""}
    assert [saved["id"] for saved in site.backups] == [last["id"]]
    # The counters of a backup as a file, which an import reads.
    site.store.increment("a")
    for _ in range(2):  # the second time, there is nothing to change
        assert site.run("change", "hold", last["id"])["held"]
    assert "is held; release it first" in site.refused("change", "delete", last["id"])
    assert not site.run("change", "unhold", last["id"])["held"]
    exported = site.run("export", "latest", "csv")
    assert (exported["counters"], exported["sum"], exported["backup"]["id"]) == (1, 2, last["id"])
    assert [(one.name, one.value) for one in parse(exported["text"], "csv")] == [("a", 2)]
    assert site.run("change", "delete", last["id"])["not_freed"] == ""
    assert site.backups == []
