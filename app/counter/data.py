"""``python -m counter.data export|import``: shows all counters, or changes those of a file.

It runs beside a replica of the app, in its container, and finds Redis by the same ``COUNTER_*``. What it reads and
writes is confirmed by replicas, as increments are.

Standard input: one line, a JSON object. ``format``: csv or json (see ``counter.records``). For an import also
``text``: the file; ``mode``: add, max or set; ``lower``: whether ``set`` may lower a counter; ``dry``: only say what
would change.
Standard output: for an export, a line with a JSON object, ``counters`` and their ``sum``, and then the file; for an
import a JSON object, see ``Imported``.
Exit status: 1 if nothing was changed, 2 if a part may have been changed; standard error says why. If an import was
interrupted, run it again: it completes the work, and changes no counter twice.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import batched
from pathlib import Path
from typing import Any

from counter.config import Config
from counter.records import GREATEST, Record, RecordError, digest, first_of, lines_of, parse
from counter.store import open_route
from counter.store.attempt import Command
from counter.store.keys import COUNTERS, imports_key, value_key
from counter.store.primaries import BATCH, Primaries
from counter.store.types import UnavailableError

CHANGE = """
local mark, mode, value, lower = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1'
local now = redis.call('GET', KEYS[1]) or '0'
local lowers = tonumber(value) < tonumber(now)
if mode == 'set' and lowers and not lower then
  for _, done in ipairs(redis.call('SMEMBERS', KEYS[2])) do
    if done == mark then return now end
  end
  return false
end
if redis.call('SADD', KEYS[2], mark) == 0 then return now end
if mode == 'add' then
  redis.call('INCRBY', KEYS[1], value)
elseif mode == 'set' or not lowers then
  redis.call('SET', KEYS[1], value)
end
return redis.call('GET', KEYS[1]) or '0'
"""
"""Change a counter once for each import, and return its value; nil if that would lower it, which must be allowed.

KEYS: the value, the imports. ARGV: the import's digest, the mode, the value of the file, 1 to allow lowering.
"""


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import changed or would change.

    ``counters``: how many the file has; ``changed``: how many of them changed; ``before``: how many an earlier run of
    this import had changed; ``sum``: the sum of their values then; ``lowers``: those that ``set`` may not lower, as
    text; ``applied``: whether the others were changed.
    """

    counters: int
    changed: int
    before: int
    sum: int
    lowers: list[str]
    applied: bool


class DataError(Exception):
    """The import cannot be made; nothing was changed. The text says which counter forbids it."""


@dataclass(frozen=True, slots=True)
class Step:
    """What an import does to one counter: its value now, the value that it gets, and whether that was done before."""

    record: Record
    now: int
    then: int
    done: bool


def read_all(primaries: Primaries, pattern: str = "*", others: Collection[str] = ()) -> list[Record]:
    """Return the counters whose names match a pattern of Redis, and others, sorted by name; raises UnavailableError.

    Each has the time before the first was read.
    """
    time = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    records: list[Record] = []
    for batch in batched(sorted(primaries.names(pattern).union(others)), BATCH):
        values = primaries.run([("GET", value_key(name)) for name in batch])
        records += [Record(name, int(value or 0), time) for name, value in zip(batch, values, strict=True)]
    return records


def export(counters: Sequence[Record], form: str) -> None:
    """Print counters as a file, after their number and sum."""
    summary = {"counters": len(counters), "sum": sum(record.value for record in counters)}
    sys.stdout.write(json.dumps(summary) + "\n")
    sys.stdout.writelines(lines_of(counters, form))


class Import:
    """The records of a file, to be added to counters (``add``) or to replace smaller (``max``) or all (``set``) values.

    ``lower``: whether ``set`` may lower a counter.
    """

    def __init__(self, primaries: Primaries, records: Sequence[Record], mode: str, *, lower: bool = False) -> None:
        """Take where the counters are, and what to do."""
        self._primaries = primaries
        self._records = records
        self._mode = mode
        self._mark = digest(records, mode)
        self._lower = lower

    def check(self) -> Imported:
        """Return what would change, and change nothing.

        Raises:
            DataError: a sum would be too large.
            UnavailableError: not all counters could be read.

        """
        changed = before = total = 0
        lowers: list[Step] = []
        for batch in batched(self._records, BATCH):
            for step in self._steps(batch):
                if step.then > max(GREATEST, step.now):
                    raise DataError(f"{step.record.name}: {step.now} and {step.record.value} are more than {GREATEST}")
                changed += step.then != step.now
                before += step.done
                total += step.then
                if step.then < step.now and not self._lower:
                    lowers.append(step)
        return Imported(len(self._records), changed, before, total, _in_words(lowers), applied=False)

    def apply(self) -> Imported:
        """Change each counter that this import has not changed yet.

        Raises:
            UnavailableError: a part may have been changed.

        """
        changed = before = total = 0
        lowers: list[Step] = []
        for batch in batched(self._records, BATCH):
            steps = self._steps(batch)
            # Listed first: a counter that has a value is always listed. One that is listed too early has the value 0.
            self._primaries.run([("SADD", COUNTERS, *(step.record.name for step in steps))])
            replies = self._primaries.run([self._change(step.record) for step in steps])
            for step, reply in zip(steps, replies, strict=True):
                if reply is None:  # clients counted on it meanwhile
                    (value,) = self._primaries.run([("GET", value_key(step.record.name))])
                    lowers.append(replace(step, now=int(value)))
                    total += int(value)
                else:
                    changed += step.then != step.now
                    before += step.done
                    total += int(reply)
        return Imported(len(self._records), changed, before, total, _in_words(lowers), applied=True)

    def _steps(self, batch: Sequence[Record]) -> list[Step]:
        values = self._primaries.run([("GET", value_key(record.name)) for record in batch])
        marks = self._primaries.run([("SMEMBERS", imports_key(record.name)) for record in batch])
        steps = []
        for record, value, found in zip(batch, values, marks, strict=True):
            now = int(value or 0)
            then = {"add": now + record.value, "max": max(now, record.value), "set": record.value}[self._mode]
            done = self._mark in found
            steps.append(Step(record, now, now if done else then, done))
        return steps

    def _change(self, record: Record) -> Command:
        keys = value_key(record.name), imports_key(record.name)
        return ("EVAL", CHANGE, 2, *keys, self._mark, self._mode, record.value, int(self._lower))


def _in_words(steps: Sequence[Step]) -> list[str]:
    return first_of([f"{step.record.name} from {step.now} to {step.record.value}" for step in steps])


def give_way() -> None:
    """Leave CPU and memory to the counters: if memory runs out, this process ends, and not a replica or a node."""
    os.nice(10)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def main(arguments: Sequence[str]) -> int:
    """Export or import; return the exit status."""
    give_way()
    asked: dict[str, Any] = json.loads(sys.stdin.readline())
    primaries = Primaries(open_route(Config.from_env()))
    begun = False
    try:
        if arguments[0] == "export":
            export(read_all(primaries), asked["format"])
            return 0
        records = parse(asked.pop("text"), asked["format"])
        request = Import(primaries, records, asked["mode"], lower=asked["lower"])
        done = request.check()
        if not (done.lowers or asked["dry"]):
            begun = True
            done = request.apply()
    except (DataError, RecordError, UnavailableError) as error:
        sys.stderr.write(f"{error}\n")
        return 2 if begun else 1
    json.dump(asdict(done), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
