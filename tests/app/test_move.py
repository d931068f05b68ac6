"""The program that copies counters from one topology to another, between real Redis processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.passwords import APP_PASSWORD
from support.ports import free_port
from support.processes import Process, RedisServer, running
from support.waiting import wait_until
from topologies import Node, shown_counters, topology

from counter.config import Config
from counter.store import open_route, open_store
from counter.store.ids import place_of
from counter.store.keys import BACKUP_KEY
from counter.store.primaries import Primaries
from counter.store.types import ReusedKeyError

NAMES = [f"c{number}" for number in range(12)]


KINDS = ("standalone", "sentinel", "cluster")


class Source(RedisServer):
    """What a node left on its volume, shown by a server of its own as deployed, with the rights that the mover has."""

    def __init__(self, node: RedisServer) -> None:
        self.port = free_port()
        text = Node.configuration("standalone")["source.conf"]
        for there, here in (
            ("bind * -::*", f"bind 127.0.0.1\nport {self.port}"),
            ("dir /data", f"dir {node.directory}"),
            ("user default off", "user default on nopass"),  # for the tests themselves
        ):
            assert there in text, there
            text = text.replace(there, here)
        config = node.directory / "source.conf"
        config.write_text(text)
        Process.__init__(self, ["redis-server", str(config)], node.directory / f"source-{self.port}.log")


class Site:
    """The topology before and the one after."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self._directory, self._stack = directory, stack
        self.environ: dict[str, str] = {}

    def deploy(self, kind: str) -> list[RedisServer]:
        """Start a topology; return its nodes that hold data and are primary."""
        directory = self._directory / f"{kind}-{len(list(self._directory.iterdir()))}"
        directory.mkdir()
        # A node that waits long for its disk must not be replaced.
        found, processes, environ = topology(kind, directory, down=10_000)
        self._stack.enter_context(running(*processes))
        found.up()
        self.environ = {f"COUNTER_{key}": value for key, value in environ.items()} | {"COUNTER_HISTORY_LOG": "1"}
        nodes = [one for one in processes if one.client().info("server")["redis_mode"] != "sentinel"]
        return [one for one in nodes if one.client().role()[0] == "master"]

    def show(self, node: RedisServer) -> Source:
        """Stop a node for good, and show what it left."""
        node.kill()
        source = Source(node)
        self._stack.enter_context(running(source))
        return source

    def move(self, sources: list[Source], seen: dict[str, int]) -> subprocess.CompletedProcess[str]:
        """Run the program."""
        return subprocess.run(
            [sys.executable, "-m", "counter.move", *(source.address for source in sources)],
            input=json.dumps(seen),
            env=os.environ | self.environ,
            cwd=Path(__file__).parents[2] / "app",
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path, stack)


def count(site: Site) -> dict[str, int]:
    """Count, with keys of clients too; return the counters."""
    store = open_store(Config.from_env(site.environ))
    for number, name in enumerate(NAMES, 1):
        for _ in range(number):
            store.increment(name)
        store.increment(name, f"key\"'\\-{name}")
    wait_until("all to be listed", lambda: len(shown_counters(store)) == len(NAMES))
    return {name: number + 1 for number, name in enumerate(NAMES, 1)}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        *zip(KINDS, KINDS[1:] + KINDS[:1], strict=True),
        *(
            pytest.param(one, other, marks=pytest.mark.slow)
            for one, other in zip(KINDS[1:] + KINDS[:1], KINDS, strict=True)
        ),
    ],
)
def test_counters_and_keys_of_operations_are_moved(site: Site, before: str, after: str) -> None:
    primaries = site.deploy(before)
    seen = count(site)
    noted = {"id": "20261126T030000Z", "since": "20261125T030000Z"}
    Primaries(open_route(Config.from_env(site.environ))).run([("SET", BACKUP_KEY, json.dumps(noted))])
    sources = [site.show(primary) for primary in primaries]
    site.deploy(after)
    for source in sources:
        source.start()
    done = site.move(sources, seen)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["counters"], result["sum"]) == (len(NAMES), sum(seen.values()))
    store = open_store(Config.from_env(site.environ))
    assert shown_counters(store) == seen
    assert store.newest_backup() == noted
    # What a client repeats was counted before, and a key that was used stays used.
    assert {name: store.increment(name, f"key\"'\\-{name}").value for name in NAMES} == seen
    with pytest.raises(ReusedKeyError):
        store.increment("other", f"key\"'\\-{NAMES[0]}")
    # Nothing of it is lost or doubled when it is done again.
    again = site.move(sources, seen)
    assert json.loads(again.stdout) == result, again.stderr
    assert store.increment(NAMES[0]).value == seen[NAMES[0]] + 1


def test_the_time_that_is_left_is_moved(site: Site) -> None:
    (node,) = site.deploy("standalone")
    store = open_store(Config.from_env(site.environ))
    store.increment("a", "k")
    source = site.show(node)
    source.up()
    (target,) = site.deploy("standalone")
    key = place_of("a", "k").hash
    left = source.client().pttl(key)
    assert site.move([source], {}).returncode == 0
    assert left - 60_000 < target.client().pttl(key) <= left


@pytest.fixture
def pair(site: Site) -> tuple[Source, RedisServer]:
    """Return what a standalone node left, with a counter, and an empty node that takes over."""
    (node,) = site.deploy("standalone")
    store = open_store(Config.from_env(site.environ))
    store.increment("a")
    wait_until("the counter to be listed", lambda: shown_counters(store))
    source = site.show(node)
    source.up()
    (target,) = site.deploy("standalone")
    return source, target


def test_a_copy_with_less_than_was_seen_is_refused(site: Site, pair: tuple[Source, RedisServer]) -> None:
    done = site.move([pair[0]], {"a": 1, "b": 3})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "the new nodes hold less than the app returned before the move: b: 3 seen, 0 moved\n"


def test_two_nodes_that_disagree_are_refused(site: Site, pair: tuple[Source, RedisServer], tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with running(second := RedisServer(other, f"user counter on >{APP_PASSWORD} ~* +@all")):
        second.up().client().set("{a}:value", 7)
        done = site.move([pair[0], second], {})  # type: ignore[list-item]
    assert done.returncode == 1
    assert "two of the old nodes hold different values: {a}:value" in done.stderr


def test_what_no_counter_has_is_not_left_behind_in_silence(site: Site, pair: tuple[Source, RedisServer]) -> None:
    pair[0].client().hset("{a}:more", "field", "value")  # ids are in such hashes, but these expire
    done = site.move([pair[0]], {})
    assert done.returncode == 1
    assert "Redis holds keys that this project does not store: {a}:more is a hash" in done.stderr


def test_a_target_that_holds_something_else_is_refused(site: Site, pair: tuple[Source, RedisServer]) -> None:
    pair[1].client().sadd("counters", "stranger")
    done = site.move([pair[0]], {})
    assert done.returncode == 1
    assert "these keys have other values than were written: counters" in done.stderr


def test_a_node_that_still_loads_or_starts_is_waited_for(site: Site, pair: tuple[Source, RedisServer]) -> None:
    source, target = pair
    source.kill()
    target.kill()
    moving = subprocess.Popen(
        [sys.executable, "-m", "counter.move", source.address],
        stdin=subprocess.DEVNULL,
        env=os.environ | site.environ,
        cwd=Path(__file__).parents[2] / "app",
    )
    with moving:
        source.up()
        wait_until("the source to be read", lambda: "cmdstat_scan" in source.client().info("commandstats"))
        target.up()
        assert moving.wait(60) == 0
    assert target.client().get("{a}:value") == "1"


@pytest.mark.parametrize("after", ["sentinel", "cluster"])
def test_an_import_counts_once_also_after_a_move(site: Site, after: str) -> None:
    def add() -> dict[str, int]:
        done = subprocess.run(
            [sys.executable, "-m", "counter.data", "import"],
            input=json.dumps({"text": "name,value\na,5\nb,7\n", "format": "csv", "mode": "add", "lower": 0, "dry": 0}),
            env=os.environ | site.environ,
            cwd=Path(__file__).parents[2] / "app",
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        result: dict[str, int] = json.loads(done.stdout)
        return result

    (node,) = site.deploy("standalone")
    assert add()["changed"] == 2
    source = site.show(node)
    source.up()
    site.deploy(after)
    done = site.move([source], {"a": 5, "b": 7})
    assert done.returncode == 0, done.stderr
    again = add()
    assert (again["changed"], again["before"], again["sum"]) == (0, 2, 12)
