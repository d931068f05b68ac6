"""The checker passes every history that a correct counter can produce, and fails each kind of wrong one."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from history.__main__ import main
from history.checker import Verdict, check
from history.model import History, HistoryError, Increment, Outcome, Read, State, assemble, load
from hypothesis import assume, given
from hypothesis import strategies as st

MOMENT = st.floats(0, 100, allow_nan=False)


@dataclass(frozen=True)
class Planned:
    """An operation whose effect happens at ``point``, between its request and its answer."""

    start: float
    point: float
    end: float
    outcome: Outcome
    applied: bool
    read: bool


@st.composite
def planned(draw: st.DrawFn) -> Planned:
    start, point, end = sorted(draw(st.tuples(MOMENT, MOMENT, MOMENT)))
    outcome = draw(st.sampled_from([Outcome.OK, Outcome.OK, Outcome.OK, Outcome.INDETERMINATE, Outcome.FAILED]))
    applied = outcome is Outcome.OK or (outcome is Outcome.INDETERMINATE and draw(st.booleans()))
    return Planned(start, point, end, outcome, applied, draw(st.booleans()) and outcome is Outcome.OK)


@st.composite
def correct(draw: st.DrawFn, least: int = 0) -> History:
    """Draw what clients see of a counter that does what it should, with any overlap of operations."""
    initial = draw(st.sampled_from([0, 0, 41]))
    operations = draw(st.lists(planned(), min_size=least, max_size=30))
    value, log = initial, set()
    increments: list[Increment] = []
    reads: list[Read] = []
    for number, one in sorted(enumerate(operations), key=lambda item: item[1].point):
        if one.read:
            reads.append(Read(one.start, one.end, value))
            continue
        key = f"k{number}"
        if one.applied:
            value += 1
            log.add(key)
        answer = value if one.outcome is Outcome.OK else None
        increments.append(Increment(key, one.start, one.end, one.outcome, answer, "redis-1"))
        if answer is not None and draw(st.booleans()):  # repeated afterwards: the same answer
            increments.append(Increment(key, one.end, one.end + 1, Outcome.OK, answer, "redis-2"))
    order = draw(st.permutations(increments))
    return History("c", initial, value, tuple(order), tuple(reads), 0.0, 101.0, frozenset(log))


def violated(history: History) -> set[int]:
    return {violation.invariant for violation in check(history).violations}


def acknowledged(history: History) -> list[Increment]:
    found = {one.key: one for one in history.increments if one.outcome is Outcome.OK}
    assume(found)
    return sorted(found.values(), key=lambda one: one.value or 0)


@given(correct())
def test_a_correct_history_passes(history: History) -> None:
    result = check(history)
    assert not result.violations
    assert (result.lost, result.doubled) == (0, 0)
    assert result.verdict is (Verdict.PASS if result.ok else Verdict.INCONCLUSIVE)


@given(correct(), st.integers(1, 5))
def test_1_a_lost_increment_is_found(history: History, lost: int) -> None:
    result = check(history)
    slack = (history.final or 0) - history.initial - result.ok  # indeterminate ones that were applied may hide it
    broken = check(replace(history, final=(history.final or 0) - slack - lost, log=None))
    assert 1 in {violation.invariant for violation in broken.violations}
    assert broken.lost == lost


@given(correct(), st.integers(1, 5))
def test_1_a_doubled_increment_is_found(history: History, doubled: int) -> None:
    result = check(history)
    slack = result.ok + result.indeterminate - ((history.final or 0) - history.initial)
    broken = check(replace(history, final=(history.final or 0) + slack + doubled, log=None))
    assert 1 in {violation.invariant for violation in broken.violations}
    assert broken.doubled == doubled


@given(correct(1))
def test_2_a_log_without_an_acknowledged_id_is_found(history: History) -> None:
    missing = acknowledged(history)[0].key
    assert 2 in violated(replace(history, log=(history.log or frozenset()) - {missing}))


@given(correct())
def test_2_a_log_with_an_invented_or_a_failed_id_is_found(history: History) -> None:
    log = history.log or frozenset()
    assert 2 in violated(replace(history, log=log | {"invented"}))
    failed = [one.key for one in history.increments if one.outcome is Outcome.FAILED]
    assume(failed)
    assert 2 in violated(replace(history, log=log | {failed[0]}))


@given(correct())
def test_2_a_log_of_another_size_than_the_counter_is_found(history: History) -> None:
    assume(history.initial == 0)
    assert 2 in violated(replace(history, final=(history.final or 0) + 1))


@given(correct(2))
def test_3_a_value_given_twice_is_found(history: History) -> None:
    first, *others = acknowledged(history)
    assume(others)
    changed = replace(others[0], value=first.value)
    assert 3 in violated(replace(history, increments=(*history.increments, changed)))


@given(correct(1))
def test_3_another_answer_for_a_repeated_id_is_found(history: History) -> None:
    first = acknowledged(history)[0]
    repeated = replace(first, start=first.end, end=first.end + 1, value=(first.value or 0) + 1000)
    assert 3 in violated(replace(history, increments=(*history.increments, repeated)))


@given(correct(2))
def test_4_a_value_that_goes_backwards_is_found(history: History) -> None:
    late = Increment("late", 200.0, 201.0, Outcome.OK, acknowledged(history)[-1].value)
    assert 4 in violated(replace(history, increments=(*history.increments, late)))


@given(correct(1), st.booleans())
def test_5_an_impossible_read_is_found(history: History, low: bool) -> None:  # noqa: FBT001
    highest = acknowledged(history)[-1].value or 0
    attempted = len({one.key for one in history.increments if one.outcome is not Outcome.FAILED})
    value = highest - 1 if low else history.initial + attempted + 1
    read = Read(300.0, 301.0, value)
    assert 5 in violated(replace(history, reads=(*history.reads, read)))


def test_6_the_state_after_healing_is_judged() -> None:
    history = History("c", 0, 1, (Increment("k", 0, 1, Outcome.OK, 1, "redis-1"),), (), 0, 1)
    good = State(("redis-1",), {"redis-1": "d", "redis-2": "d"})
    assert check(history, state=good).verdict is Verdict.PASS
    for bad in (
        replace(good, primaries=()),
        replace(good, primaries=("redis-1", "redis-2")),
        replace(good, digests={"redis-1": "d", "redis-2": "e"}),
        replace(good, addresses=("10.0.1.5",)),
    ):
        result = check(history, state=bad)
        assert [violation.invariant for violation in result.violations] == [6]


def test_a_log_or_a_digest_that_is_missing_is_inconclusive() -> None:
    history = History("c", 0, 1, (Increment("k", 0, 1, Outcome.OK, 1, "redis-1"),), (), 0, 1, frozenset({"k"}))
    assert check(history, expect_log=True).verdict is Verdict.PASS
    result = check(replace(history, log=None), expect_log=True)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "COUNTER_HISTORY_LOG" in result.doubts[0]
    alike = {"redis-1": "d", "redis-2": "d"}
    assert check(history, state=State(("redis-1",), alike, copies=2)).verdict is Verdict.PASS
    assert check(history, state=State(("redis-1",), alike, copies=3)).verdict is Verdict.INCONCLUSIVE
    assert check(history, state=State(("redis-1",))).verdict is Verdict.INCONCLUSIVE


def test_ids_that_the_store_made_are_compared_by_their_number() -> None:
    made = History("c", 0, 1, (Increment("k", 0, 1, Outcome.OK, 1),), (), 0, 1, frozenset({"made"}), keyed=False)
    assert check(made, expect_log=True).verdict is Verdict.PASS
    assert check(replace(made, keyed=True)).verdict is Verdict.FAIL
    assert [one.invariant for one in check(replace(made, log=frozenset({"made", "too"}))).violations] == [2]


def test_7_the_write_gap_is_measured_from_begin_to_end() -> None:
    increments = tuple(Increment(f"k{t}", t - 0.1, t, Outcome.OK, t) for t in (1, 2, 5, 6))
    history = History("c", 0, 6, increments, (), 0, 6.5)
    assert check(history).longest_gap == 3
    assert {violation.invariant for violation in check(history, max_gap=2.9).violations} >= {7}
    assert 7 not in {violation.invariant for violation in check(history, max_gap=3).violations}
    assert check(replace(history, ended=20)).longest_gap == 14


def test_a_run_without_the_fault_is_inconclusive() -> None:
    history = History("c", 0, 1, (Increment("k", 0, 1, Outcome.OK, 1, "redis-1"),), (), 0, 1)
    assert check(history).verdict is Verdict.PASS
    assert check(history, expect_switch=True).verdict is Verdict.INCONCLUSIVE
    moved = replace(history, final=2, increments=(*history.increments, Increment("l", 1, 2, Outcome.OK, 2, "redis-2")))
    assert check(moved, expect_switch=True).verdict is Verdict.PASS
    assert check(replace(history, final=None)).verdict is Verdict.INCONCLUSIVE


EVENTS = [
    {"event": "begin", "time": 0.0, "counter": "c", "initial": 0},
    {"event": "invoke", "time": 1.0, "id": 1, "kind": "increment", "key": "a"},
    {"event": "invoke", "time": 1.5, "id": 2, "kind": "increment", "key": "b"},
    {"event": "complete", "time": 2.0, "id": 1, "outcome": "ok", "value": 1, "node": "redis-1"},
    {"event": "invoke", "time": 3.0, "id": 3, "kind": "read"},
    {"event": "complete", "time": 4.0, "id": 3, "outcome": "ok", "value": 2},
    {"event": "end", "time": 5.0, "final": 2},
]


def test_an_invocation_without_completion_is_indeterminate() -> None:
    history = assemble(EVENTS)
    assert {one.key: one.outcome for one in history.increments} == {"a": Outcome.OK, "b": Outcome.INDETERMINATE}
    assert check(history).verdict is Verdict.PASS


def test_the_command_says_the_verdict_by_its_exit_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def written(name: str, events: list[dict[str, object]], tail: str = "") -> str:
        path = tmp_path / name
        path.write_text("".join(json.dumps(event) + "\n" for event in events) + tail)
        return str(path)

    good = written("good", EVENTS)
    bad = written("bad", [*EVENTS[:-1], {"event": "end", "time": 5.0, "final": 0}])
    torn = written("torn", EVENTS[:-1], '{"event": "inv')
    assert main(["check", good]) == 0
    assert main(["check", good, bad]) == 1
    assert "lost" in capsys.readouterr().out
    assert main(["check", torn]) == 2
    assert main(["check", good, "--expect-switch"]) == 2
    ids = tmp_path / "ids"
    ids.write_text("a\nb\n")
    assert main(["check", good, "--log", str(ids)]) == 0
    ids.write_text("b\n")
    assert main(["check", good, "--log", str(ids)]) == 1
    ids.write_text("")
    assert main(["check", good, "--log", str(ids)]) == 2
    assert main(["check", str(tmp_path / "none")]) == 64
    with pytest.raises(HistoryError, match="line 1"):
        load(Path(written("empty", [], "nonsense\n")))
