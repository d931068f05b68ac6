"""The set of the counters' names: what it shows, and which names it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask.testing import FlaskClient
from support.processes import RedisServer
from support.waiting import wait_until

from counter.config import Config
from counter.store import link, open_store
from counter.store.client import SHOWN_COUNTERS
from counter.store.ids import new_id
from counter.store.keys import COUNTERS, NEW_KEY, operation_key, value_key
from counter.store.store import Store
from counter.store.types import RefusedError


@pytest.mark.parametrize(
    "environ",
    [
        {"TOPOLOGY": "standalone", "REDIS_NODES": "{}"},
        {"TOPOLOGY": "independent", "REDIS_NODES": "{}"},
        {"TOPOLOGY": "external", "REDIS_URL": "redis://{}"},
    ],
    ids=lambda environ: environ["TOPOLOGY"],
)
def test_a_look_at_many_counters_is_bounded(
    redis_server: RedisServer, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("counter.store.store.DESCRIBED_SECONDS", 0)
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


def test_work_in_the_background_that_fails_is_shown(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError("a mistake")

    store = open_store(Config.from_env({"COUNTER_REDIS_NODES": redis_server.address}))
    store._later(fail)  # noqa: SLF001
    wait_until("it to be shown", lambda: "ValueError: a mistake" in caplog.text)


def stack_of(server: RedisServer, replicas: int = 1, **environ: int) -> list[Store]:
    variables = {f"COUNTER_{name}": str(value) for name, value in environ.items()}
    config = Config.from_env({"COUNTER_REDIS_NODES": server.address} | variables)
    return [open_store(config) for _ in range(replicas)]


def refusals(stores: list[Store], names: Iterable[str]) -> list[RefusedError]:
    """Count on these names, at all replicas in turn, several at a time; return what was refused."""

    def count(number: int, name: str) -> RefusedError | None:
        try:
            stores[number % len(stores)].increment(name)
        except RefusedError as refused:
            return refused
        return None

    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(count, *zip(*enumerate(names), strict=True))
        return [refused for refused in answers if refused]


def test_new_counters_are_limited_in_the_whole_stack(redis_server: RedisServer) -> None:
    redis, stores = redis_server.client(), stack_of(redis_server, 3, NEW_COUNTERS_PER_MINUTE=20, MAX_COUNTERS=30)
    found = refusals(stores, [f"a{number}" for number in range(50)])
    assert len(found) == 30
    assert all(1 <= refused.seconds <= 60 for refused in found)
    assert redis.scard(COUNTERS) == len(redis.keys("*:value")) == 20
    # Those that exist go on, and are no new ones.
    assert not refusals(stores, map(str, redis.smembers(COUNTERS)))
    redis.delete(NEW_KEY)  # after a minute
    found = refusals(stores, [f"b{number}" for number in range(15)])
    assert [refused.code for refused in found] == ["too-many-counters"] * 5
    assert redis.scard(COUNTERS) == len(redis.keys("*:value")) == 30
    assert 50_000 < redis.pttl(NEW_KEY) <= 60_000


def test_a_clock_that_steps_back_does_not_make_the_minute_longer(redis_server: RedisServer) -> None:
    redis, (store,) = redis_server.client(), stack_of(redis_server, NEW_COUNTERS_PER_MINUTE=1)
    store.increment("a")
    redis.pexpire(NEW_KEY, 3_600_000 + 50_000)  # as it would be, since it ends at a time of day
    store.increment("b")
    assert redis.pttl(NEW_KEY) <= 60_000
    (refused,) = refusals([store], ["c"])
    assert refused.seconds <= 60


def test_only_the_first_increment_of_a_counter_asks(redis_server: RedisServer) -> None:
    redis, (first, second) = redis_server.client(), stack_of(redis_server, 2)
    first.increment("a")
    before = redis.info("commandstats")
    for _ in range(10):
        first.increment("a")
        second.increment("a", "k")
    after = redis.info("commandstats")
    assert "cmdstat_sismember" in before
    assert after["cmdstat_sismember"]["calls"] == before["cmdstat_sismember"]["calls"]
    # One that exists without being in the set is not a new one.
    redis.set(value_key("made elsewhere"), 7)
    assert second.increment("made elsewhere").value == 8


def test_a_redis_that_is_nearly_full_goes_on_counting_what_is_there(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "LOOK_SECONDS", 0)
    redis, (store,) = redis_server.client(), stack_of(redis_server)
    ours, unknown = new_id("a"), [new_id("a") for _ in range(3)]
    assert [store.increment("a", key).value for key in ("known", ours)] == [1, 2]
    used = redis.info("memory")["used_memory"]
    redis.config_set("maxmemory", int(used / 0.85))
    assert store.increment("a").value == 3  # and it learns how full Redis is
    for name, key in (("a", "unknown"), ("b", None), ("b", "unknown")):
        with pytest.raises(RefusedError, match="nearly full"):
            store.increment(name, key)
    # An id that only looks like one of ours is a new one, too: anybody can make some.
    before = redis.dbsize()
    for key in unknown:
        with pytest.raises(RefusedError, match="nearly full"):
            store.increment("a", key)
    assert redis.dbsize() == before
    # Repeats are recognised.
    assert [store.increment("a", key).value for key in ("known", ours)] == [1, 2]
    redis.config_set("maxmemory", 0)
    assert store.increment("a").value == 4
    assert store.increment("a", unknown[0]).value == 5
    assert store.increment("b", "unknown").value == 1


def test_in_a_transition_a_redis_that_is_nearly_full_takes_no_new_keys_either(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "LOOK_SECONDS", 0)
    redis, (store,) = redis_server.client(), stack_of(redis_server)
    monkeypatch.setattr(store._without_hashes, "lasts", lambda: True)  # noqa: SLF001
    ours, theirs = new_id("a"), new_id("a")
    assert [store.increment("a", key).value for key in (ours, "known")] == [1, 2]
    redis.set(operation_key("a", theirs), 1, px=60_000)  # by a replica of the version before, which was asked to repeat
    redis.config_set("maxmemory", int(redis.info("memory")["used_memory"] / 0.85))
    assert store.increment("a").value == 3
    with pytest.raises(RefusedError, match="nearly full"):
        store.increment("a", new_id("a"))
    assert [store.increment("a", key).value for key in (ours, "known", theirs)] == [1, 2, 1]


def test_a_refusal_says_when_to_try_again(client_of: Callable[..., FlaskClient], redis_server: RedisServer) -> None:
    client = client_of(REDIS_NODES=redis_server.address, NEW_COUNTERS_PER_MINUTE=1, MAX_COUNTERS=2)
    answers = [client.post(f"/api/counters/{name}/increment") for name in "ab"]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert answers[1].json["code"] == "too-many-new-counters"
    assert 1 <= int(answers[1].headers["Retry-After"]) <= 60
    assert client.get("/api/counters/b").json["value"] == 0
    redis_server.client().delete(NEW_KEY)
    answers = [client.post(f"/api/counters/{name}/increment") for name in "abc"]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert (answers[2].json["code"], answers[2].headers["Retry-After"]) == ("too-many-counters", "60")
    assert "there are 2 counters, and no more are allowed" in answers[2].json["detail"]
