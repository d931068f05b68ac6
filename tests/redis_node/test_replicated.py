"""A replicated set with the program of its nodes: how it begins, what it survives, and how a primary hands over."""

from __future__ import annotations

import itertools
import os
import re
import signal
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from replicated import PATIENCE_SECONDS, Member, Set, after, is_primary, left_by_others
from support import certificates
from support.configurations import DOWN_MILLISECONDS, configuration
from support.followers import WAITS, following
from support.passwords import INTERNAL_PASSWORD, logins
from support.waiting import wait_until

from redis_node import handover
from redis_node.errors import StateError
from redis_node.fence import REMEMBERED_SECONDS
from redis_node.fence import _sentinels_that_see_it as seeing
from redis_node.quorum import PRIMARY_NAME
from redis_node.settings import Settings

LATE_SECONDS = 5.0
"""Longer than the Sentinels take to replace a primary that they miss."""
PATIENT = 60_000
"""After how many milliseconds the Sentinels replace a primary where a busy machine must not cause that."""


@pytest.fixture
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the configuration of a replicated set."""
    return configuration(tmp_path_factory, "sentinel")


@pytest.fixture
def fresh(tmp_path: Path, texts: dict[str, str]) -> Iterator[Set]:
    """Return a set of which nothing runs yet."""
    found = Set(tmp_path, texts)
    yield found
    found.kill()


@pytest.fixture
def running(
    request: pytest.FixtureRequest, kept: list[Set], tmp_path_factory: pytest.TempPathFactory, texts: dict[str, str]
) -> Iterator[Set]:
    """Return a set that runs, with something counted. Any of the nodes can be its primary."""

    def make() -> Set:
        made = Set(tmp_path_factory.mktemp("set"), texts)
        made.start()
        return made

    with left_by_others(kept, request.session, make) as found:
        found.settled()
        assert found.increment(3, started=True) == 3
        yield found


@pytest.fixture
def own(fresh: Set) -> Set:
    """Return one that no other test gets, whatever is configured."""
    fresh.start()
    fresh.settled()
    assert fresh.increment(3, started=True) == 3
    return fresh


def test_a_new_installation_begins_with_the_first_node(own: Set) -> None:
    first, *others = own.nodes
    assert own.primary() is first
    assert "starts as primary: " in first.said()
    assert "a new installation" in first.said()
    wait_until("it to say so", lambda: "takes writes as primary" in first.said())  # which it does afterwards
    for node in others:
        assert f"starts as replica of {first.address}: " in node.said()
    assert [member.ask("role").stdout.strip() for member in own.members] == [
        "primary", "replica", "replica", "sentinel", "sentinel", "sentinel"
    ]  # fmt: skip


@pytest.mark.fault
def test_a_primary_takes_no_write_before_the_sentinels_see_it(fresh: Set) -> None:
    for node in fresh.nodes:
        node.start()
    app = fresh.nodes[0].client("counter")
    wait_until("two replicas", lambda: fresh.nodes[0].client().info("replication").get("connected_slaves") == 2)
    with pytest.raises(ResponseError, match="NOREPLICAS"):
        app.incr("{a}:value")
    wait_until("the reason", lambda: "takes no write as primary yet: too few Sentinels" in fresh.nodes[0].said())
    for sentinel in fresh.sentinels:
        sentinel.start()
    fresh.settled()
    wait_until("writes", lambda: app.incr("{a}:value"))


@pytest.mark.fault
def test_a_primary_takes_no_write_while_a_sentinel_could_still_replace_it(running: Set) -> None:
    """One that cannot be asked may see it down, and be elected by those that saw it down a moment ago."""
    primary = running.primary()
    app = primary.client("counter")
    away, *others = running.sentinels
    away.kill()
    after(others, 60_000)  # on a slow machine, they would replace it while it starts
    begun = time.monotonic()
    primary.kill()
    primary.start()
    wait_until("the primary", lambda: is_primary(primary))
    wait_until("both replicas", lambda: primary.client().info("replication").get("connected_slaves") == 2)
    wait_until("writes", lambda: takes_writes(app))
    assert time.monotonic() - begun > REMEMBERED_SECONDS
    assert running.primary() is primary


def takes_writes(app: Redis) -> bool:
    try:
        return bool(app.incr("{a}:value"))
    except ResponseError:
        return False


@pytest.mark.fault
def test_what_the_sentinels_saw_while_a_primary_loaded_its_data_lets_it_take_no_write(own: Set) -> None:
    """It answers their pings meanwhile, but may be replaced before it has loaded everything.

    Sentinels that were restarted, too, do not see that it was.
    """
    primary = own.primary()
    with primary.client("counter").pipeline(transaction=False) as many:
        for number in range(500):
            many.set(f"{{n{number}}}:value", token_hex(100))
        many.execute()
    # Redis answers only while it loads the first of its files, which a rewrite makes.
    primary.client().config_set("auto-aof-rewrite-min-size", 1024)
    wait_until("a rewrite", lambda: rewritten(primary))
    own.kill()
    primary.log.write_text("")
    shared = Path(primary.environ["NODE_CONFIG"])
    slowly = "key-load-delay 12000\nloading-process-events-interval-bytes 1024\n"  # of Redis, for tests; microseconds
    shared.write_text(shared.read_text() + slowly)
    own.start()
    wait_until("it to load", lambda: primary.listens() and loads(primary))
    wait_until("it to take writes", lambda: "takes writes as primary" in primary.said())
    assert not loads(primary)
    own.settled()
    assert own.primary() is primary
    assert own.increment(started=True) == 4


def rewritten(node: Member) -> bool:
    files = (node.volume / "appendonlydir").glob("*.base.rdb")
    ended = node.client().info("persistence")["aof_rewrite_in_progress"] == 0
    return ended and any(file.stat().st_size > 50_000 for file in files)


def loads(node: Member) -> bool:
    return bool(node.client().info("persistence")["loading"])


@pytest.mark.fault
def test_a_killed_primary_is_replaced_and_returns_as_a_replica(running: Set) -> None:
    killed = running.primary()
    killed.kill()
    wait_until("another primary", lambda: [node for node in running.nodes if node is not killed and is_primary(node)])
    killed.start()
    running.settled()
    assert running.primary() is not killed
    assert running.value() == 3
    assert running.increment() == 4


@pytest.mark.fault
def test_a_primary_that_lost_its_volume_empties_nobody(running: Set) -> None:
    emptied = running.primary()
    after(running.sentinels, PATIENT)
    emptied.kill()
    emptied.wipe()
    emptied.log.write_text("")
    emptied.start()
    wait_until("a decision", emptied.said)
    after(running.sentinels, DOWN_MILLISECONDS)
    running.settled()
    assert running.primary() is not emptied
    assert running.value() == 3
    assert "its volume is empty or outdated: it waits until they promote a replica" in emptied.said()


@pytest.mark.fault
def test_a_replica_that_lacks_what_a_restarted_primary_counted_is_not_promoted(running: Set) -> None:
    """Its offset is larger, since it counts the history from before the restart."""
    primary = running.primary()
    late, other = [node for node in running.nodes if node is not primary]
    assert running.increment(100) == 103
    after(running.sentinels, PATIENT)
    late.client().config_set("masterauth", "wrong")
    primary.kill()
    primary.start()
    wait_until("the primary", lambda: is_primary(primary))
    wait_until("writes", lambda: takes_writes(primary.client("counter")))
    assert running.increment(50, primary) == 154
    # Until the other one sees that it is in sync with the restarted primary, nobody can be promoted.
    wait_until("the other to be promotable", lambda: int(replication(other)["slave_priority"]) == 100)
    after(running.sentinels, DOWN_MILLISECONDS)
    primary.kill()
    wait_until("another primary", lambda: is_primary(other) or is_primary(late))
    assert is_primary(other)
    assert running.value() == 154
    assert int(late.client().info("replication")["slave_priority"]) == 0


@pytest.mark.fault
def test_a_replica_is_not_promoted_while_one_that_holds_more_does_not_answer(running: Set) -> None:
    primary = running.primary()
    late, other = [node for node in running.nodes if node is not primary]
    late.client().config_set("masterauth", "wrong")
    late.client("sentinel").client_kill_filter(_type="master")
    assert running.increment(100) == 103
    wait_until("it not to be promotable", lambda: int(replication(late)["slave_priority"]) == 0)
    frozen = other.server()
    os.kill(frozen, signal.SIGSTOP)
    primary.kill()
    late.client().config_set("masterauth", logins(INTERNAL_PASSWORD)["replication"])
    # By then, the Sentinels would have promoted it.
    time.sleep(LATE_SECONDS)
    assert not is_primary(late)
    os.kill(frozen, signal.SIGCONT)
    wait_until("the other to be the primary", lambda: is_primary(other))
    assert running.value() == 103
    wait_until("it to be promotable again", lambda: int(replication(late)["slave_priority"]) == 100)


@pytest.mark.fault
def test_a_replica_that_was_away_is_not_promoted_before_its_copy_is_on_its_disk(own: Set) -> None:
    """If it died before that, it would start again with what it held before.

    Its program stands still meanwhile: a replica can be away for less than the time between two looks.
    """
    primary = own.primary()
    away = next(node for node in own.nodes if node is not primary)
    wait_until("it to be promotable", lambda: int(replication(away)["slave_priority"]) == 100)
    primary.client().config_set("repl-backlog-size", 16384)
    assert away.process
    away.process.send_signal(signal.SIGSTOP)
    away.client().config_set("masterauth", "wrong")
    away.client("sentinel").client_kill_filter(_type="master")
    for one in range(100):  # more than what the primary keeps for replicas that were away
        primary.client("counter").set(f"{{a}}:{one}", "x" * 1000)
    away.client().config_set("rdb-key-save-delay", 100_000)  # microseconds
    away.client().config_set("masterauth", logins(INTERNAL_PASSWORD)["replication"])
    wait_until("the copy", lambda: replication(away)["master_link_status"] == "up")
    away.process.send_signal(signal.SIGCONT)
    wait_until("its priority", lambda: int(replication(away)["slave_priority"]) == 0)
    assert away.client().info("persistence")["aof_rewrite_in_progress"]
    wait_until("its file", lambda: int(replication(away)["slave_priority"]) == 100)
    assert not away.client().info("persistence")["aof_rewrite_in_progress"]


def named(sentinel: Member) -> int:
    """Return the port of the primary that a Sentinel names."""
    return int(sentinel.client().execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", PRIMARY_NAME)[1])


def replication(node: Member) -> dict[str, str]:
    return node.client().info("replication")


@pytest.mark.fault
def test_a_node_that_died_before_its_copy_was_on_its_disk_is_not_the_primary_again(own: Set) -> None:
    """It was promoted meanwhile. Its disk has what it held before, and all others would copy that."""
    primary = own.primary()
    away, other = [node for node in own.nodes if node is not primary]
    wait_until("it to be promotable", lambda: int(replication(away)["slave_priority"]) == 100)
    primary.client().config_set("repl-backlog-size", 16384)
    away.client().config_set("masterauth", "wrong")
    away.client("sentinel").client_kill_filter(_type="master")
    for one in range(100):  # more than what the primary keeps for replicas that were away
        primary.client("counter").set(f"{{a}}:{one}", "x" * 1000)
    assert own.increment(50, primary) == 53
    other.kill()
    away.client().config_set("rdb-key-save-delay", 300_000)  # microseconds
    away.client().config_set("masterauth", logins(INTERNAL_PASSWORD)["replication"])
    wait_until("the copy", lambda: replication(away)["master_link_status"] == "up")
    assert away.process
    away.process.send_signal(signal.SIGSTOP)  # it would say that it cannot be promoted
    away.client().config_set("replica-priority", 100)
    primary.kill()
    wait_until("its promotion", lambda: {named(sentinel) for sentinel in own.sentinels} == {away.port})
    assert away.client().info("persistence")["aof_rewrite_in_progress"]
    away.kill()
    away.log.write_text("")
    away.start()
    wait_until("a decision", lambda: re.search("starts as|waits: the Sentinels name this node", away.said()))
    assert "its volume is empty or outdated" in away.said()
    primary.start()
    wait_until("its choice", lambda: primary.ask("promote").returncode == 0)
    other.start()
    own.settled()
    assert own.value() == 53


@pytest.mark.fault
def test_a_new_container_of_the_primary_waits_until_the_former_one_has_ended(running: Set) -> None:
    """The engine starts it beside the former one, if the host was cut off from the managers."""
    primary = running.primary()
    after(running.sentinels, PATIENT)
    former = primary.process
    assert former
    assert str(primary.volume) in {os.path.realpath(one) for one in Path(f"/proc/{primary.server()}/fd").iterdir()}
    primary.start()
    wait_until("it to say why it waits", lambda: "still uses the volume" in primary.log.read_text())
    assert running.increment(50, primary) == 53
    former.terminate()
    former.wait(40)
    assert "handed over to " in primary.said()
    running.settled()
    assert running.primary() is not primary
    assert running.value() == 53


@pytest.mark.fault
def test_a_primary_is_not_seen_by_what_another_server_answered(running: Set) -> None:
    """One that had its name before, if both ran for a moment."""
    primary = running.primary()
    settings = Settings.from_env(primary.environ)
    run_id = primary.client().info("server")["run_id"]
    # A Sentinel asks a server that began anew for its run ID every 10 seconds only.
    wait_until("all Sentinels to see it", lambda: seeing(settings, run_id, 0.0) == 3)
    assert seeing(settings, "another", 0.0) == 0


@pytest.mark.fault
def test_a_primary_does_not_hand_over_while_a_replica_that_may_be_promoted_is_away(
    running: Set, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its link breaks after the Sentinel has asked it: the Sentinel could still choose it."""
    primary = running.primary()
    after(running.sentinels, PATIENT)
    away, other = [node for node in running.nodes if node is not primary]
    moment = handover._moment  # noqa: SLF001

    def broken(settings: Settings) -> object:
        found = moment(settings)
        away.client().config_set("masterauth", "wrong")
        away.client("sentinel").client_kill_filter(_type="master")
        wait_until("one replica", lambda: primary.client().info("replication")["connected_slaves"] == 1)
        assert running.increment(50, primary) == 53
        return found

    monkeypatch.setattr(handover, "_moment", broken)
    with pytest.raises(StateError, match="not in sync"):
        handover.hand_over(Settings.from_env(primary.environ))
    assert not is_primary(away)
    assert not is_primary(other)


@pytest.mark.fault
def test_a_primary_that_is_stopped_hands_over_first(running: Set) -> None:
    stopped = running.primary()
    after(running.sentinels, PATIENT)
    stopped.stop()
    successor = running.primary()
    assert f"handed over to {successor.address} in " in stopped.said()
    assert int(successor.client("counter").get("{a}:value") or 0) == 3
    stopped.start()
    running.settled()
    assert running.primary() is successor
    assert running.increment() == 4


@pytest.mark.fault
def test_a_sentinel_that_stood_still_is_not_asked_for_a_handover(running: Set) -> None:
    """It accepts the command, and does nothing for 30 s."""
    sentinel, primary = running.sentinels[0], running.primary()
    after(running.sentinels, PATIENT)
    os.kill(server := sentinel.server(), signal.SIGSTOP)
    time.sleep(3)  # longer than Redis takes for a pause of the machine
    os.kill(server, signal.SIGCONT)
    wait_until("its pause", lambda: sentinel.client().info("sentinel")["sentinel_tilt"] == 1)
    primary.stop()
    assert "handed over to " in primary.said()


@pytest.mark.fault
def test_a_replica_that_is_stopped_changes_nothing(running: Set) -> None:
    primary = running.primary()
    replica = next(node for node in running.nodes if node is not primary)
    stop_and_start(running, replica)
    assert "hand" not in replica.said()
    assert running.primary() is primary


def stop_and_start(running: Set, node: Member) -> None:
    node.stop()
    node.start()
    running.settled()


@pytest.mark.parametrize("lost", ["nothing", "the Sentinels' volumes"])
@pytest.mark.fault
def test_all_may_be_restarted_at_once(running: Set, lost: str) -> None:
    stop_and_start(running, running.primary())
    primary = running.primary()
    running.kill()
    for sentinel in running.sentinels if lost != "nothing" else ():
        sentinel.wipe()
    running.start()
    running.settled()
    assert running.primary() is primary
    assert running.increment(started=True) == 4


@pytest.mark.fault
@pytest.mark.parametrize("away", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_primary_that_is_late_after_a_restart_of_all_is_waited_for(running: Set, away: int) -> None:
    """A replica was away while the others counted: nothing shows the Sentinels that it lacks something."""
    primary = running.primary()
    [node for node in running.nodes if node is not primary][away].kill()
    assert running.increment(50) == 53
    running.kill()
    for member in running.members:
        if member is not primary:
            member.start()
    wait_until("the Sentinels to miss it", lambda: all(map(misses_its_primary, running.sentinels)))
    time.sleep(LATE_SECONDS)
    assert not [node for node in running.nodes if node is not primary and is_primary(node)]
    primary.start()
    running.settled()
    assert running.primary() is primary
    assert running.value() == 53
    assert running.increment(started=True) == 54


@pytest.mark.fault
def test_a_node_is_made_the_primary_where_the_last_one_never_returns(running: Set) -> None:
    primary = running.primary()
    stale, whole = [node for node in running.nodes if node is not primary]
    # What the app and the backups note is no counter.
    primary.client("counter").set("{.ready}:value", 1)
    primary.client("counter").set("{.backup}:value", '{"id": "20261126T000000Z"}')
    stale.kill()
    assert running.increment(50) == 53
    running.kill()
    for member in running.members:
        if member is not primary:
            member.start()
    wait_until("the replicas", lambda: stale.client().role() and whole.client().role())
    held = whole.ask("holdings").stdout.splitlines()
    assert f"{stale.address}: replica of {primary.address}, 1 counters, a=3" in held
    assert f"{whole.address}: replica of {primary.address}, 1 counters, a=53" in held
    assert [line for line in held if line.startswith(f"{primary.address}: ")]
    done = whole.ask("promote")
    assert done.stdout == f"{whole.address} is the primary\n", done.stderr
    done = whole.ask("promote")
    assert done.stdout == f"{whole.address} is the primary already\n", done.stderr
    assert running.value() == 53
    wait_until("the other to follow", lambda: running.increment() == 54)
    wait_until("it not to be promoted again before it is in sync", lambda: priority(whole) == "0")
    done = stale.ask("promote")
    assert done.returncode == 1
    assert f"{whole.address} is the primary: nothing was changed" in done.stderr


@pytest.mark.fault
def test_a_sentinel_that_could_not_resolve_the_new_primary_starts_again_and_follows_it(running: Set) -> None:
    """It has taken the epoch of the failover and kept the former primary, and learns nothing more from the others."""
    primary = running.primary()
    first, second, third = running.sentinels
    (epoch,) = re.findall(r"^sentinel config-epoch counter (\d+)$", third.configuration, re.MULTILINE)
    (identity,) = re.findall(r"^sentinel myid (\w+)$", first.configuration, re.MULTILINE)
    newer = int(epoch) + 1

    def epoch_of(sentinel: Member) -> int:
        told = sentinel.client().execute_command("SENTINEL", "MASTER", "counter")
        return int(dict(itertools.batched(told, 2))["config-epoch"])

    first.kill()
    second.kill()
    told = f"localhost,{first.port},{identity},{epoch},counter,gone.invalid,{primary.port},{newer}"
    primary.client("sentinel").publish("__sentinel__:hello", told)
    wait_until("it to take the epoch", lambda: epoch_of(third) == newer)
    os.kill(server := third.server(), signal.SIGSTOP)
    try:
        first.start()
        second.start()
        wait_until("the other Sentinels", lambda: first.listens() and second.listens())
        wait_until("a failover", lambda: failover(first))
        wait_until("another primary", lambda: running.primary() is not primary)
        wait_until("the others to agree", lambda: epoch_of(first) == epoch_of(second) != int(epoch))
        assert epoch_of(first) == newer
    finally:
        os.kill(server, signal.SIGCONT)
    assert third.process
    assert third.process.wait(30) == 0
    assert "starts again: it names" in third.said()
    third.start()
    running.settled()


def failover(sentinel: Member) -> bool:
    """Ask a Sentinel for a failover; it refuses while it does not know the replicas."""
    with suppress(RedisError):
        return sentinel.client().execute_command("SENTINEL", "FAILOVER", "counter") == "OK"
    return False


@pytest.mark.fault
def test_a_promotion_that_failed_is_not_made_when_the_sentinels_return(running: Set) -> None:
    primary = running.primary()
    chosen, other = [node for node in running.nodes if node is not primary]
    running.kill()
    for member in (chosen, other, running.sentinels[0]):
        member.start()
    wait_until("the replicas", lambda: chosen.client().role() and other.client().role())
    # As if it had been in sync with the primary since it started.
    other.client("operator").config_set("replica-priority", 100)
    with ThreadPoolExecutor() as pool:
        answers = [(node, pool.submit(node.ask, "promote")) for node in (chosen, other)]
    for node, answer in answers:
        assert answer.result().returncode == 1
        assert f"the Sentinels did not promote {node.address}" in answer.result().stderr
    assert (priority(chosen), priority(other)) == ("0", "100")
    other.client("operator").config_set("replica-priority", 0)
    for sentinel in running.sentinels[1:]:
        sentinel.start()
    wait_until("the Sentinels to miss it", lambda: all(map(misses_its_primary, running.sentinels)))
    time.sleep(LATE_SECONDS)
    assert not [node for node in (chosen, other) if is_primary(node)]


@pytest.mark.fault
def test_nodes_are_added_while_the_others_do_not_know_them_yet(own: Set) -> None:
    """A deployment starts the new nodes first, and then changes the others one at a time, the primary last."""
    primary = own.primary()
    former = [*own.sentinels, *(node for node in own.nodes if node is not primary), primary]
    before = own.value()
    others = own.add(2)
    wait_until("the Sentinels to know them", lambda: all(known(one) == 4 for one in own.sentinels))
    for number, member in enumerate(former, 1):
        safe = member.ask("settled", str(PATIENCE_SECONDS))
        assert safe.returncode == 0, safe.stderr
        member.stop()
        member.environ |= others
        member.start()
        in_sync = member.ask("settled", str(PATIENCE_SECONDS))
        assert in_sync.returncode == 0, in_sync.stderr
        assert own.increment() == before + number
    assert [node.client().role()[0] for node in own.nodes].count("slave") == 4


def known(sentinel: Member) -> int:
    """Return how many replicas a Sentinel knows."""
    told = sentinel.client().execute_command("SENTINEL", "MASTER", "counter")
    return int(dict(itertools.batched(told, 2))["num-slaves"])


def misses_its_primary(sentinel: Member) -> bool:
    """Tell whether a Sentinel takes the primary for down, as a majority does."""
    told = sentinel.client().execute_command("SENTINEL", "MASTER", PRIMARY_NAME)
    return "o_down" in dict(itertools.batched(told, 2))["flags"]


def priority(node: Member) -> str:
    """Return the replica-priority, which a primary tells only in its file."""
    node.client("sentinel").config_rewrite()
    (line,) = re.findall("^replica-priority (.*)$", (node.volume / "redis.conf").read_text(), re.MULTILINE)
    return str(line)


@pytest.mark.fault
def test_a_stop_does_not_wait_for_what_confirms_nothing(running: Set) -> None:
    """The change log of backups follows a node as a replica does, and Redis would wait for it for ten seconds."""
    primary = running.primary()
    replica = next(node for node in running.nodes if node is not primary)
    after(running.sentinels, PATIENT)
    for node in (replica, primary):
        with following(node.client(), "replication", logins(INTERNAL_PASSWORD)["replication"]):
            node.stop()
        assert WAITS not in node.log.read_text(errors="replace")
    assert "handed over to" in primary.said()


@pytest.mark.fault
def test_a_primary_does_not_hand_over_to_what_may_not_be_promoted(running: Set) -> None:
    primary = running.primary()
    replicas = [node for node in running.nodes if node is not primary]
    for node in replicas:
        assert node.process
        node.process.send_signal(signal.SIGSTOP)  # it would raise the priority again
        node.client().config_set("replica-priority", 0)
    wait_until("it to be missed", lambda: "cannot promote" in running.sentinels[0].ask("settled").stderr)
    primary.stop()
    assert "stops without handing over" in primary.said()
    assert "may promote none of the 2 replicas" in primary.said()
    for node in replicas:
        assert node.process
        node.process.send_signal(signal.SIGCONT)
    primary.start()
    wait_until("the primary", lambda: is_primary(primary))


@pytest.mark.fault
def test_a_set_is_not_settled_while_a_sentinel_does_not_reach_a_replica(running: Set) -> None:
    replica = next(node for node in running.nodes if node is not running.primary())

    def missing() -> str:
        return running.sentinels[0].ask("settled").stderr

    def broken() -> bool:
        """Break the Sentinels' connections, which they make again within a second."""
        replica.client("sentinel").client_kill_filter(_type="normal", skipme=False)
        return f"says of {replica.address}: slave,disconnected" in missing()

    wait_until("it to be missed", broken)
    wait_until("nothing to be missed", lambda: not missing())


@pytest.mark.fault
def test_sentinels_go_on_asking_as_often_as_they_should(running: Set) -> None:
    """A handover lets one of them ask more often for a moment."""

    def periods() -> set[tuple[str, ...]]:
        told = [sentinel.client().execute_command("SENTINEL", "DEBUG") for sentinel in running.sentinels]
        named = [dict(zip(one[::2], one[1::2], strict=True)) for one in told]
        return {(one["PING-PERIOD"], one["INFO-PERIOD"], one["MIN-LINK-RECONNECT-PERIOD"]) for one in named}

    wait_until("all to ask often", lambda: periods() == {("500", "300", "1000")})
    running.primary().stop()
    wait_until("all to ask often after a handover", lambda: periods() == {("500", "300", "1000")})
    running.sentinels[0].client().execute_command("SENTINEL", "DEBUG", "INFO-PERIOD", "50")
    wait_until("it to ask less often again", lambda: periods() == {("500", "300", "1000")})


@pytest.mark.fault
def test_what_looks_after_a_primary_does_not_end_with_a_failure(fresh: Set) -> None:
    """For a moment it cannot log in; the primary would refuse writes for ever."""
    first = fresh.nodes[0]
    for node in fresh.nodes:
        node.start()
    wait_until("two replicas", lambda: first.client().info("replication").get("connected_slaves") == 2)
    logins = first.logins.read_text()
    first.logins.write_text("")
    wait_until("it to fail", lambda: "KeyError" in first.log.read_text())
    first.logins.write_text(logins)
    for sentinel in fresh.sentinels:
        sentinel.start()
    fresh.settled()
    assert fresh.increment(started=True) == 1


@pytest.mark.fault
def test_a_primary_that_was_replaced_while_its_program_failed_takes_writes_later(fresh: Set) -> None:
    first, second, _ = fresh.nodes
    for node in fresh.nodes:
        node.start()
    wait_until("two replicas", lambda: first.client().info("replication").get("connected_slaves") == 2)
    sentinel, logins = first.client("sentinel"), first.logins.read_text()
    first.logins.write_text("")
    wait_until("it to fail", lambda: "KeyError" in first.log.read_text())
    sentinel.execute_command("SLAVEOF", "localhost", second.port)
    sentinel.execute_command("CONFIG", "REWRITE")
    first.logins.write_text(logins)
    wait_until("its program to go on", lambda: "is a replica" in first.said())
    sentinel.execute_command("SLAVEOF", "NO", "ONE")
    wait_until("writes", lambda: takes_writes(first.client("counter")))


@pytest.mark.fault
def test_a_primary_that_was_replaced_empties_nobody_while_the_sentinels_are_away(running: Set) -> None:
    """It does not know that it was replaced, and says that it is the primary."""
    replaced = running.primary()
    replaced.kill()
    primary = running.primary()
    wait_until("a replica", lambda: primary.client().info("replication")["connected_slaves"] == 1)
    assert running.increment(50, primary) == 53
    running.kill()
    replaced.start()
    wait_until("it to say so", lambda: is_primary(replaced))
    for node in running.nodes:
        if node is not replaced:
            node.start()
    wait_until("the others", lambda: [node.client().role() for node in running.nodes])
    for sentinel in running.sentinels:
        sentinel.start()
    running.settled()
    assert running.primary() is primary
    assert running.value() == 53


@pytest.mark.fault
def test_an_empty_node_does_not_begin_where_another_has_data(own: Set) -> None:
    """The first node and all that the Sentinels knew are lost: nobody may guess, and nothing more may be lost."""
    own.kill()
    for member in (own.nodes[0], *own.sentinels):
        member.wipe()
    own.start()
    wait_until("a decision", lambda: "its volume was lost" in own.nodes[0].said())
    wait_until("the others", lambda: [node.client().role() for node in own.nodes[1:]])
    assert not own.nodes[0].listens()
    for node in own.nodes[1:]:
        assert node.client().info("keyspace")["db0"]["keys"] >= 1


@pytest.mark.fault
def test_passwords_change_while_all_goes_on(own: Set) -> None:
    """After two rotations the first passwords open nothing; a program that was started with them still hands over."""
    primary = own.primary()
    after(own.sentinels, PATIENT)
    former = primary.client()
    assert former.ping()
    first = Path(primary.logins).read_text()
    for number in (1, 2):
        own.rotate(f"internal-{number}")
        own.settled()
        assert own.primary() is primary
        assert own.increment() == 3 + number
    for member in own.members:
        for user, password in (line.split() for line in first.splitlines()):
            with pytest.raises(AuthenticationError):
                Redis(port=member.port, username=user, password=password, protocol=2).ping()
    primary.stop()
    assert "handed over to " in primary.said()
    primary.start()
    own.settled()  # the other replica follows with its new password
    stop_and_start(own, next(node for node in own.nodes if node is not primary and not is_primary(node)))
    assert own.increment() == 6


@pytest.mark.fault
def test_all_parts_speak_tls_only(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """They find each other, hand over, and change passwords and certificate over TLS; nothing else is heard."""
    for made in ("new", "renewed", "set"):
        (tmp_path / made).mkdir()
    first = certificates.make(tmp_path / "new")
    found = Set(tmp_path / "set", configuration(tmp_path_factory, "sentinel-tls") | certificates.files(first))
    try:
        found.start()
        found.settled()
        assert found.increment(3, started=True) == 3
        for member in found.members:
            with pytest.raises((RedisConnectionError, ResponseError)):
                Redis(port=member.port, protocol=2).ping()
        primary = found.primary()
        after(found.sentinels, PATIENT)
        found.rotate("internal-1")
        found.settled()
        renewed = certificates.make(tmp_path / "renewed", first)
        for node in found.nodes:
            certificates.write(renewed, node.acl.parent)
            node.client().config_set("tls-cert-file", str(node.acl.parent / "redis.crt"))
            assert ssl.get_server_certificate(("localhost", node.port)).strip() == renewed["certificate"].strip()
        primary.stop()
        assert "handed over to " in primary.said()
        primary.start()
        found.settled()
        assert found.increment() == 4
    finally:
        found.kill()


@pytest.mark.fault
def test_a_sentinel_that_wrote_the_primary_in_place_of_its_replicas_starts(running: Set) -> None:
    """Redis does so while no name can be resolved, and refuses the file: two equal lines."""
    sentinel = running.sentinels[0]
    sentinel.kill()
    file = sentinel.volume / "sentinel.conf"
    primary = running.primary().address.replace(":", " ")
    broken, count = re.subn(r"(sentinel known-replica counter) .*", rf"\1 {primary}", file.read_text())
    assert count == 2
    file.write_text(broken)
    sentinel.start()
    running.settled()
    stop_and_start(running, running.primary())
    assert running.increment() == 4


@pytest.mark.fault
def test_names_are_used_everywhere(running: Set) -> None:
    stop_and_start(running, running.primary())
    for sentinel in running.sentinels:
        text = (sentinel.volume / "sentinel.conf").read_text()
        known = [line for line in text.splitlines() if line.startswith(("sentinel monitor", "sentinel known"))]
        assert len(known) == 5
        assert not [line for line in known if re.search(r"\d+\.\d+\.\d+\.\d+|::1", line)]
        assert (sentinel.volume / "sentinel.conf").stat().st_mode & 0o077 == 0
