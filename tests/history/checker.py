"""The seven invariants of a history. Not a proof of linearizability: that is not claimed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise

from history.model import History, Increment, Outcome, State

SHOWN = 5
"""Examples per violation."""


class Verdict(StrEnum):
    """What a check came to; INCONCLUSIVE: the run cannot prove the property."""

    PASS = "PASS"  # noqa: S105
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken invariant, by its number."""

    invariant: int
    text: str


@dataclass(frozen=True, slots=True)
class Result:
    """The verdict with its reasons and figures. Times are seconds."""

    verdict: Verdict
    violations: tuple[Violation, ...]
    doubts: tuple[str, ...]
    ok: int
    failed: int
    indeterminate: int
    lost: int
    doubled: int
    reads: int
    nodes: tuple[str, ...]
    longest_gap: float
    duration: float


def check(
    history: History,
    *,
    state: State | None = None,
    max_gap: float | None = None,
    expect_switch: bool = False,
    expect_log: bool = False,
) -> Result:
    """Check all invariants.

    ``state``: the nodes after healing (invariant 6). ``max_gap``: longest write gap allowed (7). ``expect_switch``:
    the drill broke the primary, so a history in which one node answered all the time proves nothing. ``expect_log``:
    without the ids that the store counted (2), the run proves nothing either.
    """
    operations = by_key(history)
    count = {outcome: sum(one.outcome is outcome for one in operations) for outcome in Outcome}
    violations = [
        *ledger(history, count),
        *logged(history, operations),
        *values(history),
        *order(operations),
        *reads(history, operations),
        *healed(state),
    ]
    gap = longest_gap(history)
    if max_gap is not None and gap > max_gap:
        violations.append(Violation(7, f"for {gap:.2f} s no increment was acknowledged; allowed are {max_gap:g} s"))
    nodes = tuple(sorted({one.node for one in operations if one.node}))
    doubts = []
    if history.final is None:
        doubts.append("the final value is not known")
    if not count[Outcome.OK]:
        doubts.append("nothing was acknowledged")
    if expect_switch and len(nodes) < 2:
        doubts.append(f"no switch of the primary seen: only {', '.join(nodes) or 'no node'} answered")
    if expect_log and history.log is None:
        doubts.append("the store logged no ids: was the app started with COUNTER_HISTORY_LOG=1?")
    if state is not None and len(state.digests) < state.copies:
        known = ", ".join(sorted(state.digests)) or "none"
        doubts.append(f"{state.copies} nodes should have the counter; the digests that are known: {known}")
    grown = (history.final or 0) - history.initial
    verdict = Verdict.FAIL if violations else Verdict.INCONCLUSIVE if doubts else Verdict.PASS
    return Result(
        verdict,
        tuple(violations),
        tuple(doubts),
        count[Outcome.OK],
        count[Outcome.FAILED],
        count[Outcome.INDETERMINATE],
        max(0, count[Outcome.OK] - grown),
        max(0, grown - count[Outcome.OK] - count[Outcome.INDETERMINATE]),
        len(history.reads),
        nodes,
        gap,
        history.ended - history.began,
    )


def by_key(history: History) -> list[Increment]:
    """Merge what was repeated with the same key: from the first request to the first acknowledgement."""
    groups: dict[str, list[Increment]] = defaultdict(list)
    for increment in history.increments:
        groups[increment.key].append(increment)
    merged = []
    for key, group in groups.items():
        start = min(one.start for one in group)
        if acknowledged := [one for one in group if one.outcome is Outcome.OK]:
            first = min(acknowledged, key=lambda one: one.end)
            merged.append(replace(first, start=start))
        else:
            certain = all(one.outcome is Outcome.FAILED for one in group)
            outcome = Outcome.FAILED if certain else Outcome.INDETERMINATE
            end = max(one.end for one in group)
            merged.append(Increment(key, start, end, outcome, keyed=group[0].keyed))
    return merged


def ledger(history: History, count: dict[Outcome, int]) -> Iterator[Violation]:
    """1. ok <= final - initial <= ok + indeterminate."""
    if history.final is None:
        return
    grown, ok = history.final - history.initial, count[Outcome.OK]
    if grown < ok:
        yield Violation(1, f"{ok} increments were acknowledged, the counter grew by {grown}: {ok - grown} lost")
    most = ok + count[Outcome.INDETERMINATE]
    if grown > most:
        yield Violation(1, f"the counter grew by {grown}, at most {most} increments happened: {grown - most} doubled")


def logged(history: History, operations: list[Increment]) -> Iterator[Violation]:
    """2. What the store logged contains all that was acknowledged, only what may have happened, each id once.

    Of increments without a key, the ids are not known, but how many there can be.
    """
    if history.log is None:
        return
    if history.final is not None and history.initial == 0 and len(history.log) != history.final:
        yield Violation(2, f"the log has {len(history.log)} ids, the counter is {history.final}")
    keyed, others = ([one for one in operations if one.keyed is known] for known in (True, False))
    if missing := {one.key for one in keyed if one.outcome is Outcome.OK} - history.log:
        yield Violation(2, f"{len(missing)} acknowledged ids are not in the log: {_some(missing)}")
    invented = history.log - {one.key for one in keyed if one.outcome is not Outcome.FAILED}
    if history.initial == 0 or not others:
        least = sum(one.outcome is Outcome.OK for one in others)
        most = sum(one.outcome is not Outcome.FAILED for one in others)
        if len(invented) < least:
            yield Violation(2, f"{least} increments without a key were acknowledged, the log has {len(invented)} ids")
        if len(invented) > most:
            text = f"{len(invented)} logged ids were never sent or certainly failed: {_some(invented)}"
            yield Violation(2, text + (f"; {most} may be those of increments without a key" if most else ""))


def values(history: History) -> Iterator[Violation]:
    """3. A value belongs to one id, and a repeated id gets the same value again."""
    keys: dict[int, set[str]] = defaultdict(set)
    answers: dict[str, set[int]] = defaultdict(set)
    for one in history.increments:
        if one.value is not None:
            keys[one.value].add(one.key)
            answers[one.key].add(one.value)
    if shared := {value for value, owners in keys.items() if len(owners) > 1}:
        yield Violation(3, f"{len(shared)} values were given to several increments: {_some(shared)}")
    if changed := {key for key, got in answers.items() if len(got) > 1}:
        yield Violation(3, f"{len(changed)} repeated ids got another value: {_some(changed)}")


def order(operations: list[Increment]) -> Iterator[Violation]:
    """4. If the answer to a precedes the request of b, then value(a) < value(b)."""
    acknowledged = [one for one in operations if one.value is not None]
    ended = iter(sorted(acknowledged, key=lambda one: one.end))
    following = next(ended, None)
    highest: Increment | None = None
    overtaken = []
    for one in sorted(acknowledged, key=lambda one: one.start):
        while following is not None and following.end < one.start:
            if highest is None or (following.value or 0) > (highest.value or 0):
                highest = following
            following = next(ended, None)
        if highest is not None and (one.value or 0) <= (highest.value or 0):
            overtaken.append(f"{one.key} got {one.value} after {highest.key} had got {highest.value}")
    if overtaken:
        yield Violation(4, f"{len(overtaken)} values went backwards: {_some(overtaken)}")


def reads(history: History, operations: list[Increment]) -> Iterator[Violation]:
    """5. A read lies between what was acknowledged before it began and what was attempted before it ended."""
    certain = sorted(one.end for one in operations if one.outcome is Outcome.OK)
    highest = sorted((one.end, one.value or 0) for one in operations if one.outcome is Outcome.OK)
    attempted = sorted(one.start for one in operations if one.outcome is not Outcome.FAILED)
    wrong = []
    done = value = begun = 0
    floor: dict[int, int] = {}
    for index, read in sorted(enumerate(history.reads), key=lambda item: item[1].start):
        while done < len(certain) and certain[done] < read.start:
            value = max(value, highest[done][1])
            done += 1
        floor[index] = max(history.initial + done, value)
    for index, read in sorted(enumerate(history.reads), key=lambda item: item[1].end):
        while begun < len(attempted) and attempted[begun] <= read.end:
            begun += 1
        if not floor[index] <= read.value <= history.initial + begun:
            wrong.append(f"read {read.value}, possible were {floor[index]} to {history.initial + begun}")
    if wrong:
        yield Violation(5, f"{len(wrong)} reads were impossible: {_some(wrong)}")


def healed(state: State | None) -> Iterator[Violation]:
    """6. After healing: one primary, equal data, no address where names belong."""
    if state is None:
        return
    if len(state.primaries) != 1:
        yield Violation(6, f"{len(state.primaries)} primaries: {', '.join(state.primaries) or 'none'}")
    if len(set(state.digests.values())) > 1:
        yield Violation(6, f"the nodes hold different data: {state.digests}")
    if state.addresses:
        yield Violation(6, f"addresses in sentinel.conf: {', '.join(state.addresses)}")


def longest_gap(history: History) -> float:
    """7. The longest time in which no increment was acknowledged."""
    moments = sorted(one.end for one in history.increments if one.outcome is Outcome.OK)
    edges = [history.began, *moments, history.ended]
    return max((after - before for before, after in pairwise(edges)), default=0.0)


def _some(things: object) -> str:
    """Return a few examples, in a stable order."""
    found = sorted(things, key=str)  # type: ignore[call-overload]
    return ", ".join(map(str, found[:SHOWN])) + (", ..." if len(found) > SHOWN else "")
