"""Where Redis nodes are placed, and which hosts too much depends on."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from plugins.filter import placement
from redis_node.cluster.members import first_of_its_pair, partner

HOSTS = ["one", "two", "three"]
SENTINEL = [f"{kind}-{number}" for kind in ("redis", "sentinel") for number in (1, 2, 3)]


def cluster(count: int) -> tuple[list[str], dict[str, int]]:
    """Return names and pairs of a cluster of so many nodes."""
    names = [f"redis-{number}" for number in range(1, count + 1)]
    return names, placement.pairs(names)


@pytest.mark.parametrize("count", [3, 6, 8, 64])
def test_pairs_are_those_of_the_program_of_the_nodes(count: int) -> None:
    names, pairs = cluster(count)
    firsts = [name for name in names if first_of_its_pair(name)]
    assert pairs == {name: firsts.index(min(name, partner(name), key=lambda one: int(one[6:]))) for name in names}


@pytest.mark.parametrize(
    ("pairs", "order"),
    [
        ({}, ["redis-2", "redis-4", "redis-1", "redis-5"]),
        (cluster(6)[1], ["redis-4", "redis-1", "redis-2", "redis-5"]),
    ],
    ids=["nodes", "pairs"],
)
def test_primaries_are_changed_after_the_others(pairs: dict[str, int], order: list[str]) -> None:
    roles = {"redis-1": "primary", "redis-2": "replica", "redis-4": "replica", "redis-5": "primary"}
    answers = [{"item": {"name": f"counter-redis_{name}"}, "stdout": role} for name, role in roles.items()]
    assert [service["name"].partition("_")[2] for service in placement.in_order(answers, pairs)] == order


def test_nodes_and_sentinels_are_spread() -> None:
    places = placement.spread_over(SENTINEL, HOSTS, {}, {})
    assert places == dict(zip(SENTINEL, HOSTS * 2, strict=True))
    assert placement.single_points(places, {}) == {}


@pytest.mark.parametrize("hosts", [2, 3, 4, 5, 7])
@pytest.mark.parametrize("count", [6, 8, 10, 20])
def test_a_pair_is_on_two_hosts_and_the_hosts_have_the_same_number(count: int, hosts: int) -> None:
    names, pairs = cluster(count)
    places = placement.spread_over(names, [str(host) for host in range(hosts)], {}, pairs)
    assert all(places[name] != places[partner(name)] for name in names)
    held = Counter(places.values())
    assert max(held.values()) - min(held[str(host)] for host in range(hosts)) <= 1


def test_six_nodes_on_three_hosts_survive_any_host() -> None:
    names, pairs = cluster(6)
    assert placement.single_points(placement.spread_over(names, HOSTS, {}, pairs), pairs) == {}


def test_what_a_lost_host_had_comes_to_the_new_one() -> None:
    kept = {"redis-1": "one", "redis-3": "three", "sentinel-1": "one", "sentinel-3": "three"}
    places = placement.spread_over(SENTINEL, ["one", "three", "new"], kept, {})
    assert places == dict(zip(SENTINEL, ["one", "new", "three"] * 2, strict=True))
    names, pairs = cluster(6)
    before = placement.spread_over(names, HOSTS, {}, pairs)
    kept = {name: place for name, place in before.items() if place != "one"}
    places = placement.spread_over(names, ["two", "three", "new"], kept, pairs)
    assert {places[name] for name in names if before[name] == "one"} == {"new"}
    assert placement.single_points(places, pairs) == {}


def test_a_pair_is_apart_even_where_the_host_of_one_has_the_fewest() -> None:
    names, pairs = cluster(6)
    kept = dict.fromkeys(["redis-2", "redis-3", "redis-5", "redis-6"], "two") | {"redis-4": "one"}
    assert placement.spread_over(names, HOSTS[:2], kept, pairs)["redis-1"] == "two"


def test_hosts_that_must_not_be_lost_are_told() -> None:
    grown = placement.spread_over(SENTINEL, HOSTS, dict.fromkeys(SENTINEL, "one"), {})
    assert placement.single_points(grown, {}) == {"one": SENTINEL}
    names, pairs = cluster(6)
    crowded = placement.spread_over(names, HOSTS, {"redis-1": "one", "redis-4": "one"}, pairs)
    assert "one" in placement.single_points(crowded, pairs)
    # With four primaries on three hosts, one host has two of them, and two are no majority of four.
    names, pairs = cluster(8)
    (host,) = placement.single_points(placement.spread_over(names, HOSTS, {}, pairs), pairs)
    assert host == "one"


def test_hosts_whose_node_is_down_are_named_as_in_the_inventory() -> None:
    # The third one left the swarm and joined it again.
    states = [("one", "ready"), ("two", "down"), ("", "down"), ("three", "down"), ("three", "ready")]
    nodes = [
        {"Spec": {"Labels": {"counter.host": name} if name else None}, "Status": {"State": state}}
        for name, state in [*states, ("four", "unknown")]
    ]
    assert placement.hosts_down(nodes) == ["two"]


@pytest.mark.parametrize(
    ("state", "address", "host", "found"),
    [
        ("down", "192.0.2.1", None, {}),
        ("down", "192.0.2.2", "one", {}),
        ("down", "192.0.2.2", "two", {"redis-1": "former"}),
        ("down", "192.0.2.2", None, {"redis-1": "former"}),
        ("ready", "192.0.2.1", "one", {"redis-1": "former"}),
    ],
)
def test_labels_of_a_former_entry_of_a_host_do_not_count(
    state: str, address: str, host: str | None, found: dict[str, str]
) -> None:
    former: dict[str, Any] = {
        "ID": "former",
        "Spec": {"Labels": {"counter.redis-1": "here"}},
        "Status": {"State": state, "Addr": address},
    }
    now: dict[str, Any] = {"ID": "now", "Spec": {"Labels": None}, "Status": {"State": "ready", "Addr": "192.0.2.1"}}
    if host:
        former["Spec"]["Labels"]["counter.host"] = "one"
        now["Spec"]["Labels"] = {"counter.host": host}
    assert placement.labelled([former, now], "counter") == found


def test_hosts_whose_addresses_are_not_known_are_not_taken_for_one() -> None:
    former: dict[str, Any] = {
        "ID": "former",
        "Spec": {"Labels": {"counter.redis-1": "here"}},
        "Status": {"State": "down"},
    }
    now: dict[str, Any] = {"ID": "now", "Spec": {"Labels": None}, "Status": {"State": "ready"}}
    assert placement.labelled([former, now], "counter") == {"redis-1": "former"}
    unknown: list[dict[str, Any]] = [node | {"Status": node["Status"] | {"Addr": "0.0.0.0"}} for node in (former, now)]  # noqa: S104
    assert placement.labelled(unknown, "counter") == {"redis-1": "former"}
