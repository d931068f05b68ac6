"""A Redis Cluster with the program of its nodes: how it is made, what it survives, how it grows and shrinks."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
from cluster import LIFETIME_SECONDS, PATIENCE_SECONDS, SLOTS, Container, Stack
from history.checker import Result, Verdict, check
from history.model import load
from history.recorder import Plan, recording
from redis import Redis
from redis.crc import key_slot
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError
from replicated import left_by_others
from support import certificates
from support.configurations import configuration
from support.followers import WAITS, following
from support.passwords import APP_PASSWORD
from support.small_disk import small_disk
from support.waiting import wait_until

from redis_node.ask import Connection
from redis_node.cluster import behind
from redis_node.cluster.joining import NO_FAILOVER, WELL_SECONDS
from redis_node.cluster.lock import Lock
from redis_node.cluster.members import members, merged, parse, partner
from redis_node.cluster.moving import BYTES_AT_A_TIME, KEYS_READ_AT_MOST, Move, Mover, even, plan, transfer
from redis_node.cluster.shape import Shape
from redis_node.errors import NoAnswerError, RefusedError, SlotMovesError, StateError, UnknownNodeError
from redis_node.settings import Address, Settings

NODES = ("CLUSTER", "NODES")
NAMES = [f"c{one}" for one in range(24)]
MANY = [f"many{one}" for one in range(3000)]
"""Enough for moves to take a while."""
STILL_SECONDS = 5.0
"""Longer than the pair of a node waits before it takes over."""
AWAY_SECONDS = 5.0
"""About twice what Swarm takes to start a changed node."""
FORGOTTEN_SECONDS = 62.0
"""Longer than Redis keeps a forgotten id away."""
TICK_SECONDS = 0.01
"""How long a client waits between two operations: the processors are for what is tested."""
SLOWLY = """
import sys, time
from redis_node.cluster import moving, shape
moving.EMPTY_AT_A_TIME = 64
carry = moving.Mover._carry
def slowly(*what):
    time.sleep(0.05)
    carry(*what)
moving.Mover._carry = slowly
sys.exit(shape.main(["8"]))
"""
"""Makes the cluster one of eight nodes in small, slow steps: the moves must not be over before something breaks."""


@pytest.fixture
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the configuration of a cluster."""
    return configuration(tmp_path_factory, "cluster")


@pytest.fixture
def texts_of_three(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return that of one without replicas."""
    return configuration(tmp_path_factory, "cluster-of-three")


@pytest.fixture
def fresh(tmp_path: Path, texts: dict[str, str]) -> Iterator[Stack]:
    """Return nodes of which none runs yet."""
    found = Stack(tmp_path, texts)
    yield found
    found.kill()


@pytest.fixture
def cluster(
    request: pytest.FixtureRequest, kept: list[Stack], tmp_path_factory: pytest.TempPathFactory, texts: dict[str, str]
) -> Iterator[Stack]:
    """Return six nodes that are a cluster, with something counted."""
    with left_by_others(kept, request.session, lambda: Stack(tmp_path_factory.mktemp("cluster"), texts)) as found:
        yield counted(found)


@pytest.fixture
def own(fresh: Stack) -> Stack:
    """Return such nodes that no other test gets, whatever is configured."""
    return counted(fresh)


def counted(stack: Stack) -> Stack:
    stack.start(6)
    stack.shape(6)
    stack.settled()
    stack.count(NAMES)
    return stack


def expect_all_counted(stack: Stack, times: int = 1) -> None:
    assert stack.counted(NAMES) == dict.fromkeys(NAMES, times)


def expect_pairs(stack: Stack, count: int) -> None:
    """Every node comes to see pairs of a primary and a replica, and all slots, spread evenly."""
    names = [f"redis-{one}" for one in range(1, count + 1)]
    even = SLOTS / (count // 2)

    def as_asked(view: dict[str, tuple[str, int]]) -> bool:
        return (
            sorted(view) == sorted(names)
            and sum(slots for _, slots in view.values()) == SLOTS
            and all(view[partner(name)][0] != role for name, (role, _) in view.items())
            and all(abs(slots - (even if role == "primary" else 0)) <= 0.02 * even for role, slots in view.values())
        )

    wait_until("all to see pairs", lambda: all(as_asked(stack.nodes[name].view()) for name in names))


# -- What is read, and which nodes belong together


def test_what_redis_says_of_its_nodes_is_read() -> None:
    text = (
        "aa 10.0.0.2:6379@16379,redis-1 myself,master - 0 0 3 connected 0-5460 5462 [93->-bb] [77-<-bb]\n"
        "bb 10.0.0.3:6379@16379,redis-2,shard-id=55 slave,fail? aa 0 0 3 connected\n"
        "cc :0@0 master,noaddr - 0 0 2 disconnected\n"
    )
    one, two, three = parse(text)
    assert (one.name, one.address.host, one.slots, one.mine, one.alive, one.replica) == (
        "redis-1",
        "10.0.0.2",
        5462,
        True,
        True,
        False,
    )
    assert (two.name, two.primary, two.slots, two.alive, two.replica) == ("redis-2", "aa", 0, False, True)
    assert (three.name, three.address.host, three.alive) == ("", "", False)


@pytest.mark.parametrize("count", [6, 8, 10, 64])
def test_every_node_has_one_partner(count: int) -> None:
    names = {f"redis-{one}" for one in range(1, count + 1)}
    assert {partner(name) for name in names} == names
    assert all(partner(partner(name)) == name != partner(name) for name in names)
    assert {partner(f"redis-{one}") for one in (1, 2, 3)}.isdisjoint({"redis-1", "redis-2", "redis-3"})


# -- Creation


def test_a_cluster_is_created_once(fresh: Stack) -> None:
    fresh.start(6)
    assert fresh.shape(6)[0] == "created a cluster of 6 nodes, 3 of them primaries"
    expect_pairs(fresh, 6)
    ids = {node.client().execute_command("CLUSTER", "MYID") for node in fresh.nodes.values()}
    assert fresh.shape(6) == []
    assert {node.client().execute_command("CLUSTER", "MYID") for node in fresh.nodes.values()} == ids


def test_one_run_at_a_time_changes_the_cluster(fresh: Stack) -> None:
    """The program of a run that was killed goes on in its container."""
    fresh.start(6)
    wait_until("the node", fresh[1].client().ping)
    earlier = fresh[1].client(single_connection_client=True)
    earlier.client_setname("shape")
    with ThreadPoolExecutor() as pool:
        shaping = pool.submit(fresh.shape, 6)
        tried = "total_connections_received"
        before = earlier.info("stats")[tried]
        wait_until("it to try", lambda: earlier.info("stats")[tried] > before + 5)
        assert list(fresh[1].view().values()) == [("primary", 0)]
        earlier.close()
        assert shaping.result()[0].startswith("created")


def test_a_lock_that_was_lost_is_not_waited_for(fresh: Stack) -> None:
    fresh.start(1)
    wait_until("the node", fresh[1].client().ping)
    settings = Settings.from_env(fresh.environ("redis-1"))
    node = Address(fresh[1].address, 6379)
    lock = Lock(settings, node)
    assert lock.held()
    assert not Lock(settings, node).held()
    with fresh[1].frozen(), pytest.raises(NoAnswerError):
        lock.held()
    wait_until("the lock", Lock(settings, node).held)


def test_three_nodes_are_three_primaries_and_grow_to_pairs(
    tmp_path: Path, texts: dict[str, str], texts_of_three: dict[str, str]
) -> None:
    stack = Stack(tmp_path, texts_of_three)
    try:
        stack.start(3)
        stack.shape(3)
        stack.settled()
        assert {role for role, _ in stack[1].view().values()} == {"primary"}
        stack.count(NAMES)
        stack.texts = texts
        stack.start(6)
        assert not [line for line in stack.shape(6) if "spread" in line]
        expect_pairs(stack, 6)
        stack.settled()
        expect_all_counted(stack)
    finally:
        stack.kill()


def test_an_interrupted_creation_is_finished(fresh: Stack) -> None:
    """Some primaries have their slots, and nobody knows anybody: what redis-cli leaves when it is killed there."""
    fresh.start(6)
    for one, last in ((1, 5460), (2, 10922), (3, 16000)):
        wait_until("the node", fresh[one].client().ping)
        fresh[one].client().execute_command("CLUSTER", "ADDSLOTSRANGE", 5461 * (one - 1) + (one == 3), last)
    assert not [line for line in fresh.shape(6) if "created" in line]
    expect_pairs(fresh, 6)
    assert fresh.shape(6) == []


def test_nodes_that_hold_something_are_not_made_a_cluster(fresh: Stack, texts_of_three: dict[str, str]) -> None:
    fresh.texts = texts_of_three
    fresh.start(6)
    wait_until("the node", fresh[5].client().ping)
    fresh[5].client().execute_command("CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
    wait_until("slots", lambda: "cluster_state:ok" in str(fresh[5].client().execute_command("CLUSTER", "INFO")))
    fresh[5].client(username="counter", password="secret").incr("{c0}:value")  # noqa: S106
    fresh[5].client().execute_command("CLUSTER", "DELSLOTSRANGE", 0, SLOTS - 1)
    done = fresh.run("redis_node.cluster.shape", "6")
    assert done.returncode == 1
    assert "redis-5: holds counters but belongs to no cluster" in done.stderr
    assert all(len(node.view()) == 1 for node in fresh.nodes.values())


def test_data_of_another_topology_is_left_alone(fresh: Stack) -> None:
    fresh.start(3)
    wait_until("the node", fresh[2].client().ping)
    fresh[2].kill()
    manifest = fresh[2].volume / "appendonlydir/appendonly.aof.manifest"
    assert manifest.exists()
    (fresh[2].volume / "nodes.conf").unlink()
    fresh[2].start()
    assert fresh[2].process
    assert fresh[2].process.wait(20) == 1
    assert "holds data but no nodes.conf" in fresh[2].log.read_text()
    assert manifest.exists()


# -- TLS and passwords


@pytest.mark.fault
def test_all_parts_speak_tls_only(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The nodes meet, the app verifies their names, and all find each other again after a restart elsewhere."""
    for made in ("site", "stack"):
        (tmp_path / made).mkdir()
    texts = configuration(tmp_path_factory, "cluster-tls")
    stack = Stack(tmp_path / "stack", texts, certificates.make(tmp_path / "site"))
    try:
        stack.start(6)
        stack.shape(6)
        stack.settled()
        stack.count(NAMES)
        expect_pairs(stack, 6)
        with pytest.raises(RedisConnectionError):
            Redis(host=stack[1].address, protocol=2).ping()
        with stack.app() as url:
            answer = urllib.request.urlopen(urllib.request.Request(f"{url}/api/counters/c0/increment", method="POST"))
            assert json.load(answer)["value"] == 2
        for node in stack.nodes.values():
            node.kill()
        stack.start(6)
        stack.settled()
        assert stack.counted(["c0", "c1"]) == {"c0": 2, "c1": 1}
    finally:
        stack.kill()


@pytest.mark.fault
@pytest.mark.slow
def test_passwords_change_while_all_goes_on(cluster: Stack) -> None:
    """After two rotations the first passwords open nothing; a program that was started with them still hands over."""
    first = dict(cluster.logins)
    for number in (1, 2):
        cluster.rotate(f"internal-{number}")
        cluster.settled()
    for node in cluster.nodes.values():
        for user in ("operator", "replication"):
            with pytest.raises(AuthenticationError):
                node.client(username=user, password=first[user], protocol=2).ping()
    cluster[1].stop()
    assert cluster[1].said("slots over to redis-4")
    cluster[1].start()
    cluster.settled()
    expect_all_counted(cluster)


# -- What a cluster survives


def test_it_heals_when_every_address_is_another(cluster: Stack) -> None:
    for node in cluster.nodes.values():
        node.kill()
    cluster.start(6)
    cluster.settled()
    expect_pairs(cluster, 6)
    expect_all_counted(cluster)
    assert cluster.shape(6) == []


@pytest.mark.fault
@pytest.mark.slow
def test_it_heals_when_nodes_got_the_addresses_of_others(cluster: Stack) -> None:
    addresses = [node.address for node in cluster.nodes.values()]
    for node in cluster.nodes.values():
        node.kill()
    for node, address in zip(cluster.nodes.values(), addresses[1:] + addresses[:1], strict=True):
        node.start(address)
    cluster.settled()
    expect_pairs(cluster, 6)
    expect_all_counted(cluster)


@pytest.mark.parametrize("lost", [pytest.param("the volume", marks=pytest.mark.slow), "the data alone"])
def test_an_emptied_primary_comes_back_as_a_replica(cluster: Stack, lost: str) -> None:
    emptied = cluster.at("{c0}:value")
    mate = cluster.nodes[partner(emptied.name)]
    emptied.kill()
    if lost == "the volume":
        emptied.empty()
    else:
        shutil.rmtree(emptied.volume / "appendonlydir")
    emptied.start()
    wait_until("the other to take over", lambda: mate.client().role()[0] == "master")
    wait_until("it to follow", lambda: emptied.client().role()[0] == "slave")
    cluster.settled()
    expect_pairs(cluster, 6)
    expect_all_counted(cluster)
    assert emptied.said("is no longer known as")
    assert cluster.shape(6) == []


@pytest.mark.fault
def test_a_host_may_be_lost_after_an_earlier_failover(cluster: Stack) -> None:
    """The host of redis-2 has redis-4 too: were both primaries, the one that is left would be no majority."""
    cluster[1].kill()
    wait_until("redis-4 to take over", lambda: cluster[4].client().role()[0] == "master")
    cluster[1].start()
    cluster.settled()
    assert cluster[1].client().role()[0] == "master"
    for one in (2, 4):
        cluster[one].kill()
    # A node that has not heard of it yet names the one that was lost.
    wait_until("redis-5 to take over", lambda: cluster.counted(NAMES) == dict.fromkeys(NAMES, 1))


@pytest.mark.fault
def test_slots_move_only_when_each_first_node_is_primary_again(cluster: Stack) -> None:
    """It takes its slots back ten seconds after all is well; a move of slots that meets that would break off."""
    cluster[1].kill()
    wait_until("redis-4 to take over", lambda: cluster[4].client().role()[0] == "master")
    cluster[1].start()
    assert any(
        "of the slots of redis-2 to the other primaries" in line for line in cluster.shape(6, "relieve", "redis-5")
    )
    assert 1 <= cluster[1].view()["redis-2"][1] <= 2
    assert cluster[1].client().role()[0] == "master"
    assert any("evenly over 3 primaries" in line for line in cluster.shape(6))
    expect_pairs(cluster, 6)
    expect_all_counted(cluster)


def test_a_pair_is_not_repaired_while_both_nodes_report_the_same_slots(fresh: Stack) -> None:
    """A primary that has just returned does so until it hears that its replica took over; these two never hear it."""
    fresh.start(4)
    pair = [fresh[1], fresh[4]]
    settings = Settings.from_env(fresh.environ("redis-1"))
    for node in pair:
        wait_until("a node to start", lambda node=node: node.client().ping())  # type: ignore[misc]
        node.client().execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 99)
    seen = merged(members(settings, Address(node.address, 6379)) for node in pair)
    with pytest.raises(StateError, match="two primaries report the same slots"):
        list(Shape(settings, 6)._join_pairs(Mover(settings, seen)))  # noqa: SLF001


@pytest.mark.fault
def test_a_node_with_a_new_disk_joins_long_after_it_was_lost(cluster: Stack) -> None:
    """By then no node mentions its former id to a new one."""
    cluster[1].kill()
    cluster[1].empty()
    wait_until("redis-4 to take over", lambda: cluster[4].client().role()[0] == "master")
    time.sleep(2 * AWAY_SECONDS)
    cluster[1].start()
    wait_until("it to follow", lambda: cluster[1].client().role()[0] == "slave")
    cluster.settled()
    assert cluster[1].said("is no longer known as")
    expect_pairs(cluster, 6)
    expect_all_counted(cluster)


def is_primary(node: Container) -> bool:
    return bool(node.client().role()[0] == "master")


@pytest.mark.fault
@pytest.mark.slow
def test_a_former_id_that_returns_with_a_node_that_was_away_is_forgotten(cluster: Stack) -> None:
    """Redis keeps an id away for a minute only after it was forgotten."""
    for lost, other in ((3, 6), (1, 4)):
        cluster[lost].kill()
        wait_until("the other to take over", partial(is_primary, cluster[other]))
    cluster[1].empty()
    cluster[1].start()
    wait_until("its former id to be forgotten", lambda: cluster[1].said("is no longer known as"))
    time.sleep(FORGOTTEN_SECONDS)
    cluster[3].start()
    wait_until("redis-3 to be back", lambda: cluster[3].client().info("server"))
    assert any("forgot" in line for line in cluster.shape(6))
    cluster.settled()
    expect_pairs(cluster, 6)
    expect_all_counted(cluster)


def test_the_id_of_a_node_that_is_gone_is_forgotten(cluster: Stack) -> None:
    stranger = cluster.nodes["redis-9"] = Container(cluster, "redis-9")
    stranger.start()
    wait_until("the node", stranger.client().ping)
    cluster[1].client().execute_command("CLUSTER", "MEET", stranger.address, 6379)
    wait_until("all to know it", lambda: all("redis-9" in cluster[one].view() for one in range(1, 7)))
    stranger.kill()
    known = Settings.from_env(cluster.environ("redis-1")), Address(cluster[1].address, 6379)
    wait_until("it to be missed", lambda: [one for one in members(*known) if not one.alive])
    (said,) = cluster.shape(6)
    assert said.endswith("the former id of redis-9")
    assert all("redis-9" not in cluster[one].view() for one in range(1, 7))


@pytest.mark.fault
def test_an_emptied_replica_is_filled_again(cluster: Stack) -> None:
    primary = cluster.at("{c0}:value")
    emptied = cluster.nodes[partner(primary.name)]
    emptied.kill()
    emptied.empty()
    emptied.start()
    wait_until("it to follow", lambda: emptied.client().role()[0] == "slave")
    cluster.settled()
    expect_pairs(cluster, 6)
    assert cluster.at("{c0}:value") is primary


@pytest.mark.fault
def test_a_replica_does_not_take_over_before_its_first_copy_is_whole(cluster: Stack) -> None:
    primary = cluster.at("{c0}:value")
    emptied = cluster.nodes[partner(primary.name)]
    emptied.kill()
    emptied.empty()
    primary.client().config_set("rdb-key-save-delay", 20_000_000)
    emptied.start()
    wait_until("it to copy", lambda: emptied.client().info("replication").get("master_sync_in_progress"))
    # Its volume has an append-only file by now.
    emptied.kill()
    emptied.start()
    wait_until("it to follow", lambda: emptied.client().role()[0] == "slave")
    primary.kill()
    others = [one.client() for one in cluster.nodes.values() if one not in (primary, emptied)]
    failed = re.compile(rf",{primary.name} \S*\bfail\b(?!\?)")
    wait_until("all to miss it", lambda: all(failed.search(str(one.execute_command(*NODES))) for one in others))
    time.sleep(AWAY_SECONDS)
    assert emptied.client().role()[0] == "slave"
    primary.start()
    cluster.settled()
    expect_all_counted(cluster)
    assert emptied.client().config_get("cluster-replica-no-failover") == {"cluster-replica-no-failover": "no"}


@pytest.mark.fault
def test_a_first_node_becomes_primary_again_only_with_its_copy_on_its_disk(own: Stack) -> None:
    first = own[1]
    first.kill()
    first.empty()
    wait_until("redis-4 to take over", lambda: own[4].client().role()[0] == "master")
    texts = own.texts
    own.texts = texts | {"redis.conf": texts["redis.conf"] + "rdb-key-save-delay 3000000\n"}
    first.start()
    own.texts = texts
    wait_until("its copy to arrive", lambda: first.client().info("replication").get("master_link_status") == "up")
    time.sleep(1.2 * WELL_SECONDS)
    assert first.client().info("persistence")["aof_rewrite_in_progress"]
    assert first.client().role()[0] == "slave"
    own[4].stop()
    assert own[4].said("stops without handing over: redis-1 does not have its copy on its disk yet")
    own[4].start()
    own.settled()
    assert first.client().role()[0] == "master"
    expect_all_counted(own)


@pytest.mark.fault
def test_an_emptied_pair_is_not_passed_off_as_whole(cluster: Stack) -> None:
    for one in (1, 4):
        cluster[one].kill()
        cluster[one].empty()
        cluster[one].start()
    wait_until(
        "it to see",
        lambda: cluster[1].said("waits until redis-4 serves") or cluster[4].said("waits until redis-1 serves"),
    )
    done = cluster.run("redis_node.cluster.shape", "6", node="redis-2")
    assert done.returncode == 1
    assert (
        "slots of redis-1 are not served by any node" in done.stderr
        or "slots of redis-4 are not served by any node" in done.stderr
    )


HURRIED = """
import sys
from redis_node.cluster import shape
shape.TAKE_OVER_SECONDS = 3
sys.exit(shape.main(["6"]))
"""


@pytest.mark.fault
def test_a_partner_that_has_the_counters_is_waited_for(cluster: Stack) -> None:
    """The primary was lost and has a new disk, and its partner is about to take over."""
    lost, mate = cluster[1], cluster[4]
    _, slots = mate.view()["redis-1"]
    mate.client().config_set(NO_FAILOVER, "yes")  # so it does not, for now
    lost.kill()
    lost.empty()
    lost.start()
    command = cluster.command(sys.executable, "-c", HURRIED)
    done = subprocess.run(
        command, env=cluster.environ("redis-2"), capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS
    )
    assert done.returncode == 1
    assert f"redis-4 has counters of the {slots} slots of redis-1" in done.stderr
    assert "purge" not in done.stderr
    mate.client().config_set(NO_FAILOVER, "no")
    cluster.shape(6)
    cluster.settled()
    expect_all_counted(cluster)
    expect_pairs(cluster, 6)


@pytest.mark.fault
def test_slots_that_a_lost_node_had_just_got_are_served_by_its_partner(cluster: Stack) -> None:
    """The partner has their counters, but did not hear of the slots before it took over."""
    lost, mate = cluster[1], cluster[4]
    name = next(one for one in NAMES if cluster.at(f"{{{one}}}:value") is lost)
    slot, former = key_slot(name.encode()), lost.client().execute_command("CLUSTER", "MYID")
    lost.kill()
    wait_until("redis-4 to take over", lambda: mate.client().role()[0] == "master")
    wait_until("all to see it", lambda: all(cluster[n].view()["redis-4"][1] for n in (2, 3, 5, 6)))
    for number in (4, 5, 6):
        cluster[number].client().execute_command("CLUSTER", "DELSLOTS", slot)
    for number in (2, 3):
        cluster[number].client().execute_command("CLUSTER", "SETSLOT", slot, "NODE", former)
    lost.empty()
    lost.start()
    wait_until("it to wait", lambda: lost.said("waits until redis-4 serves the 1 slots that this node served"))
    cluster.shape(6)
    cluster.settled()
    expect_all_counted(cluster)
    expect_pairs(cluster, 6)


# -- Planned changes


def test_a_primary_hands_over_before_it_stops(cluster: Stack) -> None:
    primary = cluster.at("{c0}:value")
    mate = cluster.nodes[partner(primary.name)]
    primary.stop()
    assert mate.client().role()[0] == "master"
    assert primary.said(f"slots over to {mate.name}")
    expect_all_counted(cluster)
    primary.start()
    cluster.settled()
    expect_pairs(cluster, 6)


def test_a_stop_does_not_wait_for_what_confirms_nothing(cluster: Stack) -> None:
    """The change log of backups follows a replica, and Redis would wait for it for ten seconds."""
    replica = cluster.nodes[partner(cluster.at("{c0}:value").name)]
    with following(replica.client(), "replication", cluster.logins["replication"]):
        replica.stop()
    assert WAITS not in replica.log.read_text()
    replica.start()
    cluster.settled()


@pytest.mark.fault
@pytest.mark.slow
def test_a_primary_with_a_full_disk_is_replaced_waits_and_returns(fresh: Stack) -> None:
    full = fresh.nodes["redis-1"] = Container(fresh, "redis-1")
    with small_disk(full.volume) as disk:
        try:
            fresh.start(6)
            fresh.shape(6)
            fresh.settled()
            fresh.count(NAMES)
            name = next(name for name in NAMES if fresh.at(f"{{{name}}}:value") is full)
            client = full.client(username="counter", password=APP_PASSWORD)
            value = confirmed = 1
            disk.fill()
            with contextlib.suppress(RedisConnectionError):
                while value := int(client.incr(f"{{{name}}}:value")):
                    confirmed = value if client.wait(1, 1000) else confirmed
            assert confirmed > 1
            assert full.process
            full.process.wait(30)
            full.start()  # as Swarm does
            wait_until("it to say why it waits", lambda: "waits for room" in full.log.read_text())
            wait_until("its partner to take over", lambda: fresh[4].client().role()[0] == "master")
            disk.make_room()
            fresh.settled()
            assert full.said("becomes the primary of its pair again")
            # What was not confirmed may have been counted too, and so may the one without an answer.
            assert confirmed <= fresh.counted([name])[name] <= value + 1
            fresh.count(NAMES)
        finally:
            fresh.kill()


@pytest.mark.fault
def test_a_replica_that_does_not_answer_does_not_keep_a_primary_from_stopping(cluster: Stack) -> None:
    primary = cluster.at("{c0}:value")
    cluster.nodes[partner(primary.name)].kill()
    primary.stop()
    assert primary.said("stops without handing over")


def test_what_is_missing_is_said(cluster: Stack) -> None:
    cluster[6].kill()
    wait_until("redis-6 to be missed", lambda: "redis-6" in cluster.run("redis_node", "settled").stderr)
    assert cluster.run("redis_node", "role").stdout == "primary\n"
    assert cluster.run("redis_node", "role", node="redis-4").stdout == "replica\n"


def test_nodes_that_have_changed_places_meanwhile_are_not_in_sync(cluster: Stack) -> None:
    settings = Settings.from_env(cluster.environ("redis-1"))
    known = {member.name: member for member in members(settings, Address(cluster[1].address, 6379))}
    one, four = known["redis-1"], known["redis-4"]
    wait_until("redis-4 to be in sync", lambda: not behind(settings, four, one))
    assert behind(settings, one, four) == "redis-1 does not follow redis-4 yet"


def drill(stack: Stack, change: Callable[[Callable[[], None]], object]) -> list[Result]:
    """Count on several counters while something is changed; return what the checker says of each history.

    The change is given a function that waits until all counters go on.
    """
    with stack.app() as url:
        plans = [
            Plan(url, name, 2, LIFETIME_SECONDS, stack.directory / f"{name}.jsonl", tick=TICK_SECONDS)
            for name in NAMES[:6]
        ]
        with recording(*plans) as more:
            # Far more than the two clients of a counter have under way.
            all_go_on = partial(more, 20)
            all_go_on()
            change(all_go_on)
            all_go_on()
    return [check(load(plan.out)) for plan in plans]


@pytest.mark.fault
@pytest.mark.slow
def test_nodes_are_changed_one_by_one_while_clients_count(cluster: Stack) -> None:
    """While a node is away, its pair serves next to nothing, but goes on to have a vote."""

    def change_two_pairs(all_go_on: Callable[[], None]) -> None:
        for first in (1, 2):
            roles = {name: cluster[1].view()[name][0] for name in (f"redis-{first}", f"redis-{first + 3}")}
            for name in sorted(roles, key=lambda name: roles[name] == "primary"):
                cluster.shape(6, "relieve", name)
                assert 1 <= cluster[1].view()[f"redis-{first}"][1] <= 2, cluster[1].view()
                cluster.nodes[name].stop()
                time.sleep(AWAY_SECONDS)
                all_go_on()
                cluster.nodes[name].start()
                cluster.settled()
        assert any("spread" in line for line in cluster.shape(6))

    results = drill(cluster, change_two_pairs)
    print([(one.longest_gap, one.ok) for one in results])
    assert {one.verdict for one in results} == {Verdict.PASS}, results
    expect_pairs(cluster, 6)


def test_a_pair_keeps_its_slots_where_the_others_have_no_room(cluster: Stack) -> None:
    (limit,) = cluster[3].client().config_get("maxmemory").values()
    cluster[3].client().config_set("maxmemory", 1)
    (said,) = cluster.shape(6, "relieve", "redis-4")
    cluster[3].client().config_set("maxmemory", str(limit))
    assert said == "redis-3 has too little memory for what redis-1 serves, which waits while a node of it is away"
    expect_pairs(cluster, 6)
    expect_all_counted(cluster)


@pytest.mark.fault
@pytest.mark.slow
def test_it_grows_and_shrinks_while_clients_count(cluster: Stack) -> None:
    def grow_and_shrink(all_go_on: Callable[[], None]) -> None:
        cluster.start(8)
        cluster.shape(8)
        all_go_on()
        cluster.shape(6)

    results = drill(cluster, grow_and_shrink)
    print([(one.longest_gap, one.ok) for one in results])
    assert {one.verdict for one in results} == {Verdict.PASS}, results


@pytest.mark.fault
def test_it_grows_and_shrinks(cluster: Stack) -> None:
    cluster.start(8)
    assert any("evenly over 4 primaries" in line for line in cluster.shape(8))
    expect_pairs(cluster, 8)
    expect_all_counted(cluster)
    cluster.count(NAMES)
    cluster.settled()
    assert cluster.shape(8) == []
    said = cluster.shape(6)
    assert [line for line in said if "left the cluster" in line] == [
        "redis-8 left the cluster",
        "redis-7 left the cluster",
    ]
    expect_pairs(cluster, 6)
    expect_all_counted(cluster, 2)
    # What left is as good as new.
    assert any("joined" in line for line in cluster.shape(8))
    expect_pairs(cluster, 8)
    expect_all_counted(cluster, 2)


def test_a_node_that_was_away_when_its_pair_left_joins_again(fresh: Stack) -> None:
    fresh.start(8)
    fresh.shape(8)
    fresh[8].kill()
    assert "redis-7 left the cluster" in fresh.shape(6)
    fresh[8].start()
    wait_until("the node", fresh[8].client().ping)
    fresh.shape(8)
    expect_pairs(fresh, 8)


# -- Moves of slots


def test_a_plan_moves_no_more_than_needed() -> None:
    owned = {"a": list(range(8)), "b": list(range(8, 16)), "c": []}
    assert plan(owned, even(16, {one: len(slots) for one, slots in owned.items()})) == [
        Move("a", "c", (0, 1)),
        Move("b", "c", (8, 9, 10)),
    ]
    assert plan(owned, {"a": 1, "c": 0, "b": 15}) == [Move("a", "b", tuple(range(7)))]
    assert plan(owned, {"b": 16}) == [Move("a", "b", tuple(range(8)))]
    assert plan(owned, {"a": 8, "b": 8, "c": 0}) == []


@pytest.mark.parametrize("counts", [{"a": 5, "b": 0, "c": 11}, {"a": 0, "b": 0, "c": 16384}])
def test_an_even_spread_differs_by_one_slot_at_most(counts: dict[str, int]) -> None:
    spread = even(SLOTS, counts)
    assert sum(spread.values()) == SLOTS
    assert max(spread.values()) - min(spread.values()) == 1
    assert spread["c"] == max(spread.values())


class Late(Connection):
    """A target that answers when the source's pause is over, and something was counted there."""

    def ask(self, *command: str | int) -> Any:
        if command[0] == "WAITAOF":
            self.meanwhile()
        return super().ask(*command)

    meanwhile: Callable[[], object]


def places(stack: Stack) -> tuple[Container, Container]:
    """Return the node that serves the counter c0, and another primary."""
    source = stack.at("{c0}:value")
    return source, next(node for node in (stack[1], stack[2]) if node is not source)


@contextlib.contextmanager
def migrating(stack: Stack) -> Iterator[tuple[Connection, Connection, Late]]:
    """Begin to move the slot of c0 between these; yield two connections to the source, and one to the target."""
    settings = Settings.from_env(stack.environ("redis-1"))
    view = {one.name: one for one in members(settings, Address(stack[1].address, 6379))}
    source, target = (view[node.name] for node in places(stack))
    with (
        Connection(settings, source.address) as here,
        Connection(settings, source.address) as guard,
        Late(settings, target.address) as there,
    ):
        slot = here.ask("CLUSTER", "KEYSLOT", "{c0}:value")
        there.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        here.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
        there.meanwhile = lambda: None
        yield here, guard, there


def test_what_a_node_refuses_is_told_by_its_reply(cluster: Stack) -> None:
    with migrating(cluster) as (here, _, _):
        with pytest.raises(SlotMovesError, match="ASK"):
            here.ask("PEXPIRETIME", "{c0}:gone")
        with pytest.raises(UnknownNodeError):
            here.ask("CLUSTER", "FORGET", "0" * 40)
        with pytest.raises(RefusedError, match="unknown command"):
            here.ask("NONSENSE")
    cluster.shape(6)


def test_a_key_that_was_written_after_its_copy_is_copied_again(cluster: Stack) -> None:
    source, target = places(cluster)

    def count() -> None:
        source.client().execute_command("CLIENT", "UNPAUSE")
        cluster.count(["c0"])

    with migrating(cluster) as (here, guard, there):
        there.meanwhile = count
        assert transfer([guard], here, there, [["{c0}:value"]], replicated=True) == [False]
        assert cluster.counted(["c0"]) == {"c0": 2}
        there.meanwhile = lambda: None
        assert transfer([guard], here, there, [["{c0}:value"]], replicated=True) == [True]
        assert here.ask("DBSIZE") == len([name for name in NAMES if cluster.at(f"{{{name}}}:value") is source]) - 1
    assert any("finished moves" in line for line in cluster.shape(6))
    assert cluster.at("{c0}:value") is target
    assert cluster.counted(["c0"]) == {"c0": 2}


def test_keys_that_the_replica_of_the_target_has_not_confirmed_stay(cluster: Stack) -> None:
    mate = cluster.nodes[partner(places(cluster)[1].name)]
    with migrating(cluster) as (here, guard, there):
        with mate.frozen(), pytest.raises(StateError, match="its replica did not confirm the keys"):
            transfer([guard], here, there, [["{c0}:value"]], replicated=True)
        assert here.ask("PEXPIRETIME", "{c0}:value") == -1  # it exists
        assert transfer([guard], here, there, [["{c0}:value"]], replicated=True) == [True]
    assert any("finished moves" in line for line in cluster.shape(6))
    expect_all_counted(cluster)


def test_no_more_is_moved_at_once_than_a_slow_disk_can_take(cluster: Stack) -> None:
    source, target = places(cluster)
    keys = [f"{{c0}}:keys:{number}" for number in range(200)]
    with source.client(username="counter", password=APP_PASSWORD).pipeline(transaction=False) as many:
        for key in keys:
            many.hset(key, "id", token_hex(10_000))  # which a dump cannot compress much
        many.execute()
    slot = source.client().execute_command("CLUSTER", "KEYSLOT", "{c0}:value")
    with migrating(cluster) as (here, guard, there):
        assert transfer([guard], here, there, [keys], replicated=True) == [False]
        moved = there.ask("CLUSTER", "COUNTKEYSINSLOT", slot)
        assert 0 < moved <= BYTES_AT_A_TIME / 10_000 + KEYS_READ_AT_MOST
        assert here.ask("CLUSTER", "COUNTKEYSINSLOT", slot) + moved > len(keys)
    assert any("finished moves" in line for line in cluster.shape(6))
    assert cluster.at("{c0}:value") is target
    assert target.client().execute_command("CLUSTER", "COUNTKEYSINSLOT", slot) > len(keys)
    expect_all_counted(cluster)


@contextlib.contextmanager
def growing(stack: Stack) -> Iterator[subprocess.Popen[str]]:
    """Make the cluster one of eight nodes; yield the process that does so, in the middle of its moves."""
    stack.count(MANY)
    stack.start(8)
    command = stack.command(sys.executable, "-c", SLOWLY)
    environ = stack.environ("redis-1")
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environ, text=True, stdout=pipe, stderr=pipe, start_new_session=True) as moving:
        wait_until("slots to move", lambda: stack[1].view().get("redis-7", ("", 0))[1] > 100)
        try:
            assert stack[2].view()["redis-7"][1] < SLOTS / 4 * 0.98, "all had moved before"
            yield moving
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(moving.pid, signal.SIGKILL)


def expect_grown(stack: Stack, moving: subprocess.Popen[str]) -> None:
    """Wait for the same run to end well, with nothing lost."""
    said, complained = moving.communicate(timeout=PATIENCE_SECONDS)
    assert moving.returncode == 0, said + complained
    stack.settled()  # the first node of each pair is its primary again
    expect_pairs(stack, 8)
    assert stack.counted(MANY) == dict.fromkeys(MANY, 1)
    assert stack.shape(8) == []


@pytest.mark.fault
@pytest.mark.parametrize("node", [pytest.param(1, marks=pytest.mark.slow), 7])
def test_a_node_may_stand_still_while_slots_move(cluster: Stack, node: int) -> None:
    with growing(cluster) as moving:
        with cluster[node].frozen():
            time.sleep(STILL_SECONDS)
        expect_grown(cluster, moving)


@pytest.mark.fault
@pytest.mark.parametrize("node", [1, pytest.param(7, marks=pytest.mark.slow)])
def test_a_node_may_be_killed_while_slots_move(cluster: Stack, node: int) -> None:
    with growing(cluster) as moving:
        cluster[node].kill()
        time.sleep(STILL_SECONDS)
        cluster[node].start()
        expect_grown(cluster, moving)


@pytest.mark.fault
@pytest.mark.slow
def test_keys_that_the_replica_of_the_target_lacks_are_not_deleted(cluster: Stack) -> None:
    """The target dies with what its replica has not got yet, and that becomes the primary."""
    with growing(cluster) as moving:
        keys = cluster[7].client().dbsize
        with cluster[8].frozen():
            before = keys()
            time.sleep(2.5)  # longer than the mover waits, and no longer than redis-7 takes writes without it
            assert keys() > before, "redis-8 has all keys"
            for node in (cluster[8], cluster[7]):  # what is on its way to redis-8 is lost as well
                node.kill()
        cluster[8].start()
        wait_until("redis-8 to take over", lambda: cluster[8].client().role()[0] == "master")
        cluster[7].start()
        expect_grown(cluster, moving)


def test_a_slot_with_a_key_that_has_expired_moves(fresh: Stack) -> None:
    """Redis still counts such a key until it looks for those that have expired, which can take minutes."""
    fresh.texts = fresh.texts | {"redis.conf": fresh.texts["redis.conf"] + "enable-debug-command yes\n"}
    acl = fresh.secrets / "users.acl"
    acl.write_text(acl.read_text() + "user tester on nopass ~* +@all\n")
    fresh.start(6)
    fresh.shape(6)
    fresh.count(NAMES)
    source = fresh.at("{c0}:value")
    tester = source.client(username="tester", password="none")  # noqa: S106
    tester.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    for key in ("{c0}:gone", "{alone in its slot}:gone", "key:alone"):
        if fresh.at(key) is source:
            tester.set(key, 1, px=1)
    assert any("to the other primaries" in line for line in fresh.shape(6, "relieve", source.name))
    expect_all_counted(fresh)


@pytest.mark.fault
def test_an_interrupted_move_of_slots_is_finished(cluster: Stack) -> None:
    with growing(cluster) as moving:
        os.killpg(moving.pid, signal.SIGKILL)
    cluster.shape(8)
    expect_pairs(cluster, 8)
    assert cluster.counted(MANY) == dict.fromkeys(MANY, 1)
