"""The store against three redis-servers and three Sentinels, with real failures."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from load import Load, counts, is_ready
from support.followers import following
from support.passwords import BACKUP_PASSWORD
from support.ports import free_port
from support.processes import RedisServer, running
from support.waiting import wait_until
from topologies import SentinelSet

from counter.config import Address, Config
from counter.store import open_store
from counter.store.ids import IdRetention
from counter.store.operations import Increment
from counter.store.sentinel import SentinelRoute
from counter.store.sentinels import Sentinels, View, denials
from counter.store.store import Store
from counter.store.types import Description, IndeterminateError, ReusedKeyError, UnavailableError


@pytest.fixture
def config(redis_set: SentinelSet) -> Config:
    return configured(redis_set)


def configured(redis_set: SentinelSet, **more: str) -> Config:
    """Return the app's configuration; ``more``: ``COUNTER_*`` (without the prefix) that differ."""
    environ = redis_set.environ() | {"HISTORY_LOG": "1"} | more
    return Config.from_env({f"COUNTER_{key}": value for key, value in environ.items()})


A, B = Address("a", 6379), Address("b", 6379)
SAID = {
    "stays": View(3, A, None, ("1", 3), "1"),
    "stays, too": View(3, A, None, ("1", 3), "2"),
    "has voted since": View(3, A, None, ("1", 4), "3"),
    "does not know for whom": View(3, A, None, ("*", 4), "3"),
    "replaces it": View(3, A, A, ("1", 4), "1"),
    "names another": View(4, B, None, ("1", 4), "1"),
    "still replaces another by it": View(4, A, B, ("1", 3), "1"),
}


@pytest.mark.parametrize(
    ("said", "count"),
    [
        (["stays", "stays, too"], 2),
        (["stays", "stays"], 1),  # two names of one Sentinel
        (["stays, too", "has voted since"], 1),
        (["stays, too", "does not know for whom"], 2),
        (["has voted since", "stays"], 2),  # the one that it voted for gave up
        (["has voted since", "replaces it"], 0),
        (["has voted since", "names another"], 0),
        (["still replaces another by it", "stays, too"], 2),
    ],
)
def test_a_vote_since_the_last_failover_is_no_denial_unless_its_leader_gave_up(said: list[str], count: int) -> None:
    assert denials([SAID[one] for one in said], A) == count


def test_a_sentinel_that_was_lost_in_one_election_may_win_the_next() -> None:
    lost = frozenset({("1", 4)})
    assert denials([SAID["has voted since"]], A, lost) == 1
    assert denials([SAID["has voted since"]._replace(vote=("1", 5))], A, lost) == 0


Break = Callable[[SentinelSet, RedisServer], None]


def kill_and_restart_late(redis_set: SentinelSet, primary: RedisServer) -> None:
    primary.kill()
    wait_until("another primary", lambda: redis_set.primary() is not primary)
    primary.start()


def kill_and_restart_at_once(_: SentinelSet, primary: RedisServer) -> None:
    primary.kill()
    primary.start()


def pause_and_resume(redis_set: SentinelSet, primary: RedisServer) -> None:
    primary.signal(signal.SIGSTOP)
    wait_until("another primary", lambda: redis_set.primary() is not primary)
    primary.signal(signal.SIGCONT)


@pytest.mark.fault
@pytest.mark.parametrize(
    ("fault", "concern"),
    [
        pytest.param(kill_and_restart_late, "majority", marks=pytest.mark.slow),
        pytest.param(kill_and_restart_at_once, "majority", marks=pytest.mark.slow),
        pytest.param(pause_and_resume, "majority", marks=pytest.mark.slow),
        (pause_and_resume, "all"),
    ],
)
def test_a_broken_primary_loses_nothing_acknowledged(redis_set: SentinelSet, fault: Break, concern: str) -> None:
    store = open_store(configured(redis_set, WRITE_CONCERN=concern))
    with Load(store, "a") as load:
        load.more()
        broken = redis_set.primary()
        fault(redis_set, broken)
        if concern == "all":
            redis_set.healed()  # all three are needed, so it goes on only then
        load.more()
    primary = redis_set.healed()
    load.check(primary)
    assert store.read("a").value == int(primary.client().get("{a}:value") or 0)


@pytest.mark.fault
def test_a_primary_that_serves_while_it_is_replaced_loses_nothing_acknowledged(
    redis_set: SentinelSet, config: Config
) -> None:
    """As if the Sentinels had not heard it for a moment: the other replica follows it for up to a second more."""
    store = open_store(config)
    replaced = redis_set.primary()
    with Load(store, "a", tick=0) as load:
        load.more()
        redis_set.sentinels[0].client().execute_command("SENTINEL", "FAILOVER", redis_set.name)
        wait_until("it to be replaced", lambda: replaced.client().role()[0] == "slave")
        load.more()
    primary = redis_set.healed()
    assert primary is not replaced
    load.check(primary)


@pytest.mark.fault
def test_a_primary_that_continues_once_the_sentinels_have_voted_loses_nothing_acknowledged(
    redis_set: SentinelSet, config: Config
) -> None:
    store = open_store(config)
    replaced, asked = redis_set.primary(), Sentinels(config)
    address = Address("127.0.0.1", replaced.port)

    def denied() -> int:
        return denials(asked.views(time.monotonic() + 5, address), address)

    wait_until("all to deny it", lambda: denied() == 3)
    with Load(store, "a", tick=0) as load:
        load.more()
        replaced.signal(signal.SIGSTOP)
        try:
            wait_until("a majority to have voted", lambda: denied() < 2)
        finally:
            replaced.signal(signal.SIGCONT)
        load.more()
    load.check(redis_set.healed())


def gone(sentinels: list[RedisServer]) -> None:
    sentinels[0].kill()


def silent(sentinels: list[RedisServer]) -> None:
    sentinels[0].signal(signal.SIGSTOP)


def restarted(sentinels: list[RedisServer]) -> None:
    """They remember the vote then, but not for whom it was."""
    for sentinel in sentinels:
        sentinel.kill()
        sentinel.up()


@pytest.mark.fault
@pytest.mark.parametrize("leader", [silent, *(pytest.param(one, marks=pytest.mark.slow) for one in (gone, restarted))])
def test_a_vote_for_a_sentinel_that_gave_up_does_not_stop_increments_when_a_replica_is_lost(
    redis_set: SentinelSet, config: Config, leader: Callable[[list[RedisServer]], None]
) -> None:
    store = open_store(replace(config, deadline=30))
    assert store.increment("a").value == 1
    identity = redis_set.sentinels[0].client().execute_command("SENTINEL", "MYID")
    for sentinel in redis_set.sentinels:
        question = "SENTINEL", "IS-MASTER-DOWN-BY-ADDR", "127.0.0.1", redis_set.nodes[0].port, 9, identity
        assert sentinel.client().execute_command(*question)[1:] == [identity, 9]
    leader(redis_set.sentinels)
    redis_set.nodes[1].kill()
    wait_until("it to leave", lambda: redis_set.nodes[0].client().info("replication")["connected_slaves"] == 1)
    assert [store.increment("a").value for _ in range(3)] == [2, 3, 4]


@pytest.mark.fault
def test_a_primary_that_has_not_noticed_that_it_is_replaced_loses_nothing_acknowledged(
    redis_set: SentinelSet, config: Config
) -> None:
    """The promoted replica is still listed but confirms nothing more; the other one goes on confirming."""
    store = open_store(config)
    replaced, (promoted, _) = redis_set.primary(), redis_set.replicas()
    promoted.client().config_set("replica-priority", 1)
    leader = redis_set.sentinels[0].client()

    def preferred() -> bool:
        known = leader.sentinel_slaves(redis_set.name)
        return any(one["port"] == promoted.port and one["slave-priority"] == 1 for one in known)

    wait_until("the Sentinel to prefer one replica", preferred, 30)
    # The Sentinel chooses none that it takes for down, and this one is about to be stopped.
    leader.execute_command("SENTINEL", "SET", redis_set.name, "down-after-milliseconds", 60_000)
    # It does not give up the failover while this process waits for its turn.
    leader.execute_command("SENTINEL", "SET", redis_set.name, "failover-timeout", 60_000)
    with Load(store, "a") as load:
        load.more()
        promoted.signal(signal.SIGSTOP)  # the Sentinel still chooses it, since it answered a moment ago
        leader.execute_command("SENTINEL", "FAILOVER", redis_set.name)
        time.sleep(2)
        assert replaced.client().role()[0] == "master"
        assert len(replaced.client().role()[2]) == 2
        promoted.signal(signal.SIGCONT)
        wait_until("it to be replaced", lambda: replaced.client().role()[0] == "slave")
        load.more()
    assert redis_set.healed() is promoted
    load.check(promoted)


@pytest.mark.fault
def test_without_a_majority_of_the_sentinels_a_primary_that_lost_a_replica_waits_for_one(
    redis_set: SentinelSet, config: Config
) -> None:
    """They may have been cut off together with the replica, and have promoted it."""
    store = open_store(config)
    replica = redis_set.replicas()[0]
    assert store.increment("a").value == 1
    for sentinel in redis_set.sentinels[:2]:
        sentinel.kill()
    replica.kill()
    wait_until("it to leave", lambda: redis_set.nodes[0].client().info("replication")["connected_slaves"] == 1)
    for wait in (0, 15):  # longer than a failover takes
        time.sleep(wait)
        with pytest.raises((IndeterminateError, UnavailableError)):
            store.increment("a")
    redis_set.sentinels[0].up()
    wait_until("increments", lambda: is_ready(store), 20)
    assert store.increment("b").value == 1


def test_nothing_is_acknowledged_without_its_replicas_and_a_repeat_settles_it(
    redis_set: SentinelSet, config: Config
) -> None:
    # What never works is given up soon; what works has the time that it takes on a busy machine.
    patient, first = open_store(config), open_store(replace(config, deadline=1.5))
    assert patient.increment("a", "k").value == 1
    wait_until("a connection", lambda: counts(first, "a", "k"))
    first._without_secrets.ask()  # noqa: SLF001  # until it knows, its ids are like a client's
    paused = redis_set.replicas()
    for replica in paused:
        replica.signal(signal.SIGSTOP)
    try:
        with pytest.raises(IndeterminateError) as doubt:
            first.increment("a")
        key = doubt.value.operation_id
        # The primary has counted it. A repeat on a new connection only finds the answer, and must not trust it either.
        assert redis_set.nodes[0].client().get("{a}:value") == "2"
        for _ in range(2):
            second = Store(SentinelRoute(config), config)
            with pytest.raises(IndeterminateError):
                second._perform(partial(Increment, "a", key, IdRetention(60_000), time.monotonic() + 1.5))  # noqa: SLF001
        with pytest.raises(IndeterminateError):
            first.increment("a", key)
        with pytest.raises(UnavailableError):
            first.read("a")
        with pytest.raises(UnavailableError):
            first.ready()
    finally:
        for replica in paused:
            replica.signal(signal.SIGCONT)
    wait_until("readiness", lambda: is_ready(first))
    assert patient.increment("a", key).value == 2
    assert patient.read("a").value == 2


def test_write_concern_none_acknowledges_what_a_failover_loses(redis_set: SentinelSet) -> None:
    """The negative control of the test above: the same fault, without waiting for replicas, loses increments."""
    store = open_store(configured(redis_set, WRITE_CONCERN="none"))
    assert store.warning
    primary = redis_set.primary()
    primary.client().config_set("min-replicas-to-write", 0)
    replicas = redis_set.replicas()
    right = str(replicas[0].client().config_get("masterauth")["masterauth"])
    for replica in replicas:  # they cannot follow any more
        replica.client().config_set("masterauth", "wrong")
    primary.client().client_kill_filter(_type="replica")
    with following(primary.client(), "backup", BACKUP_PASSWORD, port=free_port()):
        acknowledged = [store.increment("a").value for _ in range(5)]
        primary.kill()
    for replica in replicas:
        replica.client().config_set("masterauth", right)
    wait_until("another primary", lambda: redis_set.primary() is not primary)
    value = int(wait_until("a value", lambda: str(_value(store))))
    assert value < acknowledged[-1]


def _value(store: Store) -> int:
    try:
        return store.read("a").value
    except UnavailableError as error:
        raise OSError(str(error)) from error


def test_a_key_belongs_to_one_counter(redis_set: SentinelSet, config: Config) -> None:
    store = open_store(config)
    assert store.increment("a", "k").value == 1
    assert store.increment("a", "k").value == 1
    with pytest.raises(ReusedKeyError, match="a"):
        store.increment("b", "k")
    assert store.read("b").value == 0
    redis_set.primary().kill()
    wait_until("the new primary to refuse it", lambda: _refuses_reuse(store))
    assert store.increment("a", "k").value == 1


def _refuses_reuse(store: Store) -> bool:
    with suppress(UnavailableError):
        with pytest.raises(ReusedKeyError, match="a"):
            store.increment("b", "k")
        return True
    return False


def test_the_sentinel_with_the_highest_epoch_is_believed(
    redis_set: SentinelSet, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Sentinels that were cut off: they watch another primary under the same name and never hear of the failover.
    other = RedisServer(tmp_path)
    stale = [redis_set.sentinel(tmp_path, other.port) for _ in range(2)]
    with running(other, *stale):
        other.up()
        for sentinel in stale:
            sentinel.up()
        redis_set.sentinels[0].client().execute_command("SENTINEL", "FAILOVER", redis_set.name)
        old = redis_set.nodes[0]
        wait_until("a failover", lambda: redis_set.primary() is not old)
        monkeypatch.setattr("counter.store.sentinels.ASK_SECONDS", 30)
        sentinels = (*(Address("127.0.0.1", one.port) for one in stale), *config.sentinel_nodes)
        for order in (sentinels, sentinels[::-1]):
            route = SentinelRoute(replace(config, sentinel_nodes=order))
            located = route._locate(time.monotonic() + 30)  # noqa: SLF001
            assert located == Address("127.0.0.1", redis_set.primary().port)


def test_with_two_of_three_sentinels_gone_it_still_finds_the_primary(redis_set: SentinelSet, config: Config) -> None:
    redis_set.sentinels[0].kill()
    redis_set.sentinels[1].signal(signal.SIGSTOP)
    assert open_store(replace(config, deadline=30)).increment("a").value == 1
    description = wait_until("the counter to be listed", lambda: _listed(config))
    assert description.counters == {"a": 1}
    assert sorted(node.role for node in description.nodes) == ["primary", "replica", "replica"]


def _listed(config: Config) -> Description | None:
    found = open_store(config).describe()
    return found if found.counters else None


def test_with_everything_gone_a_request_ends_in_time_and_everything_may_come_back(
    redis_set: SentinelSet, config: Config
) -> None:
    store = open_store(replace(config, deadline=1.0, threads=4))
    assert open_store(config).increment("a", "k").value == 1
    wait_until("a connection", lambda: counts(store, "a", "k"))
    for process in redis_set.processes:
        process.kill()
    with Load(store, "a", threads=4) as load:
        wait_until("refusals", lambda: load.refused + len(load.unknown) > 20, 20)
        assert not load.acknowledged
        for process in redis_set.processes:
            process.up()
        load.more(20)
    load_values = sorted(load.acknowledged.values())
    assert load_values[0] > 1
    assert len(set(load_values)) == len(load_values)
