"""A volume whose file is older than what its server held in memory: a copy had arrived, and was not on the disk yet."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes import RedisServer, running
from support.waiting import wait_until

from redis_node.cluster.volume import prepare
from redis_node.data_node import INCOMPLETE, holds_data, mark

ON_DISK = ("appendonly yes", "appendfsync always", "repl-diskless-sync-delay 0")
IDENTITY = """\
{0} 127.0.0.1:7000@17000,redis-1 myself,master - 0 0 7 connected 0-5460
vars currentEpoch 7 lastVoteEpoch 0
"""


@pytest.fixture
def copying(tmp_path: Path) -> Iterator[RedisServer]:
    """Return a replica with an old file, which has just loaded a copy of its primary and writes it slowly."""
    primary, replica = (RedisServer(tmp_path, *ON_DISK) for _ in range(2))
    with running(primary, replica):
        primary.up().client().mset({f"k{number}": number for number in range(60)})
        client = replica.up().client()
        client.set("old", 1)
        assert holds_data(replica.directory)
        client.config_set("rdb-key-save-delay", 100_000)  # microseconds
        client.replicaof("127.0.0.1", primary.port)
        wait_until("the copy", lambda: client.info("replication")["master_link_status"] == "up")
        yield replica


def facts(server: RedisServer) -> dict[str, str]:
    found = server.client().info("replication") | server.client().info("persistence")
    return {name: str(value) for name, value in found.items()}


def test_what_a_server_held_and_did_not_write_is_missing_on_its_volume(copying: RedisServer) -> None:
    """Redis itself shows it at first; the mark stays when it begins to write anew, since the last attempt failed."""
    volume = copying.directory
    assert not holds_data(volume)
    assert not mark(volume, facts(copying), serves=False)
    (child,) = (int(one) for one in Path(f"/proc/{copying.pid}/task/{copying.pid}/children").read_text().split())
    copying.kill()
    os.kill(child, signal.SIGKILL)  # it would go on for a moment
    (volume / "appendonlydir" / "temp-appendonly.aof.incr").unlink()
    assert not holds_data(volume)
    copying.up()
    assert copying.client().get("old") == "1"


def test_a_copy_that_is_written_is_data(copying: RedisServer) -> None:
    volume = copying.directory
    assert not mark(volume, facts(copying), serves=False)
    assert (volume / INCOMPLETE).exists()
    copying.client().config_set("rdb-key-save-delay", 0)
    wait_until("its file", lambda: facts(copying)["aof_rewrite_in_progress"] == "0")
    assert holds_data(volume)  # from the moment on at which Redis has written it
    assert mark(volume, facts(copying), serves=False)
    assert not (volume / INCOMPLETE).exists()


def test_a_primary_of_a_cluster_gives_up_its_id_with_such_a_volume(copying: RedisServer) -> None:
    """Its replica would copy the old data. A node with keys can follow no other, so they are put aside."""
    volume = copying.directory
    copying.kill()
    (volume / "nodes.conf").write_text(IDENTITY.format("a" * 40))
    assert prepare(volume).startswith(f"its data is outdated: it gives up the id {'a' * 40}, which serves 5461 slots")
    assert not (volume / "nodes.conf").exists()
    assert not (volume / "appendonlydir").exists()
    assert (volume / "outdated" / "appendonly.aof.manifest").exists()
    assert (volume / INCOMPLETE).read_text() == ""


def test_a_rewrite_as_always_marks_nothing(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, *ON_DISK)
    with running(server):
        client = server.up().client()
        client.mset({f"k{number}": number for number in range(60)})
        client.config_set("rdb-key-save-delay", 200_000)
        client.bgrewriteaof()
        wait_until("it", lambda: facts(server)["aof_rewrite_in_progress"] == "1")
        assert not mark(server.directory, facts(server), serves=True)
        assert holds_data(server.directory)
        assert not (server.directory / INCOMPLETE).exists()
