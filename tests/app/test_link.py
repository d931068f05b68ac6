"""A round on the connection to one primary, a real redis-server: what counts as confirmed, and what breaks it."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.followers import following
from support.ports import free_port
from support.processes import RedisServer, running
from support.waiting import wait_until

from counter.config import Address, Config, WriteConcern
from counter.store import link as link_module
from counter.store.attempt import Attempt
from counter.store.client import connection_options
from counter.store.cluster import ClusterRoute
from counter.store.ids import IdRetention
from counter.store.link import Link
from counter.store.operations import Increment, Read

OPTIONS = connection_options(Config())
ON_DISK = ("appendonly yes", "appendfsync always", "repl-diskless-sync-delay 0")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[RedisServer, RedisServer]]:
    """Start a primary with a replica, both of which fsync before they reply."""
    primary = RedisServer(tmp_path, *ON_DISK)
    replica = RedisServer(tmp_path, *ON_DISK, f"replicaof 127.0.0.1 {primary.port}")
    with running(primary, replica):
        primary.up()
        replica.up()
        wait_until("the replica", lambda: on_disk(primary), 30)
        yield primary, replica


def on_disk(primary: RedisServer) -> bool:
    """Write, and tell whether a replica has it on its disk."""
    pipeline = primary.client().pipeline(transaction=False)
    for command in (("SET", "{heal}:value", 1), ("WAIT", 1, 500), ("WAITAOF", 0, 1, 500)):
        pipeline.execute_command(*command)
    return bool(pipeline.execute()[-1][1] == 1)


def fill(server: RedisServer) -> None:
    """Write 60 keys, each of which delays a rewrite with ``rdb-key-save-delay``."""
    server.client().mset({f"k{number}": number for number in range(60)})


def to(server: RedisServer, acks: int = 0) -> Link:
    return Link(lambda _: Address("127.0.0.1", server.port), OPTIONS, acks=acks)


def soon() -> float:
    return time.monotonic() + 5.0


def committed[O: Attempt](link: Link, *batch: O) -> list[O]:
    link.commit(batch, soon())
    return list(batch)


def test_many_reads_are_proved_by_one_write(pair: tuple[RedisServer, RedisServer]) -> None:
    primary, _ = pair
    primary.client().set("{c1}:value", 7)
    primary.client().config_resetstat()
    done = committed(to(primary, acks=1), *(Read(f"c{number}", soon()) for number in range(10)))
    assert [one.value for one in done] == [0, 7, *[0] * 8]
    calls = primary.client().info("commandstats")
    assert (calls["cmdstat_get"]["calls"], calls["cmdstat_set"]["calls"]) == (10, 1)


def test_a_counter_that_does_not_exist_is_not_read_without_proof(pair: tuple[RedisServer, RedisServer]) -> None:
    primary, replica = pair
    replica.signal(signal.SIGSTOP)
    (unproved,) = committed(to(primary, acks=1), Read("never", soon()))
    assert unproved.failure
    replica.signal(signal.SIGCONT)
    link = to(primary, acks=1)
    wait_until("the proof", lambda: [one.value for one in committed(link, Read("never", soon()))] == [0])
    assert not primary.client().exists("{never}:value")


def test_a_full_primary_with_replicas_proves_no_read_either(pair: tuple[RedisServer, RedisServer]) -> None:
    primary, _ = pair
    primary.client().set("{a}:value", 7)
    primary.client().config_set("maxmemory", 1)
    (unproved,) = committed(to(primary, acks=1), Read("a", soon()))
    assert unproved.failure
    assert "maxmemory" in unproved.failure.reason
    (plain,) = committed(to(primary), Read("a", soon()))  # where no replica confirms, nothing is written
    assert plain.value == 7


def test_a_replica_in_its_first_rewrite_does_not_count(tmp_path: Path) -> None:
    primary = RedisServer(tmp_path, *ON_DISK)
    with running(primary):
        fill(primary.up())
        slowly = ("rdb-key-save-delay 100000", f"replicaof 127.0.0.1 {primary.port}")
        replica = RedisServer(tmp_path, *ON_DISK, *slowly)
        with running(replica):
            replica.up()
            wait_until("the copy in memory", lambda: replica.client().dbsize() >= 60)
            (early,) = committed(to(primary, acks=1), Increment("a", "1", IdRetention(60_000), soon()))
            assert replica.client().info("persistence")["aof_rewrite_in_progress"] == 1, "the rewrite was too short"
            assert primary.client().wait(1, 1000) == 1  # it has it in memory
            assert early.failure
            assert early.failure.uncertain
            replica.client().config_set("rdb-key-save-delay", 0)
            link = to(primary, acks=1)
            late = wait_until(
                "the replica to count",
                lambda: next(
                    (one for one in committed(link, Increment("a", "1", IdRetention(60_000), soon())) if one.value),
                    None,
                ),
                30,
            )
            assert late.value == 1


def test_a_primary_in_its_first_rewrite_does_not_acknowledge(tmp_path: Path) -> None:
    """It was promoted soon after its first copy. The other replica, which is on disk, goes on with it."""
    # A ping that only one of them has got yet would set them apart, and the other would have to copy everything again.
    lost = RedisServer(tmp_path, *ON_DISK, "repl-ping-replica-period 3600")
    with running(lost):
        fill(lost.up())
        replicating = f"replicaof 127.0.0.1 {lost.port}"
        replica = RedisServer(tmp_path, *ON_DISK, replicating)
        promoted = RedisServer(tmp_path, *ON_DISK, replicating, "rdb-key-save-delay 300000")
        with running(replica, promoted):
            replica.up()
            wait_until("the replica", lambda: on_disk(lost), 30)
            promoted.up()
            wait_until("the copy in memory", lambda: promoted.client().dbsize() >= 60)
            promoted.client().replicaof("NO", "ONE")
            replica.client().replicaof("127.0.0.1", str(promoted.port))
            wait_until("the replica to confirm", lambda: on_disk(promoted))
            (early,) = committed(to(promoted, acks=1), Increment("a", "1", IdRetention(60_000), soon()))
            assert promoted.client().info("persistence")["aof_rewrite_in_progress"] == 1, "the rewrite was too short"
            assert early.failure
            assert "has not written to its disk" in early.failure.reason
            assert early.failure.uncertain


def test_a_redis_that_wants_a_password_leaves_nothing_in_doubt(redis_server: RedisServer) -> None:
    redis_server.client().config_set("requirepass", "secret")
    (refused,) = committed(to(redis_server), Increment("a", "1", IdRetention(60_000), soon()))
    assert refused.failure
    assert "Authentication required" in refused.failure.reason
    assert not refused.failure.uncertain


def test_a_refused_password_on_an_open_connection_leaves_nothing_in_doubt(
    redis_server: RedisServer,
) -> None:
    link = to(redis_server)
    committed(link, Read("a", soon()))
    redis_server.client().acl_setuser("default", enabled=True, reset_passwords=True, passwords=["+secret"])
    link._connection.send_command("RESET")  # noqa: SLF001
    link._connection.read_response()  # noqa: SLF001
    (refused,) = committed(link, Read("a", soon()))
    assert refused.failure
    assert "NOAUTH" in refused.failure.reason
    assert not refused.failure.uncertain


def test_a_redis_that_loads_leaves_nothing_in_doubt(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, "save 3600 1", "loading-process-events-interval-bytes 1024")
    with running(server):
        keys = server.up().client().pipeline(transaction=False)
        for number in range(20_000):
            keys.set(f"k{number}", "x" * 100)
        keys.execute()
        server.client().save()
        server.kill()
        with (server.directory / "redis.conf").open("a") as config:
            config.write("key-load-delay 1000\n")
        server.start()
        wait_until("the server to load", lambda: server.client().info("persistence")["loading"])
        (refused,) = committed(to(server), Increment("a", "1", IdRetention(60_000), soon()))
        assert server.client().info("persistence")["loading"], "the server was ready too soon"
        assert refused.failure
        assert "loading" in refused.failure.reason
        assert not refused.failure.uncertain


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), RuntimeError("a mistake")])
def test_whatever_ends_a_round_its_replies_are_not_taken_for_those_of_the_next(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    link = to(redis_server)

    def end(*_: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(Link, "_reply", end)
        with pytest.raises(type(error)):
            committed(link, *(Increment("a", str(number), IdRetention(60_000), soon()) for number in range(3)))
    assert [one.value for one in committed(link, Increment("b", "4", IdRetention(60_000), soon()))] == [1]
    assert [one.value for one in committed(link, Read("a", soon()))] == [3]


def test_what_connects_too_late_leaves_nothing_in_doubt(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    located = []

    def locate(until: float) -> Address:
        located.append(until)
        return Address("127.0.0.1", redis_server.port)

    link = Link(locate, OPTIONS, acks=0)
    late = Increment("late", "1", IdRetention(1000), soon())
    with monkeypatch.context() as patched:
        # No time is left for an attempt once it is connected.
        patched.setattr(link_module, "ATTEMPT_SECONDS", 3600)
        link.commit([late], late.deadline)
    assert late.failure
    assert not late.failure.uncertain
    assert link.troubled_seconds >= 0
    (done,) = committed(link, Increment("late", "1", IdRetention(1000), soon()))
    assert (done.value, len(located)) == (1, 1)
    assert link.troubled_seconds < 0


def test_the_log_of_the_backups_is_no_replica(redis_server: RedisServer) -> None:
    """Redis lets a primary write that has only this follower, for as long as it is cut off from its replicas."""
    node = redis_server.client()
    node.config_set("repl-diskless-sync-delay", 0)
    node.config_set("min-replicas-to-write", 1)
    address = Address("127.0.0.1", redis_server.port)
    route = ClusterRoute(Config(redis_nodes=(address,), write_concern=WriteConcern.NONE, replicas_per_primary=1))
    alone, one = route._queue(address).link, Link(lambda _: address, OPTIONS, acks=0)  # noqa: SLF001
    (refused,) = committed(alone, Increment("a", "1", IdRetention(60_000), soon()))
    assert refused.failure
    assert "NOREPLICAS" in refused.failure.reason
    with following(node):
        (control,) = committed(one, Increment("a", "2", IdRetention(60_000), soon()))
        assert (control.failure, control.value) == (None, 1)
        (refused,) = committed(alone, Increment("a", "3", IdRetention(60_000), soon()))
        assert refused.failure
        assert "has no replica" in refused.failure.reason
        assert refused.failure.uncertain


def test_an_old_failure_says_nothing_about_redis_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "AGED_SECONDS", 3600)
    link = Link(lambda _: Address("127.0.0.1", free_port()), OPTIONS, acks=0)
    for _ in range(2):
        committed(link, Read("any", soon()))
        assert link.troubled_seconds >= 0
    began = time.monotonic()
    monkeypatch.setattr(link_module, "AGED_SECONDS", 0)
    assert link.troubled_seconds < 0
    committed(link, Read("any", soon()))
    monkeypatch.setattr(link_module, "AGED_SECONDS", 3600)
    assert 0 <= link.troubled_seconds <= time.monotonic() - began


def test_a_lost_connection_is_not_made_again_to_the_host_of_before(three_servers: list[RedisServer]) -> None:
    primary = three_servers[0]
    link = Link(lambda _: Address("127.0.0.1", primary.port), OPTIONS, acks=0)
    committed(link, Increment("a", "1", IdRetention(60_000), soon()))
    primary = three_servers[1]
    link._connection.disconnect()  # noqa: SLF001
    (done,) = committed(link, Increment("a", "2", IdRetention(60_000), soon()))
    assert (done.value, done.node) == (1, three_servers[1].address)
