"""The log of changes: any moment of it can be restored."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis.crc import key_slot
from redis.exceptions import ResponseError
from sites import TICK_SECONDS, Site, most_in_the_full_run, of_site, session_of
from support.passwords import BACKUP_PASSWORD
from support.processes import RedisServer
from support.programs import Program
from support.waiting import wait_until

from backup.errors import BackupError, BadBackupError
from backup.log import RETRY_SECONDS, _cut
from backup.repository import Repository
from backup.saved import BACKUP_ID, LOG_ID, MOMENT, next_id
from backup.segments import Segments
from backup.snapshot import Nodes
from backup.stream import BrokenError, EndedError, Stream
from counter.config import Address, Config
from counter.store import open_route
from counter.store.types import StoreError

INTERVAL = 2
BEHIND = 6
"""How many seconds the log may be behind between two uploads, where nothing compares it with the primary."""
NAMES = [f"c{number}" for number in range(12)]


def text(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H:%M:%SZ}"


@dataclass
class Clients:
    """Threads that count, each on a counter of its own, and when each value was asked for and acknowledged."""

    site: Site
    names: list[str]
    asked: dict[str, list[float]] = field(default_factory=dict)
    acknowledged: dict[str, list[float]] = field(default_factory=dict)

    @contextmanager
    def counting(self) -> Iterator[None]:
        ended = threading.Event()

        def count(name: str) -> None:
            store = self.site.store
            asked, acknowledged = self.asked.setdefault(name, []), self.acknowledged.setdefault(name, [])
            while not ended.wait(TICK_SECONDS):
                asked.append(time.time())
                value = store.increment(name, f"{name}-{len(asked)}").value
                acknowledged.append(time.time())
                assert value == len(acknowledged)

        threads = [threading.Thread(target=count, args=(name,)) for name in self.names]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            for thread in threads:
                thread.join()

    def expect(self, values: dict[str, int], moment: float, behind: float) -> None:
        """Expect what was acknowledged some seconds before a moment, and nothing that was asked for a second later."""
        for name in self.names:
            least = sum(when < moment - behind for when in self.acknowledged[name])
            most = sum(when < moment + 1 for when in self.asked[name])
            assert least <= values[name] <= most, (name, least, values[name], most)


def logs(site: Site) -> list[dict[str, Any]]:
    time.sleep(0.5)
    return list(site.run("list")["logs"])


def reaches(site: Site, moment: float) -> str:
    """Wait until the log reaches a moment; return until when it goes."""
    snapshots = Path(site.plan["repository"]) / "snapshots"
    asked: set[Path] = set()

    def reached() -> str:
        nonlocal asked
        there = set(snapshots.iterdir())
        # Asking restic takes as much CPU as saving, which adds a snapshot.
        if there == asked:
            return ""
        asked = there
        return max((log["until"] for log in logs(site) if log["until"] >= text(moment)), default="")

    return wait_until("the log to reach a moment", reached, 60)


def whole(moment: float) -> int:
    """Return the next whole second, after waiting for it."""
    time.sleep(max(0, int(moment) + 1 - time.time()))
    return int(moment) + 1


@most_in_the_full_run
def test_every_moment_can_be_restored(tmp_path: Path, stack: ExitStack, kind: str) -> None:
    # So that a moment can be later than an upload by more than `BEHIND`.
    site = Site(tmp_path / "site", kind, stack, log_seconds=3 * BEHIND)
    site.count({f"c{number}": number for number in range(1, 6)})
    service = site.start("serve")
    wait_until("the log to begin", lambda: any(log["began"] <= text(time.time()) for log in logs(site)), 60)
    clients = Clients(site, [f"d{number}" for number in range(4)])
    with clients.counting():
        time.sleep(BEHIND + 1)
        moments: dict[float, float] = {whole(time.time()): BEHIND}
        saved = site.run("run")
        moments[datetime.fromisoformat(reaches(site, time.time())).timestamp()] = 0
        time.sleep(BEHIND + 1)
        moments[last := whole(time.time())] = BEHIND
        reaches(site, last)
    # Neither acknowledged nor listed as a replica where that could make an increment count as safe.
    for node in site.nodes:
        told = node.client().info("replication")
        others = [told[key] for key in told if key.startswith("slave") and isinstance(told[key], dict)]
        strangers = [other for other in others if other["port"] == 0]
        assert all(other["offset"] == 0 for other in strangers)
        assert kind == "standalone" or told["role"] == "slave" or not strangers
    service.send_signal(signal.SIGTERM)
    _, said = service.communicate(timeout=60)
    assert "begins anew" not in said

    other = Site(tmp_path / "other", "standalone", stack, repository=site.plan["repository"])
    other.plan["stack"] = "other"
    assert {log["stack"] for log in logs(other)} == {"counter"}
    assert "no log of other" in other.refused("restore", "log")
    assert len(logs(other)) == 1
    for moment, behind in moments.items():
        restored = other.run("restore", text(moment))
        clients.expect(other.counters, moment, behind)
        assert restored["sum"] == sum(other.counters.values())
        assert {name: other.counters[name] for name in ("c1", "c5")} == {"c1": 1, "c5": 5}
    # A key that was used before the moment counts once, one of a later time counts again.
    store, value = other.store, other.counters["d0"]
    assert store.increment("d0", f"d0-{value}").value == value
    assert store.increment("d0", f"d0-{value + 1}").value == value + 1
    # The backup between two moments is still there.
    assert other.run("restore", saved["id"])["sum"] == saved["sum"]


def test_moments_that_no_log_has_are_refused(site: Site) -> None:
    site.plan["log_seconds"] = INTERVAL
    site.count({"a": 1})
    before = time.time() - 1
    service = site.start("serve")
    wait_until("the log to begin", lambda: logs(site) != [], 60)
    (log,) = logs(site)
    spans = f"it has these: {log['began']} to "
    for moment, reason in {
        text(before): spans,
        text(time.time() + 3600): spans,
        text(before)[:-1]: "has no time zone",
        "2026-13-01T00:00:00Z": "must be in 1..12",
    }.items():
        assert reason in site.refused("restore", moment)
    assert site.counters == {"a": 1}
    service.kill()
    service.wait()
    wait_until("its programs to end", lambda: not session_of(service))

    for pack in (Path(site.plan["repository"]) / "data").glob("*/*"):
        damaged = bytearray(pack.read_bytes())
        damaged[20] ^= 1
        pack.chmod(0o600)
        pack.write_bytes(damaged)
    assert "cannot be read back" in site.refused("restore", log["until"])
    assert site.counters == {"a": 1}


def test_a_log_is_not_damaged_because_cutting_it_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "redis-check-aof"
    program.write_text("#!/bin/sh\nkill -9 $$\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(BackupError, match=r"a.aof of the log could not be cut: .* \(raise backup_memory\)") as raised:
        list(_cut([tmp_path / "a.aof"], datetime.now(UTC)))
    assert not isinstance(raised.value, BadBackupError)


def test_a_log_begins_anew_after_a_restart(tmp_path: Path, stack: ExitStack) -> None:
    """Redis then calls its changes otherwise, and knows none of the former ones."""
    site = Site(tmp_path / "site", "standalone", stack, log_seconds=INTERVAL)
    site.count({"a": 1})
    service = site.start("serve")
    wait_until("the log to begin", lambda: len(logs(site)) == 1, 60)
    before = reaches(site, time.time())
    site.nodes[0].kill()
    site.nodes[0].start()
    wait_until("to count again", lambda: counted(site), 60)
    several = wait_until("another log", lambda: number if (number := len(logs(site))) > 1 else 0, 60)
    after = reaches(site, whole(time.time()))
    assert site.run("restore", before)["sum"] == 1
    # Moments in which the nodes had a part of the counters are in no log.
    wait_until("another log", lambda: len(logs(site)) > several, 60)
    assert site.run("restore", "log")["sum"] == 1
    assert site.run("restore", after)["sum"] == 2
    assert {"log of changes begins anew", "log of changes continues"} < set(events_of(service))


@pytest.mark.parametrize(("kind", "loss"), [("sentinel", "primary"), ("cluster", "connection")])
def test_a_log_goes_on(tmp_path: Path, stack: ExitStack, kind: str, loss: str) -> None:
    """After a failover or a lost connection: without another copy, and with what arrived before."""
    site = Site(tmp_path / "site", kind, stack, log_seconds=INTERVAL)
    site.count(dict.fromkeys(NAMES, 1))
    service = site.start("serve")
    before = reaches(site, time.time())
    copies = {node.port: node.client().info("stats")["sync_full"] for node in site.nodes}
    lost = site.found.primary() if loss == "primary" else next(node for node in site.nodes if followers(node))
    if loss == "primary":
        lost.kill()
    else:
        lost.client().execute_command("CLIENT", "KILL", "TYPE", "replica")
    wait_until("to count again", lambda: counted(site, NAMES[0]), 60)
    # The first log may end up to a second after the interruption, without what was counted in that second.
    wait_until("the second log", lambda: len(logs(site)) > 1, 60)
    after = reaches(site, whole(time.time()))
    first, second = logs(site)
    assert first["until"] < second["began"] <= after
    for node in site.nodes:
        assert (loss == "primary" and node is lost) or node.client().info("stats")["sync_full"] == copies[node.port]
    said = events_of(service)
    assert "log of changes begins anew" not in said
    assert "log of changes goes on after an interruption" in said
    other = Site(tmp_path / "other", "standalone", stack, repository=site.plan["repository"])
    assert other.run("restore", f"counter/{before}")["sum"] == len(NAMES)
    assert other.run("restore", f"counter/{after}")["sum"] == len(NAMES) + 1


def events_of(service: Program) -> list[str]:
    """End the service; return what it logged."""
    service.send_signal(signal.SIGTERM)
    _, said = service.communicate(timeout=60)
    return [json.loads(line)["event"] for line in said.splitlines()]


@pytest.mark.parametrize("loss", ["service", "node"])
def test_what_arrived_last_is_saved(tmp_path: Path, stack: ExitStack, loss: str) -> None:
    """Before its time, when the service ends, and when the only other thing that has it is gone."""
    site = Site(tmp_path / "site", "standalone", stack, log_seconds=600)
    site.count({"a": 1})
    service = site.start("serve")
    wait_until("the log to begin", lambda: logs(site) != [], 60)
    site.count({"a": 1, "b": 5})
    time.sleep(1.1)
    if loss == "node":
        site.nodes[0].kill()
        wait_until("an upload", lambda: logs(site)[-1]["until"] > logs(site)[-1]["began"], 60)
        service.kill()
    else:
        events_of(service)
    # Nothing of the counters stays on this host, except after a service that was killed.
    assert loss == "node" or not list(Path(site.plan["work"], "log").iterdir())
    other = Site(tmp_path / "other", "standalone", stack, repository=site.plan["repository"])
    other.run("restore", "counter/log")
    assert other.counters == {"a": 2, "b": 5}


def test_a_primary_never_takes_a_log_for_a_replica(tmp_path: Path, stack: ExitStack) -> None:
    """What is alone with one refuses writes: nothing else would have them."""
    site = Site(tmp_path / "site", "sentinel", stack, log_seconds=INTERVAL)
    site.count({"a": 1})
    site.start("serve")
    reaches(site, time.time())
    followed = next(node for node in site.nodes if followers(node))
    for node in site.found.processes:
        if node is not followed:
            node.signal(signal.SIGSTOP)
    client = followed.client()
    # It was a replica, and is alone on its side now.
    client.execute_command("REPLICAOF", "NO", "ONE")
    until = time.time() + 3 * RETRY_SECONDS
    try:
        while time.time() < until:
            with pytest.raises(ResponseError, match="NOREPLICAS"):
                client.set("{a}:value", 100)
            assert not followers(followed)
            time.sleep(0.05)
    finally:
        for node in site.found.processes:
            node.signal(signal.SIGCONT)


def followers(node: RedisServer) -> list[Any]:
    """Return the replicas without a port."""
    told = node.client().info("replication")
    return [told[key] for key in told if re.fullmatch(r"slave\d+", key) and told[key]["port"] == 0]


def test_a_replica_that_was_promoted_is_not_followed(tmp_path: Path, stack: ExitStack) -> None:
    site = Site(tmp_path / "site", "sentinel", stack)
    replica = site.found.replicas()[0]
    address = Address("127.0.0.1", replica.port)
    before = str(replica.client().info("replication")["master_replid"])
    stream = Stream("backup", BACKUP_PASSWORD, None, Segments(tmp_path, "1"))
    stack.callback(stream.close)
    stream.follow(address, before)
    wait_until("the first changes", lambda: stream.arrived)
    replica.client().execute_command("REPLICAOF", "NO", "ONE")
    wait_until("the end of the connection", lambda: not stream.is_following)
    for _ in range(2):
        with pytest.raises(EndedError, match="no longer a replica"):
            stream.follow(address, before)
        stream.close()


def counted(site: Site, name: str = "a") -> bool:
    with suppress(StoreError):
        return site.store.increment(name, "after").value == 2
    return False


def test_a_log_begins_anew_after_slots_moved(tmp_path: Path, stack: ExitStack) -> None:
    site = Site(tmp_path / "site", "cluster", stack, log_seconds=INTERVAL)
    site.count(dict.fromkeys(NAMES, 1))
    site.start("serve")
    before = reaches(site, time.time())
    source, target = (site.found.primary_of(name) for name in moved_between(site))
    ids = [node.client().execute_command("CLUSTER", "MYID") for node in (source, target)]
    options = ["--cluster-from", ids[0], "--cluster-to", ids[1], "--cluster-slots", "4000", "--cluster-yes"]
    subprocess.run(["redis-cli", "--cluster", "reshard", source.address, *options], check=True, capture_output=True)
    site.count({"later": 1})
    wait_until("another log", lambda: len(logs(site)) > 1, 60)
    after = reaches(site, whole(time.time()))
    other = Site(tmp_path / "other", "standalone", stack, repository=site.plan["repository"])
    for moment, names in {before: NAMES, after: [*NAMES, "later"]}.items():
        other.run("restore", moment)
        assert {name: value for name, value in other.counters.items() if value} == dict.fromkeys(names, 1)


def test_what_another_program_saves_again_is_fetched(site: Site, tmp_path: Path) -> None:
    """Another program saves a log and marks a backup, which replaces the snapshots, between the list and the fetch."""
    site.count({"a": 1})
    site.run("run")
    reader, writer = Repository(site.read_plan()), Repository(site.read_plan())
    source, fetched = tmp_path / "source", tmp_path / "fetched"
    source.mkdir()
    fetched.mkdir()
    began = datetime.now(UTC)

    def save(second: int) -> None:
        until = began + timedelta(seconds=second)
        (source / "until").write_text(str(second))
        moments = {"began": f"{began:{MOMENT}}", "until": f"{until:{MOMENT}}"}
        writer.save_log(source, until, {"stack": "counter", "format": 1, "id": "a log"} | moments)

    writer.open(create=False)
    save(1)
    reader.open(create=False)
    (saved,), log = reader.backups(), reader.at(None)
    save(2)
    save(3)
    writer.mark(writer.find(saved.id), "bad")
    reader.fetch(log, fetched)
    assert (fetched / "until").read_text() == "3"
    reader.fetch(saved, fetched)
    assert (fetched / "manifest.json").exists()
    site.restic("forget", "--unsafe-allow-remove-all", "--tag", "log")
    with pytest.raises(BackupError, match="was removed from") as raised:
        reader.fetch(log, fetched)
    assert not isinstance(raised.value, BadBackupError)


def test_a_moment_of_several_stacks(site: Site) -> None:
    began, until = datetime(2026, 11, 26, 10, tzinfo=UTC), datetime(2026, 11, 26, 11, tzinfo=UTC)
    moments = {"began": f"{began:{MOMENT}}", "until": f"{until:{MOMENT}}"}
    for stack in ("second", "third"):
        writer = Repository(site.read_plan(stack=stack))
        writer.open(create=True)
        writer.save_log(Path(site.plan["state"]), until, {"stack": stack, "format": 1, "id": "a log", **moments})
    readers = {stack: Repository(site.read_plan(stack=stack)) for stack in ("first", "second")}
    for reader in readers.values():
        reader.open(create=False)
    with pytest.raises(BackupError, match=f"several stacks have .*: second/{began:{MOMENT}}, third/{began:{MOMENT}}$"):
        readers["first"].at(began)
    with pytest.raises(BackupError, match="no log of first"):
        readers["first"].at(None)
    assert readers["first"].at(began, "third").name == f"third/{began:{MOMENT}}"
    assert readers["first"].at(None, "second").name == f"second/{until:{MOMENT}}"
    assert readers["second"].at(began).stack == "second"
    with pytest.raises(BackupError, match="no log of third"):
        readers["second"].at(until + timedelta(hours=1), "third")


def test_a_restore_learns_until_when_its_stack_has_recorded_changes(site: Site) -> None:
    """A stack that still does so must not be given to other hosts."""
    site.count({"a": 1})
    site.run("run")
    assert site.run("state", "latest")["until"] == ""
    until = f"{datetime.now(UTC):{MOMENT}}"
    writer = Repository(site.read_plan())
    writer.open()
    moments = {"began": until, "until": until}
    writer.save_log(
        Path(site.plan["state"]), datetime.now(UTC), {"stack": "counter", "format": 1, "id": "a log", **moments}
    )
    assert site.run("state", "latest")["until"] == until


def test_what_was_saved_after_a_clock_was_set_back_is_the_newest(site: Site) -> None:
    repository = Repository(site.read_plan())
    repository.open(create=True)
    ahead, now = datetime(2026, 11, 26, 10, tzinfo=UTC), datetime(2026, 11, 26, 9, tzinfo=UTC)
    minutes = timedelta(minutes=1)
    # While the second one was made, the clock went ahead; for the last one, it was behind.
    spans = [
        (ahead, ahead + 5 * minutes),
        (now, now + 50 * minutes),
        (now + 20 * minutes, now + 30 * minutes),
        (now - 90 * minutes, now - 80 * minutes),
    ]
    for began, until in spans:
        name = next_id(LOG_ID, began, (log.log for log in repository.logs()))
        moments = {"began": f"{began:{MOMENT}}", "until": f"{until:{MOMENT}}"}
        labels = {"stack": "counter", "format": 1, "id": name, **moments}
        repository.save_log(Path(site.plan["state"]), until, labels)
    found = repository.logs()
    assert [log.log for log in found] == sorted({log.log for log in found})
    assert [(log.began, log.until) for log in found] == [
        (f"{began:{MOMENT}}", f"{until:{MOMENT}}") for began, until in [spans[0], (now, spans[2][0]), *spans[2:]]
    ]
    assert repository.at(spans[2][0]).log == found[2].log
    with pytest.raises(BackupError, match="no log of counter"):
        repository.at(now + 40 * minutes)
    assert repository.at(None).id == f"{spans[-1][1]:{MOMENT}}"
    assert next_id(BACKUP_ID, now, ["20270101T000000Z", "20261126T080000Z"]) == "20270101T000001Z"
    assert next_id(BACKUP_ID, now, ["20261126T080000Z"]) == "20261126T090000Z"


def test_a_snapshot_that_is_replaced_while_restic_lists_is_not_missed(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.count({"a": 1})
    saved = site.run("run")
    program, real = tmp_path / "restic", shutil.which("restic")
    # Hides the snapshot from the first who asks, as restic does that had listed its former name.
    program.write_text(f"""#!/bin/sh
case "$*" in *" snapshots "*) mkdir {tmp_path}/asked 2>/dev/null && hide=1 ;; esac
[ -z "$hide" ] || mv {site.plan["repository"]}/snapshots/* {tmp_path}
[ -z "$hide" ] || echo 'Ignoring "abc": failed to load snapshot' >&2
{real} "$@"
status=$?
[ -z "$hide" ] || mv {tmp_path}/{saved["snapshot"][:8]}* {site.plan["repository"]}/snapshots
exit $status
""")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert [one["id"] for one in site.backups] == [saved["id"]]
    assert (tmp_path / "asked").is_dir()


def test_the_homes_of_all_slots_are_known(site: Site) -> None:
    """A log that asks for some of them does not notice that others moved."""
    config = Config.from_env(site.environ)
    homes = Nodes(config, site.read_plan(), open_route(config)).homes()
    assert len({key_slot(key.encode()) for key in homes}) == 16384


def moved_between(site: Site) -> tuple[str, str]:
    """Return two names whose counters have different primaries."""
    first = site.found.primary_of(NAMES[0])
    return NAMES[0], next(name for name in NAMES if site.found.primary_of(name) is not first)


def test_a_log_ends_where_the_data_was_emptied(site: Site) -> None:
    site.plan["log_seconds"] = INTERVAL
    of_site(site, "a")
    site.count({"a": 2})
    service = site.start("serve")
    wait_until("the log to begin", lambda: logs(site) != [], 60)
    site.nodes[0].client().flushall()
    for line in service.said:
        if "they were lost or replaced" in line:
            break
    service.send_signal(signal.SIGTERM)
    service.communicate(timeout=60)
    assert site.run("export", "log", "csv")["sum"] == 2


def test_a_log_without_its_repository_loses_nothing(site: Site) -> None:
    site.plan["log_seconds"] = INTERVAL
    site.count({"a": 1})
    service = site.start("serve")
    events: list[str] = []

    def listen() -> None:
        for line in service.said:
            events.append(json.loads(line)["event"])  # noqa: PERF401  # one by one, for what waits for them

    listening = threading.Thread(target=listen, daemon=True)
    listening.start()
    wait_until("the log to begin", lambda: logs(site) != [], 60)
    (began,) = logs(site)
    before = len(events)
    repository = Path(site.plan["repository"])
    away = repository.rename(repository.with_name("away"))
    site.count({"b": 2})
    missed = whole(time.time())
    wait_until("an upload to fail", lambda: "log of changes interrupted" in events[before:])
    # An upload that had begun left a part.
    assert not (repository / "config").exists()
    shutil.rmtree(repository, ignore_errors=True)
    away.rename(repository)
    reaches(site, time.time())
    (log,) = logs(site)
    assert log["log"] == began["log"]
    assert site.run("restore", text(missed))["counters"] == 2
    service.send_signal(signal.SIGTERM)
    service.wait(60)
    listening.join(60)
    assert "log of changes continues" in events


@pytest.fixture
def stream(site: Site, tmp_path: Path) -> Iterator[Stream]:
    """Follow the node of ``site``."""
    found = Stream("backup", BACKUP_PASSWORD, None, Segments(tmp_path, "1"))
    found.follow(Address("127.0.0.1", site.nodes[0].port), None)
    yield found
    found.close()


def test_a_clock_that_was_set_back_ends_a_stream(stream: Stream) -> None:
    now = int(time.time())
    stream.end_second(now)
    stream.end_second(now)
    with pytest.raises(BrokenError, match="the clock was set back"):
        stream.end_second(now - 2)


@pytest.mark.parametrize("full", [True, False])
def test_a_nearly_full_disk_ends_a_stream(
    site: Site, stream: Stream, monkeypatch: pytest.MonkeyPatch, *, full: bool
) -> None:
    """Also while nothing is saved, since an upload may hang."""
    monkeypatch.setattr("backup.stream.LEAST_FREE", 1 << 60 if full else 0)
    monkeypatch.setattr("backup.stream.LEAST_CHANGES", 1 << 20)
    client = site.nodes[0].client()

    def follows() -> None:
        client.set("{a}:value", "1" * (2 << 20))
        position = client.info("replication")
        stream.reach(position["master_replid"], position["master_repl_offset"], 10)

    # The disk is looked at when a change begins a second. A node may send its first changes a second late.
    follows()
    time.sleep(1.1)
    if full:
        with pytest.raises(BrokenError, match="the disk is nearly full"):
            follows()
    else:
        follows()


def test_a_node_that_falls_silent_ends_a_stream(site: Site, stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backup.stream.SILENCE_SECONDS", 2)
    site.nodes[0].signal(signal.SIGSTOP)
    try:
        wait_until("the end of the stream", lambda: not stream.is_following, 20)
    finally:
        site.nodes[0].signal(signal.SIGCONT)
    stream.reach(stream.replication_id, stream.offset, 1)
    with pytest.raises(EndedError, match="ended"):
        stream.reach(stream.replication_id, stream.offset + 1, 1)


def test_a_log_begins_anew_when_it_is_long(site: Site) -> None:
    """Without a gap."""
    site.plan |= {"log_seconds": INTERVAL, "log_days": 1}
    site.count({"a": 1})
    site.start("serve")
    wait_until("the log to begin", lambda: logs(site) != [], 60)
    node = site.nodes[0].client()
    for _ in range(70):
        node.set("{.load}:proof", "x" * (1 << 20))
    site.count({"b": 2})
    counted = whole(time.time())
    wait_until("another log to begin", lambda: len(logs(site)) == 2, 60)
    reaches(site, time.time())
    first, second = logs(site)
    assert first["began"] < second["began"] <= first["until"] < second["until"], (first, second)
    # The first log may have been long, and ended, before the last of this.
    assert site.run("restore", max(first["until"], text(counted)))["sum"] == 3
    site.run("run")
    assert logs(site)[0]["log"] == first["log"]
