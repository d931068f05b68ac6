"""How Redis remembers ids: for how long, in how many bytes, and beside replicas of the version before."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from flask.testing import FlaskClient
from redis import Redis
from support.processes import RedisServer
from support.waiting import wait_until

from counter.config import Address, Config
from counter.store import open_store
from counter.store.client import connection_options
from counter.store.ids import SERIES, IdRetention, claim_place, new_id, place_of
from counter.store.link import Link
from counter.store.operations import Claim, Increment
from counter.store.standalone import StandaloneRoute
from counter.store.store import Store
from counter.store.transition import HASHES_KEY, SECRETS_KEY
from counter.store.types import ReusedKeyError, UnavailableError

Build = Callable[..., FlaskClient]


def link_to(server: RedisServer) -> Link:
    return Link(lambda _: Address("127.0.0.1", server.port), connection_options(Config()), acks=0)


def counted(link: Link, ids: Iterable[str], lifetime: int = 60_000, name: str = "a") -> list[int]:
    """Count in one round; return the values."""
    until = time.monotonic() + 60
    batch = [Increment(name, identifier, IdRetention(lifetime), until) for identifier in ids]
    link.commit(batch, until)
    assert not [one.failure for one in batch if one.failure]
    return [one.value for one in batch]


def test_each_id_counts_once_in_whatever_rounds_it_comes(redis_server: RedisServer) -> None:
    link = link_to(redis_server)
    ours = [new_id("a") for _ in range(300)]
    mixed = ["k1", ours[0], "k2", "k1", *ours[1:200], "k2", "k1"]
    first = dict(zip(mixed, counted(link, mixed), strict=True))
    assert sorted(first.values()) == list(range(1, 203))
    again = ["k3", *reversed(mixed), *ours]
    second = dict(zip(again, counted(link, again), strict=True))
    assert {identifier: second[identifier] for identifier in first} == first
    assert redis_server.client().get("{a}:value") == "303"


def alike(wanted: int) -> list[str]:
    """Return keys of clients that share a hash."""
    return list(
        itertools.islice(
            (f"k{n}" for n in itertools.count() if place_of("a", f"k{n}").hash == place_of("a", "k0").hash), wanted
        )
    )


def test_an_id_lives_for_a_lifetime_at_least_and_for_two_at_most(redis_server: RedisServer) -> None:
    link, redis, ids = link_to(redis_server), redis_server.client(), alike(4)
    place, lifetime, minute = place_of("a", ids[0]), 600_000, 60_000
    assert counted(link, ids[:1], lifetime) == [1]
    assert 2 * lifetime - minute < redis.pttl(place.hash) <= 2 * lifetime
    redis.pexpire(place.hash, lifetime + minute)  # almost as old as a lifetime
    assert counted(link, ids[1:2], lifetime) == [2]  # the last to come into this hash
    # Which does not live longer for it.
    assert lifetime < redis.pttl(place.hash) <= lifetime + minute
    redis.pexpire(place.hash, lifetime - 1)
    assert counted(link, ids[2:3], lifetime) == [3]
    assert redis.hkeys(place.previous) == [place_of("a", one).field for one in ids[:2]]
    assert counted(link, ids[:3], lifetime) == [1, 2, 3]
    assert lifetime - minute < redis.pttl(place.previous) < lifetime
    redis.pexpire(place.previous, 0)
    assert counted(link, ids[2:], lifetime) == [3, 4]
    assert counted(link, ids[:1], lifetime) == [5]
    mine = new_id("a")
    counted(link, [mine], lifetime)
    assert lifetime - minute < redis.pttl(place_of("a", mine).hash) <= lifetime


@pytest.mark.parametrize(
    "retention", [IdRetention(600_000), IdRetention(600_000, logged=True, in_former_keys=True)], ids=["hot", "more"]
)
@pytest.mark.parametrize("ours", [True, False], ids=["ours", "a client's"])
def test_a_command_that_the_user_may_not_run_makes_no_id_count_twice(
    redis_server: RedisServer, retention: IdRetention, *, ours: bool
) -> None:
    link, redis, until = link_to(redis_server), redis_server.client(), time.monotonic() + 60

    def attempt(identifier: str) -> Increment:
        made = Increment("a", identifier, retention, until)
        link.commit([made], until)
        return made

    for command in "incrby hmget hset pttl exists rename pexpire set sadd".split():
        redis.flushall()
        first, second, third = [new_id("a") for _ in range(3)] if ours else alike(3)
        assert attempt(first).value == 1
        if not ours:
            redis.pexpire(place_of("a", first).hash, 599_000)  # so that it is renamed now
        redis.execute_command("ACL", "SETUSER", "default", f"-{command}")
        refused = [attempt(second).failure for _ in range(5)][1:]
        assert redis.get("{a}:value") == ("1" if all(refused) else "2"), command
        redis.execute_command("ACL", "SETUSER", "default", f"+{command}")
        assert [attempt(one).value for one in (second, third, second, first)] == [2, 3, 2, 1], command


def test_a_longer_lifetime_forgets_no_id_that_still_lives(redis_server: RedisServer) -> None:
    link, redis, ids = link_to(redis_server), redis_server.client(), alike(4)
    place, short, long = place_of("a", ids[0]), 600_000, 3_600_000
    assert counted(link, ids[:1], short) == [1]
    redis.pexpire(place.hash, short - 1)  # as old as a lifetime
    assert counted(link, ids[1:2], short) == [2]
    assert redis.exists(place.previous)
    assert counted(link, ids[2:3], long) == [3]
    assert counted(link, ids[:3], long) == [1, 2, 3]
    assert redis.pttl(place.previous) < short
    assert long < redis.pttl(place.hash) <= 2 * long
    # When the renamed hash has expired, the other one is renamed as ever.
    redis.pexpire(place.previous, 0)
    redis.pexpire(place.hash, long - 1)
    assert counted(link, ids[1:], long) == [2, 3, 4]
    assert redis.hkeys(place.previous) == [place_of("a", one).field for one in ids[1:3]]


def test_a_setting_in_which_a_request_outlives_its_id_cannot_be_made() -> None:
    config = Config.from_env({"COUNTER_KEY_SECONDS": "120", "COUNTER_DEADLINE_SECONDS": "60"})
    # Begun in the last moment of the window, ended at the deadline, by a clock that is ahead.
    assert config.id_lifetime == 120 + 2 * 60 + 120


def used(redis: Redis) -> int:
    return sum(redis.memory_usage(key) or 0 for key in redis.scan_iter(count=1000) if key != "{a}:value")


@pytest.mark.parametrize(("ours", "most"), [(True, 20), (False, 80)])
def test_the_bytes_that_an_id_takes(redis_server: RedisServer, *, ours: bool, most: int) -> None:
    count, link = 20_000, link_to(redis_server)
    ids = [new_id("visits") if ours else f"{n:032x}" for n in range(count)]
    until = time.monotonic() + 60
    for batch in itertools.batched(ids, 200):
        counted(link, batch, name="visits")
        if not ours:
            link.commit([Claim("visits", identifier, IdRetention(60_000), until) for identifier in batch], until)
    assert used(redis_server.client()) / count < most


def test_counters_that_are_counted_in_turn_do_not_make_ids_larger(redis_server: RedisServer) -> None:
    link, names, times = link_to(redis_server), [f"n{number}" for number in range(100)], 128
    until = time.monotonic() + 60
    for _ in range(times):
        link.commit([Increment(name, new_id(name), IdRetention(60_000), until) for name in names], until)
    redis = redis_server.client()
    ids = [key for key in redis.scan_iter(count=1000) if ":ids:" in key]
    assert len(ids) <= 2 * len(names)
    assert sum(redis.memory_usage(key) or 0 for key in ids) / (times * len(names)) < 20


def test_many_counters_in_turn_and_names_that_were_refused_do_not_make_ids_larger() -> None:
    """Each hash takes 150 bytes, and 128 ids of a counter have room in one."""

    def hashes(names: Sequence[str], times: int) -> int:
        return len({place_of(name, new_id(name)).hash for _ in range(times) for name in names})

    many = [f"n{number}" for number in range(2 * SERIES)]
    hashes(many, 1)  # refused, for all we know
    assert hashes(["visits"], 64) <= 3
    assert hashes(many, 10) < 1.5 * len(many)


# -- The version before: its scripts, as its replicas send them.

OLD_INCREMENT = """
local value = redis.call('GET', KEYS[2])
if value then
  redis.call('PEXPIRE', KEYS[2], ARGV[1])
else
  value = redis.call('INCR', KEYS[1])
  redis.call('SET', KEYS[2], value, 'PX', ARGV[1])
end
return tonumber(value)
"""
OLD_CLAIM = """
local owner = redis.call('GET', KEYS[1]) or ARGV[1]
redis.call('SET', KEYS[1], owner, 'PX', ARGV[2])
return owner
"""


def old_replica(redis: Redis, name: str, key: str) -> int:
    """Count as a replica of the version before does."""
    run: Any = redis.eval
    if run(OLD_CLAIM, 1, f"key:{key}", name, 600_000) != name:
        raise ReusedKeyError(name)
    redis.sadd("counters", name)
    return int(run(OLD_INCREMENT, 2, f"{{{name}}}:value", f"{{{name}}}:op:{key}", 600_000))


def test_beside_replicas_of_the_version_before_each_id_counts_once(redis_server: RedisServer) -> None:
    redis = redis_server.client()
    assert old_replica(redis, "a", "k1") == 1
    store = open_store(Config.from_env({"COUNTER_REDIS_NODES": redis_server.address}))
    assert store.increment("a", "k1").value == 1
    assert store.increment("a", "k2").value == 2
    assert old_replica(redis, "a", "k2") == 2
    for wrong in (lambda: store.increment("b", "k1"), lambda: old_replica(redis, "b", "k2")):
        with pytest.raises(ReusedKeyError):
            wrong()
    # A process that starts later in the transition does the same.
    later = open_store(Config.from_env({"COUNTER_REDIS_NODES": redis_server.address}))
    assert old_replica(redis, "a", "k3") == 3
    assert later.increment("a", "k3").value == 3
    assert redis.get("{a}:value") == "3"


OLD_PLACE = re.compile(r"([0-9a-f]{16})-(0|[1-9][0-9]{0,14})")
"""How the version before made its own ids, without a secret: every other one was a key of a client."""


def test_beside_replicas_that_know_no_secrets_ids_have_none(redis_server: RedisServer) -> None:
    redis, config = redis_server.client(), Config.from_env({"COUNTER_REDIS_NODES": redis_server.address})
    redis.sadd("counters", "a")
    redis.set(HASHES_KEY, 0)  # so it is not the version before that
    store = told(config)
    assert store.increment("a").value == 1
    (key,) = redis.scan_iter("{a}:ids:*")
    (field,) = redis.hkeys(key)
    *_, series, together = key.split(":")
    # Where the version before looks for it, and it is found from there.
    former = f"{series}-{int(together) * 128 + int(field)}"
    assert OLD_PLACE.fullmatch(former)
    assert store.increment("a", former).value == 1
    assert not redis.keys("*op:*")
    redis.set(SECRETS_KEY, int(time.time()) - 3600 - int(config.id_lifetime) - 1)
    store = told(config)
    assert store.increment("a").value == 2
    assert sorted(int(field).bit_length() > 32 for field in redis.hkeys(key)) == [False, True]
    assert store.increment("a", former).value == 1


def test_a_process_that_starts_while_redis_is_away_tells_no_id_that_can_be_guessed(
    redis_server: RedisServer,
) -> None:
    config = Config.from_env({"COUNTER_REDIS_NODES": redis_server.address, "COUNTER_DEADLINE_SECONDS": "0.5"})
    # Otherwise the process finds out, in the background as soon as Redis is back, that no earlier version has counted.
    old_replica(redis_server.client(), "b", "k")
    redis_server.client().save()
    redis_server.kill()
    store = open_store(config)
    found = []
    for _ in range(2):
        with pytest.raises(UnavailableError) as raised:
            store.increment("a")
        found.append(raised.value.operation_id)
    assert not [one for one in found if OLD_PLACE.fullmatch(one)]
    assert len({one[:16] for one in found}) == 2
    redis_server.up()
    # Whichever version receives the repeats, and whatever it knows by then.
    redis = redis_server.client()
    assert old_replica(redis, "a", found[0]) == 1
    later = open_store(config)
    assert [later.increment("a", key).value for key in (found[1], *found)] == [2, 1, 2]
    assert old_replica(redis, "a", found[1]) == 2


def told(config: Config) -> Store:
    """Return the store of a process that has been told how the transition stands."""
    store = Store(StandaloneRoute(config), config)
    for transition in (store._without_hashes, store._without_secrets):  # noqa: SLF001
        transition.ask()
    return store


def test_after_the_transition_and_where_there_was_no_version_before_its_keys_are_not_written(
    redis_server: RedisServer,
) -> None:
    redis, config = redis_server.client(), Config.from_env({"COUNTER_REDIS_NODES": redis_server.address})
    assert told(config).increment("a", "k").value == 1
    assert redis.get(HASHES_KEY) == "0"
    assert not redis.keys("key:*") + redis.keys("{a}:op:*")
    ends = 3600 + int(config.id_lifetime)
    redis.set(HASHES_KEY, int(time.time()) - ends + 10)
    assert told(config).increment("a", "l").value == 2
    assert redis.exists("key:l", "{a}:op:l") == 2
    redis.set(HASHES_KEY, int(time.time()) - ends - 1)
    assert told(config).increment("a", "m").value == 3
    assert not redis.exists("key:m", "{a}:op:m")
    assert redis.hexists(claim_place("m").hash, claim_place("m").field)


def test_ids_of_the_version_before_that_live_for_hours_count_once_as_long(redis_server: RedisServer) -> None:
    redis = redis_server.client()
    environ = {"COUNTER_REDIS_NODES": redis_server.address, "COUNTER_KEY_SECONDS": "7200"}
    assert old_replica(redis, "a", "k") == 1
    redis.set(HASHES_KEY, int(time.time()) - 7200)  # longer than ids live by default
    assert told(Config.from_env(environ)).increment("a", "k").value == 1
    redis.set(HASHES_KEY, int(time.time()) - 15_000)
    assert told(Config.from_env(environ)).increment("a", "l").value == 2
    assert not redis.exists("key:l", "{a}:op:l")


def test_a_list_that_a_process_of_this_version_made_begins_no_transition(redis_server: RedisServer) -> None:
    redis, config = redis_server.client(), Config.from_env({"COUNTER_REDIS_NODES": redis_server.address})
    for _ in range(3):
        redis.flushall()
        store = open_store(config)
        store.increment("a")
        wait_until("the counter to be listed", lambda: redis.smembers("counters"))
        assert redis.get(HASHES_KEY) == "0"
