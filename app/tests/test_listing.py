"""The set of the counters' names, which is written in the background."""

from __future__ import annotations

import threading

import pytest
from support.processes import RedisServer
from support.waiting import wait_until

from counter.config import Config
from counter.store import durable, open_store
from counter.store.client import SHOWN_COUNTERS
from counter.store.keys import COUNTERS, value_key


def test_many_new_counters_are_listed_together(redis_server: RedisServer) -> None:
    store = open_store(Config.from_env({"COUNTER_REDIS_NODES": redis_server.address}))
    free = threading.Event()

    def is_busy() -> None:
        free.wait(600)

    store._later(is_busy)  # noqa: SLF001
    try:
        for number in range(600):
            store.increment(f"n{number}")
    finally:
        free.set()
    wait_until("all to be listed", lambda: redis_server.client().scard(COUNTERS) == 600)
    assert redis_server.client().info("commandstats")["cmdstat_sadd"]["calls"] == 2


@pytest.mark.parametrize(
    "environ",
    [
        {"TOPOLOGY": "standalone", "REDIS_NODES": "{}"},
        {"TOPOLOGY": "independent", "REDIS_NODES": "{}"},
        {"TOPOLOGY": "external", "REDIS_URL": "redis://{}"},
    ],
    ids=lambda environ: environ["TOPOLOGY"],
)
def test_a_look_at_many_counters_is_bounded(redis_server: RedisServer, environ: dict[str, str]) -> None:
    address = redis_server.address
    store = open_store(Config.from_env({f"COUNTER_{name}": value.format(address) for name, value in environ.items()}))
    names = [f"{number:064}" for number in range(SHOWN_COUNTERS)]
    redis_server.client().sadd(COUNTERS, *names)
    redis_server.client().set(value_key(names[1]), 7)
    found = store.describe()
    assert (found.counters or found.nodes[0].counters) == dict.fromkeys(names, 0) | {names[1]: 7}
    assert not found.more
    redis_server.client().sadd(COUNTERS, "another")
    found = store.describe()
    assert len(found.counters or found.nodes[0].counters or {}) == SHOWN_COUNTERS
    assert found.more


def test_nodes_that_know_different_counters_show_as_many_together(three_servers: list[RedisServer]) -> None:
    addresses = ",".join(server.address for server in three_servers)
    store = open_store(Config.from_env({"COUNTER_TOPOLOGY": "independent", "COUNTER_REDIS_NODES": addresses}))
    for number, server in enumerate(three_servers):
        server.client().sadd(COUNTERS, *(f"{number}-{each}" for each in range(SHOWN_COUNTERS // 2)))
    found = store.describe()
    assert [len(node.counters or {}) for node in found.nodes] == [SHOWN_COUNTERS] * 3
    assert found.more


def test_an_external_redis_that_does_not_show_its_counters_is_reachable(redis_server: RedisServer) -> None:
    redis_server.client().execute_command("ACL", "SETUSER", "default", "-sscan")
    environ = {"COUNTER_TOPOLOGY": "external", "COUNTER_REDIS_URL": f"redis://{redis_server.address}"}
    found = open_store(Config.from_env(environ)).describe()
    assert found.counters is None
    assert found.nodes[0].reachable


def test_a_counter_that_could_not_be_listed_is_listed_with_the_next_one(redis_server: RedisServer) -> None:
    store = open_store(Config.from_env({"COUNTER_REDIS_NODES": redis_server.address}))
    server = redis_server.client()
    server.execute_command("ACL", "SETUSER", "default", "-sadd")
    store.increment("one")
    wait_until("the attempt", server.acl_log)
    wait_until("its end", lambda: not store._lists)  # noqa: SLF001
    server.execute_command("ACL", "SETUSER", "default", "+sadd")

    def listed() -> bool:
        store.increment("two")
        return bool(server.smembers(COUNTERS) == {"one", "two"})

    wait_until("both to be listed", listed)


def test_listing_goes_on_after_a_mistake_which_is_shown(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("a mistake")

    monkeypatch.setattr(durable, "PROBE_SECONDS", 0)
    store = open_store(Config.from_env({"COUNTER_REDIS_NODES": redis_server.address}))
    with monkeypatch.context() as broken:
        broken.setattr(durable, "Listing", fail)
        store.increment("one")
        wait_until("the attempt", lambda: "ValueError: a mistake" in caplog.text)
    wait_until("its end", lambda: not store._lists)  # noqa: SLF001
    store.increment("two")
    wait_until("both to be listed", lambda: redis_server.client().smembers(COUNTERS) == {"one", "two"})


def test_work_in_the_background_that_fails_is_shown(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError("a mistake")

    store = open_store(Config.from_env({"COUNTER_REDIS_NODES": redis_server.address}))
    store._later(fail)  # noqa: SLF001
    wait_until("it to be shown", lambda: "ValueError: a mistake" in caplog.text)


def test_listing_is_not_tried_with_each_increment(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "PROBE_SECONDS", 60)
    store = open_store(Config.from_env({"COUNTER_REDIS_NODES": redis_server.address}))
    store.increment("one")
    wait_until("it to be listed", lambda: redis_server.client().smembers(COUNTERS))
    redis_server.client().execute_command("ACL", "SETUSER", "default", "-sadd")
    store.increment("two")
    wait_until("the attempt", lambda: "counters not listed yet" in caplog.text)
    for _ in range(20):
        store.increment("one")
    assert caplog.text.count("counters not listed yet") == 1
