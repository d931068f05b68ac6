"""What a Redis node holds, key by key: read from one node, written to another, or as lines of JSON in a file."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import batched
from typing import Any

from redis import Redis

from counter.records import first_of
from counter.store.attempt import Command
from counter.store.keys import BACKUP_KEY, PROBE_KEY, PROOF_SUFFIX, counter_of
from counter.store.primaries import BATCH

READ = 50
"""How many values to read at a time."""
WEIGHT = 20_000
"""How many texts, members and fields to hold at a time, if no single key has more. A hash of ids can have thousands."""
_NOTES = {BACKUP_KEY, PROBE_KEY}
_KINDS = {"string", "set", "hash", "none"}


class EntryError(Exception):
    """A node holds something that this project does not store, or was not copied; the text says which keys."""


type Value = str | frozenset[str] | dict[str, str]
type Run = Callable[[Sequence[Command]], Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Entry:
    """One key: its text, members or fields, and the time that it has left in milliseconds (None: it stays)."""

    key: str
    value: Value
    left: int | None

    @property
    def counter(self) -> str:
        """The counter whose value this is; empty for other keys."""
        return counter_of(self.key) if isinstance(self.value, str) else ""

    @property
    def weight(self) -> int:
        """How many texts, members or fields it has."""
        return 1 if isinstance(self.value, str) else len(self.value)


def read(source: Redis) -> Iterator[list[Entry]]:
    """Yield what a node holds, except what expires meanwhile, probes and the note of the backup; raises EntryError.

    The node must not be written to meanwhile.
    """
    for keys in batched(source.scan_iter(count=BATCH), BATCH):
        facts = source.pipeline(transaction=False)
        for key in keys:
            facts.type(key)
            facts.pttl(key)
        answers = facts.execute()
        kinds = dict(zip(keys, answers[::2], strict=True))
        left_of = dict(zip(keys, answers[1::2], strict=True))
        if strange := [
            f"{key} is a {kind}"
            for key, kind in kinds.items()
            if kind not in _KINDS or (kind == "hash" and left_of[key] == -1)  # ids are stored in hashes, which expire
        ]:
            raise EntryError(f"Redis holds keys that this project does not store: {some(strange)}")
        wanted = [key for key in keys if key not in _NOTES and not key.endswith(PROOF_SUFFIX)]
        found: list[Entry] = []
        for some_keys in batched(wanted, READ):
            values = source.pipeline(transaction=False)
            for key in some_keys:
                match kinds[key]:
                    case "set":
                        values.smembers(key)
                    case "hash":
                        values.hgetall(key)
                    case _:
                        values.get(key)
            found += [
                Entry(
                    key,
                    frozenset(value) if isinstance(value, set) else value,
                    None if left_of[key] == -1 else left_of[key],
                )
                for key, value in zip(some_keys, values.execute(), strict=True)
                if value and (left_of[key] == -1 or left_of[key] > 0)
            ]
            if sum(entry.weight for entry in found) > WEIGHT:
                yield found
                found = []
        yield found


def copy(source: Callable[[], Iterable[list[Entry]]], run: Run, *, whole: bool = False) -> tuple[int, dict[str, int]]:
    """Write entries where their keys do not exist, then read the source and the copy again and compare.

    Returns how many keys were copied, and the counters among them. ``run`` runs commands and returns their replies.
    ``whole``: what expires is compared too, unless it has expired. Raises EntryError if the copy has another value.
    """
    keys = 0
    counters: dict[str, int] = {}
    for entries in source():
        run([command for entry in entries for command in _commands(entry)])
        keys += len(entries)
        counters |= {entry.counter: int(str(entry.value)) for entry in entries if entry.counter}
    for entries in source():
        wanted = [entry for entry in entries if whole or entry.left is None]
        replies = run([_question(entry) for entry in wanted])
        found = [frozenset(reply) if isinstance(reply, (list, set)) else reply for reply in replies]
        if wrong := [
            entry.key
            for entry, value in zip(wanted, found, strict=True)
            if value != entry.value and (value or entry.left is None)
        ]:
            raise EntryError(f"these keys have other values than were written: {some(wrong)}")
    return keys, counters


def _commands(entry: Entry) -> Iterator[Command]:
    if isinstance(entry.value, str):
        yield ("SET", entry.key, entry.value, *(() if entry.left is None else ("PX", entry.left)))
        return
    if isinstance(entry.value, dict):
        for fields in batched(entry.value.items(), BATCH):
            yield ("HSET", entry.key, *(text for field in fields for text in field))
    else:
        for members in batched(sorted(entry.value), BATCH):
            yield ("SADD", entry.key, *members)
    if entry.left is not None:
        yield ("PEXPIRE", entry.key, entry.left)


def to_line(entry: Entry, now: float) -> str:
    """Return a line of JSON: key, value (a set as a list), and when it expires (ms since the epoch; null: never)."""
    value = sorted(entry.value) if isinstance(entry.value, frozenset) else entry.value
    expires = None if entry.left is None else int(now * 1000) + entry.left
    return json.dumps([entry.key, value, expires], separators=(",", ":"), ensure_ascii=False, sort_keys=True) + "\n"


def of_lines(lines: Iterable[str]) -> Iterator[list[Entry]]:
    """Yield the entries of such lines, without those that have expired."""
    found: list[Entry] = []
    weight = 0
    for line in lines:
        key, value, expires = json.loads(line)
        left = None if expires is None else expires - int(time.time() * 1000)
        if left is not None and left <= 0:
            continue
        found.append(Entry(key, frozenset(value) if isinstance(value, list) else value, left))
        weight += found[-1].weight
        if len(found) == BATCH or weight > WEIGHT:
            yield found
            found, weight = [], 0
    yield found


def _question(entry: Entry) -> Command:
    if isinstance(entry.value, str):
        return ("GET", entry.key)
    return ("HGETALL" if isinstance(entry.value, dict) else "SMEMBERS", entry.key)


def some(things: Sequence[str]) -> str:
    """Return the first of some things, and how many more there are."""
    return ", ".join(first_of(things))
