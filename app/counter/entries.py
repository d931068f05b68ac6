"""What a Redis node holds, key by key: read from one node, written to another, or as lines of JSON in a file."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import batched

from redis import Redis

from counter.store.keys import BACKUP_KEY, PROBE_KEY, PROOF_SUFFIX, value_key
from counter.store.operation import Command
from counter.store.primaries import BATCH

SHOWN = 5
_VALUE = value_key("*").partition("*")[2]
_NOTES = {BACKUP_KEY, PROBE_KEY}
_KINDS = {"string", "set", "hash", "none"}


class EntryError(Exception):
    """A node holds something that this project does not store; the text says which keys."""


type Value = str | frozenset[str] | dict[str, str]


@dataclass(frozen=True, slots=True)
class Entry:
    """One key: its text, members or fields, and the time that it has left in milliseconds (None: it stays)."""

    key: str
    value: Value
    left: int | None

    @property
    def counter(self) -> str:
        """The counter whose value this is; empty for other keys."""
        is_value = self.key.endswith(_VALUE) and isinstance(self.value, str)
        return self.key.removesuffix(_VALUE).removeprefix("{") if is_value else ""


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
            raise EntryError(f"no counter has such keys: {some(strange)}")
        values = source.pipeline(transaction=False)
        for key in keys:
            match kinds[key]:
                case "set":
                    values.smembers(key)
                case "hash":
                    values.hgetall(key)
                case _:
                    values.get(key)
        yield [
            Entry(key, frozenset(value) if isinstance(value, set) else value, None if left == -1 else left)
            for key, left, value in zip(keys, answers[1::2], values.execute(), strict=True)
            if value and (left == -1 or left > 0) and key not in _NOTES and not key.endswith(PROOF_SUFFIX)
        ]


def commands_of(entry: Entry) -> Iterator[Command]:
    """Yield the commands that write an entry where its key does not exist."""
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
    for batch in batched(lines, BATCH):
        now = int(time.time() * 1000)
        found = (json.loads(line) for line in batch)
        yield [
            Entry(
                key, frozenset(value) if isinstance(value, list) else value, None if expires is None else expires - now
            )
            for key, value, expires in found
            if expires is None or expires > now
        ]


def some(things: Sequence[str]) -> str:
    """Return the first of some things, and how many more there are."""
    return ", ".join(things[:SHOWN]) + (f", and {len(things) - SHOWN} more" if len(things) > SHOWN else "")
