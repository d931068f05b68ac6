"""The store against a cluster of six redis-servers, with real failures."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from load import Load, counts, is_ready
from support.processes import RedisServer, running
from support.waiting import wait_until
from topologies import Cluster, Node, shown_counters

from counter.config import Address, Config
from counter.store import open_route, open_store
from counter.store.keys import claim_key, proof_key, value_key
from counter.store.primaries import Primaries
from counter.store.store import Store
from counter.store.types import Description, IndeterminateError, ReusedKeyError, StoreError, UnavailableError

NAMES = [f"c{number}" for number in range(24)]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    found = Cluster(tmp_path)
    with running(*found.nodes):
        yield found.up()


@pytest.fixture
def config(cluster: Cluster) -> Config:
    environ = cluster.environ() | {"HISTORY_LOG": "1"}
    return Config.from_env({f"COUNTER_{key}": value for key, value in environ.items()})


def listed(store: Store, names: list[str]) -> Description | None:
    """Describe the store once all names are listed, which happens after they were counted."""
    found = store.describe()
    return found if set(names) <= set(found.counters or {}) else None


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a look wait longer for a node than a second, since a busy machine may need more; forget each look at once."""
    monkeypatch.setattr("counter.store.cluster.ASK_SECONDS", 10.0)
    monkeypatch.setattr("counter.store.client.REPLY_SECONDS", 10.0)
    monkeypatch.setattr("counter.store.store.DESCRIBED_SECONDS", 0)


@pytest.mark.usefixtures("patient")
def test_counters_spread_over_the_primaries_and_are_all_described(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(config)
    nodes = {store.increment(name).node for name in NAMES}
    assert len(nodes) == 3
    assert all(store.increment(name).value == 2 for name in NAMES)
    assert all(store.read(name).value == 2 for name in NAMES)
    description = wait_until("all to be listed", lambda: listed(store, NAMES))
    assert description.counters == dict.fromkeys(sorted(NAMES), 2)
    assert not description.more
    assert sorted(node.role for node in description.nodes) == ["primary"] * 3 + ["replica"] * 3
    assert sum(node.slots or 0 for node in description.nodes if node.role == "primary") == 16384
    assert not any(node.slots for node in description.nodes if node.role == "replica")
    store.ready()
    monkeypatch.setattr("counter.store.client.SHOWN_COUNTERS", len(NAMES) - 1)
    description = store.describe()
    assert description.counters == dict.fromkeys(sorted(NAMES)[:-1], 2)
    assert description.more


@pytest.mark.usefixtures("patient")
def test_all_counters_are_read_in_one_round_for_each_primary(cluster: Cluster, config: Config) -> None:
    def connections() -> int:
        return sum(node.client().info("stats")["total_connections_received"] for node in cluster.nodes)

    store = open_store(config)
    for name in NAMES:
        store.increment(name)
    wait_until("all to be listed", lambda: listed(store, NAMES))
    before, own = connections(), len(cluster.nodes)
    assert store.describe().counters == dict.fromkeys(sorted(NAMES), 1)
    # The names, their values on three primaries, and six nodes that say who they are.
    assert connections() - before - own == 1 + 3 + 6


def test_a_node_that_has_not_joined_says_nothing_of_the_slots(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lonely = Node(tmp_path, "cluster")
    with running(lonely):
        lonely.up()
        nodes = (Address("127.0.0.1", lonely.port), *config.redis_nodes)
        monkeypatch.setattr(random, "sample", lambda _all, _count: list(nodes))
        store = open_store(replace(config, redis_nodes=nodes))
        route = store._route  # noqa: SLF001
        for name in NAMES:
            assert route.queue(value_key(name))


@pytest.mark.usefixtures("patient")
def test_a_name_that_other_nodes_learn_late_is_asked_for_again(cluster: Cluster, config: Config) -> None:
    before = open_store(config)
    for name in NAMES:
        before.increment(name)
    wait_until("all to be listed", lambda: listed(before, NAMES))
    first = cluster.nodes[0].client()

    def unknown() -> int:
        replies = [node.client().execute_command("CLUSTER", "SLOTS") for node in cluster.nodes[1:]]
        return sum(primary[0] == "?" for reply in replies for _, _, primary, *_ in reply)

    own = first.config_get("cluster-announce-hostname")["cluster-announce-hostname"]
    first.config_set("cluster-announce-hostname", "")
    wait_until("the others to forget its name", lambda: unknown() == len(cluster.nodes) - 1)
    store = open_store(replace(config, redis_nodes=config.redis_nodes[1:]))
    assert store.describe().counters is None
    first.config_set("cluster-announce-hostname", own or "")
    wait_until("the counters", lambda: store.describe().counters == dict.fromkeys(sorted(NAMES), 1))


def test_a_description_ends_at_the_deadline(config: Config) -> None:
    store = open_store(config)
    store.increment("c0")
    wait_until("the counter to be listed", lambda: listed(store, ["c0"]))
    late = open_store(replace(config, deadline=-1.0)).describe()
    assert late.counters is None
    assert all(node.reachable for node in late.nodes)


def test_a_key_belongs_to_one_counter_wherever_the_counters_live(cluster: Cluster, config: Config) -> None:
    store = open_store(config)
    assert store.increment(NAMES[0], "k").value == 1
    assert cluster.primary_of(f"{{{NAMES[0]}}}:value") is not cluster.primary_of(f"{{{NAMES[1]}}}:value")
    for name in NAMES[1:4]:
        with pytest.raises(ReusedKeyError, match="another counter"):
            store.increment(name, "k")
        assert store.read(name).value == 0
    assert store.increment(NAMES[0], "k").value == 1


def test_braces_in_a_clients_key_do_not_lead_to_another_slot(cluster: Cluster, config: Config) -> None:
    def slot(key: str) -> object:
        return cluster.nodes[0].client().execute_command("CLUSTER", "KEYSLOT", key)

    keys = ["{b}", "a{b", "a}b", "}", "{}b", "{}{b}", "}{", "a}b{c", "{{b}}"]
    for count, key in enumerate(keys, 1):
        stored = claim_key(key)
        assert slot(proof_key(stored)) == slot(stored)
        # Each process begins by writing the keys of the version before, which are the ones that have no braces around.
        assert open_store(config).increment("c0", key).value == count


@pytest.mark.fault
@pytest.mark.parametrize("fault", ["kill", "pause"])
def test_a_broken_primary_loses_nothing_and_the_other_shards_go_on(
    cluster: Cluster, config: Config, fault: str
) -> None:
    store = open_store(config)
    broken = cluster.primary_of("{c0}:value")
    others = [node for node in cluster.nodes if node is not broken]
    elsewhere = next(name for name in NAMES if cluster.primary_of(f"{{{name}}}:value") is not broken)
    with Load(store, "c0") as load, Load(store, elsewhere, threads=2, keys=False) as other:
        load.more()
        if fault == "kill":
            broken.kill()
        else:
            broken.signal(signal.SIGSTOP)
        # A majority of two is both: this shard acknowledges again when the broken node is back as a replica.
        wait_until("another primary", lambda: cluster.primary_of("{c0}:value", ask=others) is not broken, 30)
        other.more(20)
        if fault == "kill":
            broken.start()
        else:
            broken.signal(signal.SIGCONT)
        load.more()
        other.more(20)
    cluster.healed()
    assert cluster.primary_of("{c0}:value") is not broken, "the fault did not happen: no other primary was chosen"
    load.check(cluster.primary_of("{c0}:value"))
    other.check(cluster.primary_of(f"{{{elsewhere}}}:value"))
    assert other.longest_gap < load.longest_gap


def test_nothing_is_acknowledged_without_the_replica(cluster: Cluster, config: Config) -> None:
    # What never works is given up soon; what works has the time that it takes on a busy machine.
    patient, store = open_store(config), open_store(replace(config, deadline=1.5))
    assert patient.increment("c0", "k").value == 1
    wait_until("a connection", lambda: counts(store, "c0", "k"))
    primary = cluster.primary_of("{c0}:value")
    replicas = {int(found[1]) for found in primary.client().role()[2]}
    paused = [node for node in cluster.nodes if node.port in replicas]
    assert len(paused) == 1
    paused[0].signal(signal.SIGSTOP)
    try:
        with pytest.raises(IndeterminateError) as doubt:
            store.increment("c0")
    finally:
        paused[0].signal(signal.SIGCONT)
    wait_until("readiness", lambda: is_ready(store))
    assert primary.client().get("{c0}:value") == "2"
    assert patient.increment("c0", doubt.value.operation_id).value == 2


def test_only_a_new_counter_needs_the_node_with_the_names(cluster: Cluster, config: Config) -> None:
    store = open_store(replace(config, deadline=1.0))
    home = cluster.primary_of("counters")
    old, new = [name for name in NAMES if cluster.primary_of(f"{{{name}}}:value") is not home][:2]
    wait_until("it to count", lambda: counts(store, old, "k"))
    home.signal(signal.SIGSTOP)
    try:
        assert store.increment(old).value > 1
        with pytest.raises(UnavailableError):
            store.increment(new)
    finally:
        home.signal(signal.SIGCONT)
    wait_until("it to be counted once", lambda: counts(store, new, "new"))
    assert store.read(new).value == 1


def test_a_slot_that_moves_takes_the_counter_along(cluster: Cluster, config: Config) -> None:
    store = open_store(config)
    with Load(store, "c0", threads=4) as load:
        load.more(50)
        source, target = cluster.primary_of("{c0}:value"), cluster.primary_of("{c1}:value")
        assert source is not target
        move_slot(cluster, "{c0}:value", source, target)
        assert cluster.primary_of("{c0}:value") is target
        load.more(50)
    load.check(target)


def move_slot(cluster: Cluster, key: str, source: RedisServer, target: RedisServer) -> None:
    """Do what ``redis-cli --cluster reshard`` does, with a pause in the middle."""
    slot = source.client().execute_command("CLUSTER", "KEYSLOT", key)
    source_id, target_id = (node.client().execute_command("CLUSTER", "MYID") for node in (source, target))
    target.client().execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
    source.client().execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
    where = ("MIGRATE", "127.0.0.1", target.port, "", 0, 5000)
    source.client().execute_command(*where, "KEYS", key)
    time.sleep(0.5)  # the value is there already, its operation keys are here still
    while keys := source.client().execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
        source.client().execute_command(*where, "KEYS", *keys)
    for node in (target, source, *cluster.nodes):
        if node.client().role()[0] == "master":
            node.client().execute_command("CLUSTER", "SETSLOT", slot, "NODE", target_id)


def test_a_counter_that_moves_while_the_names_are_read_is_found(
    cluster: Cluster, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(config)
    for name in NAMES:
        store.increment(name)
    read: list[RedisServer] = []

    def read_and_move(primaries: Primaries, key: str, pattern: str) -> Iterator[str]:
        yield from read_keys(primaries, key, pattern)
        read.append(cluster.primary_of(key))
        if len(read) == 1:  # to the primary that was read, from another
            moved = next(name for name in NAMES if cluster.primary_of(value_key(name)) is not read[0])
            move_slot(cluster, value_key(moved), cluster.primary_of(value_key(moved)), read[0])

    read_keys = Primaries._keys_at  # noqa: SLF001
    monkeypatch.setattr(Primaries, "_keys_at", read_and_move)
    assert Primaries(open_route(config)).names() == set(NAMES)
    assert len(read) >= 6


def test_with_every_node_gone_a_request_ends_in_time(cluster: Cluster, config: Config) -> None:
    patient, store = open_store(config), open_store(replace(config, deadline=1.0))
    assert patient.increment("c0", "k").value == 1
    wait_until("a connection", lambda: counts(store, "c0", "k"))
    for node in cluster.nodes:
        node.kill()
    for call in (store.increment, store.increment, store.read):
        with pytest.raises(StoreError):
            call("c0")
    with pytest.raises(UnavailableError):
        store.ready()
    assert not any(node.reachable for node in store.describe().nodes)
    for node in cluster.nodes:
        node.up()
    cluster.healed()
    wait_until("readiness", lambda: is_ready(store))
    assert patient.increment("c0").value == 2


def test_each_way_of_counting_counts_on_the_same_counter_wherever_it_is(
    client_of: Callable[..., FlaskClient], cluster: Cluster
) -> None:
    client = client_of(**cluster.environ())
    names = [f"Blog.example/post-{number}" for number in range(12)]
    nodes = set()
    for name in names:
        nodes.add(client.post(f"/api/counters/{name}/increment").json["source"]["node"])
        assert client.get(f"/hit/{name}").json == {"value": 2}
        assert client.get(f"/badge/{name}.svg?count=1").status_code == 200
        assert client.post(f"/c/{name}").status_code == 303
        assert client.get(f"/get/{name}").json == {"value": 4}
    assert len(nodes) == 3
    assert client.get("/create?namespace=Blog.example&key=new").json["value"] == 0
    expected = dict.fromkeys(names, 4) | {"Blog.example/new": 0}
    assert shown_counters(client.application.extensions["counting"].store) == expected
