"""``python -m counter.remove``: shows counters, or removes those that still have the values that were shown.

It runs beside a replica of the app, in its container, as ``counter.data`` does.

Standard input: one line, a JSON object. ``counter``: a name, or a pattern with * and ?; ``format``: csv or json (see
``counter.records``). To remove also ``text``: what was shown; ``noted``: whether backups of the counters are compared,
so that the removal must be noted for them.
Standard output: what ``counter.data`` prints for an export, of these counters only; with ``text`` a JSON object, see
``Removed``.
Exit status 1: a part may have been removed; standard error says why. To go on, show what is left, and remove that.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import batched
from typing import Any

from counter.config import Config
from counter.data import export, give_way, read_all
from counter.records import Record, RecordError, first_of, parse
from counter.store import open_route
from counter.store.attempt import Command
from counter.store.keys import COUNTERS, REMOVED_KEY, all_keys, value_key
from counter.store.primaries import BATCH, Primaries
from counter.store.types import UnavailableError

TOGETHER = 20_000
"""For how many counters to look for keys at a time: each look takes Redis a while, and all keys take memory."""
REMOVE = """
local now = redis.call('GET', KEYS[1])
if now and now ~= ARGV[1] then return now end
for _, key in ipairs(KEYS) do redis.call('UNLINK', key) end
return false
"""
"""Remove a counter if it has this value, and return nil; otherwise return the value that it has.

KEYS: the value, and all other keys of the counter. ARGV: the value.
"""


@dataclass(frozen=True, slots=True)
class Removed:
    """What was removed: how many ``counters``, and the ``sum`` of their values. ``stay``: the others, as text."""

    counters: int
    sum: int
    stay: list[str]


def remove(primaries: Primaries, records: Sequence[Record], pattern: str, *, noted: bool) -> Removed:
    """Remove counters, with their ids and whatever else belongs to them, unless they have other values by now.

    Raises:
        UnavailableError: a part may have been removed.

    """
    removed = total = 0
    stay: list[str] = []
    for some in batched(records, TOGETHER):
        # Ids are stored only with a change of the value. So these are all keys of a counter whose value is the same.
        keys: defaultdict[str, set[str]] = defaultdict(set)
        names = {record.name for record in some}
        for key in primaries.keys(all_keys(pattern)):
            if (name := key[1:].partition("}")[0]) in names:
                keys[name].add(key)
        for batch in batched(some, BATCH):
            left = _remove(primaries, batch, keys, noted=noted)
            for record, now in zip(batch, left, strict=True):
                if now is None:
                    removed += 1
                    total += record.value
                else:
                    stay.append(f"{record.name} from {record.value} to {now}")
    return Removed(removed, total, first_of(stay))


def _remove(
    primaries: Primaries, records: Sequence[Record], keys: defaultdict[str, set[str]], *, noted: bool
) -> list[str | None]:
    """Return the values of those that stay, None for the others."""
    names = [record.name for record in records]
    # A client that finds no value adds the name to the list again. So it is taken out before the value is removed.
    primaries.run([("SREM", COUNTERS, *names)])
    commands: list[Command] = []
    for record in records:
        value = value_key(record.name)
        others = sorted(keys[record.name] - {value})
        commands.append(("EVAL", REMOVE, 1 + len(others), value, *others, record.value))
    try:
        # A repeat would remove a counter that was made anew and has the same value.
        left: list[str | None] = primaries.run(commands, repeats=False)
    except UnavailableError:
        left = primaries.run([("GET", value_key(name)) for name in names])
        # Only a counter that was removed and made anew has less.
        gone = [one.name for one, now in zip(records, left, strict=True) if now is None or int(now) < one.value]
        _record(primaries, gone if noted else [], names, left)
        raise
    gone = [name for name, now in zip(names, left, strict=True) if now is None]
    _record(primaries, gone if noted else [], names, left)
    return left


def _record(primaries: Primaries, gone: Sequence[str], names: Sequence[str], left: Sequence[str | None]) -> None:
    """Note for the backups what is gone, once it is, and list what has a value."""
    staying = [name for name, now in zip(names, left, strict=True) if now is not None]
    commands: list[Command] = [("SADD", REMOVED_KEY, *gone)] if gone else []
    primaries.run([*commands, *([("SADD", COUNTERS, *staying)] if staying else [])])


def main() -> int:
    """Show or remove; return the exit status."""
    give_way()
    asked: dict[str, Any] = json.loads(sys.stdin.readline())
    primaries = Primaries(open_route(Config.from_env()))
    try:
        if "text" not in asked:
            # A name in the list counts, even if its replica of the app ended before the first increment.
            listed = primaries.listed(asked["counter"])
            export(read_all(primaries, asked["counter"], listed), asked["format"])
            return 0
        records = parse(asked.pop("text"), asked["format"])
        done = remove(primaries, records, asked["counter"], noted=asked["noted"])
    except (RecordError, UnavailableError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    json.dump(asdict(done), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
