"""What a history consists of, and the file it is kept in.

The file has one JSON object per line, written before the event it announces can have an effect: an ``invoke`` without
its ``complete`` is an operation whose outcome is unknown. Times are seconds of one monotonic clock.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any


class Outcome(StrEnum):
    """How an operation ended, for the client."""

    OK = "ok"
    """Acknowledged."""
    FAILED = "failed"
    """Certainly not applied."""
    INDETERMINATE = "indeterminate"
    """Applied or not."""


@dataclass(frozen=True, slots=True)
class Increment:
    """One logical increment: all attempts with its key, from the first request to the last answer."""

    key: str
    start: float
    end: float
    outcome: Outcome
    value: int | None = None
    node: str = ""
    keyed: bool = True
    """The client gave it the key. Otherwise the application made its id, which the client does not know."""


@dataclass(frozen=True, slots=True)
class Read:
    """One read that was answered."""

    start: float
    end: float
    value: int


@dataclass(frozen=True, slots=True)
class History:
    """A run against one counter. ``initial`` and ``final`` are read while no client counts."""

    counter: str
    initial: int
    final: int | None
    increments: tuple[Increment, ...]
    reads: tuple[Read, ...] = ()
    began: float = 0.0
    ended: float = 0.0
    log: frozenset[str] | None = None
    """The ids that the store says it counted (``{counter}:log``), in test mode; None: unknown."""


@dataclass(frozen=True, slots=True)
class State:
    """The Redis nodes after healing, where the drill could look at them."""

    primaries: tuple[str, ...]
    digests: dict[str, str] = field(default_factory=dict)
    """Node -> a digest of what it has of the counter."""
    copies: int = 1
    """How many nodes should have the counter."""
    addresses: tuple[str, ...] = ()
    """Addresses found in a sentinel.conf, which should hold names only."""


class HistoryError(ValueError):
    """The file is not a history."""


def load(path: Path) -> History:
    """Read a recorded file.

    Raises:
        HistoryError: a line is not an event; the text names file and line.

    """
    events: list[dict[str, Any]] = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                event = json.loads(line)
                event["event"], event["time"]  # every event has both
            except (ValueError, KeyError, TypeError) as error:
                if number > 1 and not line.endswith("\n"):
                    break  # the recorder was killed while it wrote
                raise HistoryError(f"{path}, line {number}: not an event: {error}") from error
            events.append(event)
    if not events or events[0]["event"] != "begin":
        raise HistoryError(f"{path}: the first line must be a 'begin' event")
    return assemble(events)


def assemble(events: Iterable[dict[str, Any]]) -> History:
    """Pair invocations with completions."""
    begin: dict[str, Any] = {}
    final, last = None, 0.0
    open_: dict[int, dict[str, Any]] = {}
    increments: list[Increment] = []
    reads: list[Read] = []
    for event in events:
        last = event["time"]
        match event["event"]:
            case "begin":
                begin = event
            case "end":
                final = event["final"]
            case "invoke":
                open_[event["id"]] = event
            case "complete":
                invoked = open_.pop(event["id"])
                if invoked["kind"] == "increment":
                    outcome, value = Outcome(event["outcome"]), event.get("value")
                    node = event.get("node", "")
                    keyed = invoked.get("keyed", True)
                    increments.append(Increment(invoked["key"], invoked["time"], last, outcome, value, node, keyed))
                elif event["outcome"] == Outcome.OK:
                    reads.append(Read(invoked["time"], last, event["value"]))
    increments += [
        Increment(event["key"], event["time"], float("inf"), Outcome.INDETERMINATE, keyed=event.get("keyed", True))
        for event in open_.values()
        if event["kind"] == "increment"
    ]
    return History(
        begin["counter"],
        begin["initial"],
        final,
        tuple(increments),
        tuple(reads),
        begin["time"],
        last,
    )
