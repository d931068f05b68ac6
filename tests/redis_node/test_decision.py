"""How a node decides to start, as a table. With real processes: test_replicated.py."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from redis_node import sentinel
from redis_node.decision import Peer, Situation, Start, Wait, decide
from redis_node.quorum import View, agreed_primary
from redis_node.settings import Address, Settings

A, B, C = (Address(f"redis-{number}", 6379) for number in (1, 2, 3))
EMPTY, FULL, PRIMARY = Peer(primary=False, keys=0), Peer(primary=False, keys=5), Peer(primary=True, keys=5)


def named(*primaries: Address, epochs: Iterable[int] = (1, 1, 1)) -> list[View]:
    return [View(epoch, primary) for epoch, primary in zip(epochs, primaries, strict=False)]


def situation(**changes: Any) -> Situation:
    """Return a node that has data and followed B, with nobody to ask; ``changes`` say what else is true."""
    usual: dict[str, Any] = {
        "me": A,
        "first": A,
        "peers": {B: None, C: None},
        "views": [],
        "sentinels": 3,
        "has_data": True,
        "last_primary": B,
        "patient": False,
    }
    return Situation(**usual | changes)


def empty(**changes: Any) -> Situation:
    return situation(**{"has_data": False, "last_primary": None} | changes)


# None: it waits.
CASES: dict[str, tuple[Situation, Address | None]] = {
    "the Sentinels name another": (situation(views=named(B, B, B)), B),
    "two of three are enough": (situation(views=named(C, C)), C),
    "one is not": (situation(views=named(C), patient=True), None),
    "the Sentinels name this node": (situation(views=named(A, A, A)), A),
    "the Sentinels name this node, which is empty": (empty(views=named(A, A, A), peers={B: FULL, C: FULL}), None),
    "an empty node whom the Sentinels tell another": (empty(views=named(B, B)), B),
    "a newer epoch that only one knows yet": (situation(views=named(C, B, B, epochs=(2, 1, 1)), patient=True), None),
    "a newer epoch that two know": (situation(views=named(C, C, B, epochs=(2, 2, 1))), C),
    "the Sentinels may still start": (situation(patient=True, peers={B: PRIMARY, C: None}), None),
    "no Sentinels: follows the last primary": (situation(), B),
    "no Sentinels: follows the last primary, although another says it is one": (situation(peers={C: PRIMARY}), B),
    "no Sentinels: was the primary": (situation(last_primary=A), A),
    "no Sentinels: was the primary, although another says it is one": (
        situation(last_primary=A, peers={B: PRIMARY, C: FULL}),
        A,
    ),
    "no Sentinels, and nothing says what it was": (situation(last_primary=None), A),
    "a new installation begins": (empty(peers={B: EMPTY, C: EMPTY}), A),
    "a new installation waits for all": (empty(peers={B: EMPTY, C: None}), None),
    "a new installation follows the first": (empty(me=B, peers={A: None, C: EMPTY}), A),
    "an emptied first node where others have data": (empty(peers={B: FULL, C: EMPTY}), None),
    "an emptied node and a primary": (empty(peers={B: PRIMARY, C: None}), B),
    "an emptied node and two primaries": (empty(peers={B: PRIMARY, C: PRIMARY}), None),
}


@pytest.mark.parametrize("case", CASES)
def test_decision(case: str) -> None:
    now, primary = CASES[case]
    found = decide(now)
    assert isinstance(found, Wait if primary is None else Start), found
    assert getattr(found, "primary", None) == primary
    assert found.reason


def test_a_node_without_data_becomes_primary_only_where_no_other_has_any() -> None:
    """Over every combination of what the others are."""
    kinds = (None, EMPTY, FULL, PRIMARY)
    begins = [
        (b, c)
        for b in kinds
        for c in kinds
        for views in ([], named(A), named(A, A), named(A, A, A))
        for patient in (True, False)
        if getattr(decide(empty(peers={B: b, C: c}, views=views, patient=patient)), "primary", None) == A
    ]
    assert set(begins) == {(EMPTY, EMPTY)}


@pytest.mark.parametrize("nodes", [3, 5])
def test_a_node_with_data_follows_only_its_last_primary_or_whom_the_sentinels_name(nodes: int) -> None:
    """Over every combination of what the others are, of whom the Sentinels name, and of what this node was."""
    everybody = [Address(f"redis-{number}", 6379) for number in range(1, nodes + 1)]
    sentinels = nodes
    for peers in itertools.product((None, EMPTY, FULL, PRIMARY), repeat=nodes - 1):
        for last in everybody[:2]:
            for named_primary, count in itertools.product(everybody[:3], range(sentinels + 1)):
                found = decide(
                    situation(
                        peers=dict(zip(everybody[1:], peers, strict=True)),
                        last_primary=last,
                        views=named(*[named_primary] * count, epochs=[1] * count),
                        sentinels=sentinels,
                    )
                )
                assert isinstance(found, Start)
                assert found.primary == (named_primary if count > sentinels // 2 else last)


def test_a_majority_is_one_of_all_sentinels_not_of_those_that_answer() -> None:
    assert agreed_primary(named(A, A), 5) is None
    assert agreed_primary(named(A, A, A), 5) == A
    assert agreed_primary([], 3) is None


def test_a_new_sentinel_does_not_count_a_follower_of_backups_as_a_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = tuple(Address(f"redis-{number}", 6379) for number in (1, 2, 3))
    settings = Settings("replicated", nodes[0], nodes, nodes, Path(), Path(), "", "majority", Path())
    backup, replicas = ["10.0.0.9", "0", "7"], [["10.0.0.2", "6379", "7"], ["10.0.0.3", "6379", "7"]]
    answers = [[backup, replicas[0]], [backup, *replicas], None]
    monkeypatch.setattr(sentinel, "POLL_SECONDS", 0)
    monkeypatch.setattr(sentinel, "ask", lambda *_: ["master", 7, answers.pop(0)])
    sentinel._await_replicas(settings, nodes[0])  # noqa: SLF001
    assert answers == [None]
