"""Backups of real Redis processes in real restic repositories."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from sites import TICK_SECONDS, Site, most_in_the_full_run
from support.waiting import wait_until

from counter.store.types import ReusedKeyError

NAMES = {f"c{number}": number for number in range(1, 13)}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("sentinel", "cluster"),
        ("cluster", "standalone"),
        pytest.param("standalone", "sentinel", marks=pytest.mark.slow),
        pytest.param("sentinel", "sentinel", marks=pytest.mark.slow),
    ],
)
def test_counters_and_keys_return_in_any_topology(tmp_path: Path, stack: ExitStack, before: str, after: str) -> None:
    old = Site(tmp_path / "old", before, stack)
    old.count(NAMES)
    answered = old.store.increment("c1", "key of a client").value
    saved = old.run("run")
    assert (saved["counters"], saved["sum"], saved["bad"]) == (12, sum(NAMES.values()) + 1, "")
    assert saved["proved"]
    old.store.increment("c2", "after the backup")

    new = Site(tmp_path / "new", after, stack, repository=old.plan["repository"])
    new.count({"c1": 5, "stranger": 1})
    restored = new.run("restore", "latest")
    assert (restored["counters"], restored["sum"]) == (12, saved["sum"])
    assert new.counters == NAMES | {"c1": 2}
    assert new.store.increment("c1", "key of a client").value == answered
    with pytest.raises(ReusedKeyError):
        new.store.increment("c2", "key of a client")
    assert new.store.increment("c2", "after the backup").value == 3
    assert new.counters["c1"] == 2
    assert new.run("restore", saved["id"])["sum"] == saved["sum"]


@most_in_the_full_run
def test_a_backup_has_what_was_acknowledged_before_it_began(tmp_path: Path, stack: ExitStack, kind: str) -> None:
    site = Site(tmp_path / "site", kind, stack)
    site.count(NAMES)
    acknowledged, ended = dict(NAMES), threading.Event()

    def count(name: str) -> None:
        store = site.store
        while not ended.wait(TICK_SECONDS):
            acknowledged[name] = store.increment(name, f"{name}-{acknowledged[name] + 1}").value

    threads = [threading.Thread(target=count, args=(name,)) for name in NAMES]
    for thread in threads:
        thread.start()
    try:
        wait_until("each to count", lambda: all(acknowledged[name] > times for name, times in NAMES.items()))
        least = dict(acknowledged)
        saved = site.run("run")
        most = dict(acknowledged)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert sum(least.values()) <= saved["sum"] <= sum(most.values()) + len(NAMES)
    assert saved["sum"] > sum(NAMES.values())
    syncs = {node.address: "cmdstat_sync" in node.client().info("commandstats") for node in site.nodes}
    roles = {node.address: node.client().role()[0] for node in site.nodes}
    assert {roles[address] for address, copied in syncs.items() if copied} == {
        "master" if kind == "standalone" else "slave"
    }

    # A repeated key counts once more exactly if the backup is without it.
    restored = site.run("restore", saved["id"])
    assert restored["sum"] == saved["sum"]
    values = site.counters
    for name, value in values.items():
        assert least[name] <= value <= most[name] + 1
        assert site.store.increment(name, f"{name}-{value}").value == value, "in the backup"
        assert site.store.increment(name, f"{name}-{value + 1}").value == value + 1, "after the backup"


def test_many_ids_return(site: Site) -> None:
    """The ids of clients' keys share hashes, which can have thousands of fields; they expire."""
    site.count({"a": 1})
    node = site.nodes[0].client()
    hashes = {f"{{a}}:keys:{number}": {f"id-{field}": str(field) for field in range(15_000)} for number in range(4)}
    for key, fields in hashes.items():
        node.hset(key, mapping=fields)
        node.pexpire(key, 3_600_000)
    node.mset({f"{{n{number}}}:value": number + 1 for number in range(1_200)})
    assert site.run("run")["counters"] == 1_201
    before = set(site.keys)
    assert site.run("restore", "latest")["keys"] >= 1_201 + len(hashes)
    assert set(site.keys) == before
    assert {key: node.hgetall(key) for key in hashes} == hashes
    assert all(3_000_000 < int(str(node.pttl(key))) <= 3_600_000 for key in hashes)


def test_while_a_slot_moves_nothing_is_saved(tmp_path: Path, stack: ExitStack) -> None:
    """Otherwise a key that moves from a node that is copied later to one that was copied earlier would be missing."""
    site = Site(tmp_path / "site", "cluster", stack)
    source, names = site.found.primary_of("{c}:value"), [f"a{number}" for number in range(20)]
    homes = {name: site.found.primary_of(f"{{{name}}}:value") for name in names}
    target = next(node for node in homes.values() if node is not source)
    # Of each node, the first counter's slot has to take writes.
    site.count(dict.fromkeys(names, 1) | {"c": 3})
    slot = source.client().execute_command("CLUSTER", "KEYSLOT", "{c}")
    for node, state, other in ((target, "IMPORTING", source), (source, "MIGRATING", target)):
        node.client().execute_command(
            "CLUSTER", "SETSLOT", slot, state, other.client().execute_command("CLUSTER", "MYID")
        )
    (ids,) = source.client().keys("{c}:ids:*")
    source.client().execute_command("MIGRATE", "127.0.0.1", target.port, ids, 0, 5000)
    assert "two primaries hold keys of the same slot" in site.refused("run")
    assert site.backups == []
