"""The format of exported and imported counters: a record of name, value and time for each, as CSV or JSON."""

from __future__ import annotations

import csv
import json
import re
import sys
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Any, NamedTuple

from counter.names import NAME_RULE, is_counter_name

GREATEST = 10**15
"""The largest value that may be imported. Scripts in Redis count with doubles, which are exact up to 2**53, so a
counter can grow by eight times as much after that."""
SHOWN = 5
LONGEST = 80
_DIGITS = re.compile(r"[0-9]{1,18}")


class RecordError(ValueError):
    """The text cannot be used; the message says which lines or objects break which rule."""


class Record(NamedTuple):
    """A counter's value and, where it is known, the time at which it was read (RFC 3339)."""

    name: str
    value: int
    time: str = ""


def parse(text: str, form: str) -> list[Record]:
    """Return the records of a text; raises RecordError unless all of it can be used."""
    records: list[Record] = []
    names: set[str] = set()
    wrong: list[str] = []
    rows = _csv_rows if form == "csv" else _json_rows
    for place, row in rows(text.removeprefix("\ufeff")):
        if isinstance(row, str):
            wrong.append(f"{place}: {row}")
        elif row.name in names:
            wrong.append(f"{place}: name={row.name!r}: is in the file more than once")
        else:
            names.add(row.name)
            records.append(row)
    if wrong:
        raise RecordError("; ".join(first_of(wrong)))
    if not records:
        raise RecordError("it has no counters")
    return records


def first_of(texts: Sequence[str]) -> list[str]:
    """Return the first of the texts, and how many more there are."""
    return [*texts[:SHOWN], *([f"and {len(texts) - SHOWN} more"] if texts[SHOWN:] else [])]


def lines_of(records: Sequence[Record], form: str) -> Iterator[str]:
    """Yield the lines of a text with these records. Nothing in them needs quotes."""
    if form == "csv":
        yield f"{','.join(Record._fields)}\n"
        for record in records:
            yield f"{record.name},{record.value},{record.time}\n"
        return
    yield "[\n"
    for number, record in enumerate(records, 1):
        yield f"{json.dumps(record._asdict())}{',' if number < len(records) else ''}\n"
    yield "]\n"


def digest(records: Iterable[Record], mode: str) -> str:
    """Return what identifies an import: the same records in another order or format are the same import."""
    content = blake2b(mode.encode(), digest_size=12)
    for record in sorted(records):
        content.update(json.dumps(record).encode())
    return urlsafe_b64encode(content.digest()).decode()


def _record(row: Mapping[str, Any]) -> Record | str:
    """Return the record that a row describes, or what is wrong with it."""
    for column, value in row.items():
        if rule := _rule(column, value):
            return f"{column}={_short(value)}: {rule}"
    if missing := [column for column in ("name", "value") if column not in row]:
        return f"it has no {missing[0]}"
    # The same time stands in many records, and is stored once.
    return Record(row["name"], row["value"], sys.intern(row.get("time", "")))


def _rule(column: str, value: Any) -> str:
    """Return the rule that a value breaks, empty if none."""
    match column:
        case "name":
            return "" if isinstance(value, str) and is_counter_name(value) else f"must be {NAME_RULE}"
        case "value":
            holds = type(value) is int and 0 <= value <= GREATEST
            return "" if holds else f"must be a whole number from 0 to {GREATEST}"
        case "time":
            holds = isinstance(value, str) and (not value or _is_time(value))
            return "" if holds else "must be empty or a time with its zone, for example 2026-11-26T07:20:00Z"
        case _:
            return f"is not a known column; the columns are {', '.join(Record._fields)}"


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _csv_rows(text: str) -> Iterator[tuple[str, Record | str]]:
    """Yield the place of each row that is not empty, and its record or what is wrong with it."""
    lines = (line[0] for line in re.finditer(r"[^\n]*\n|[^\n]+", text))
    reader = csv.reader(lines, strict=True)
    try:
        columns = next(reader, [])
        if not {"name", "value"} <= set(columns) <= set(Record._fields) or len(columns) != len(set(columns)):
            raise RecordError(f"line 1: {_short(','.join(columns))}: must be name,value or name,value,time")
        for row in reader:
            place = f"line {reader.line_num}"
            if row and len(row) != len(columns):
                yield place, f"{_short(','.join(row))}: must have {len(columns)} columns"
            elif row:
                found: dict[str, Any] = dict(zip(columns, row, strict=True))
                if _DIGITS.fullmatch(found["value"]):
                    found["value"] = int(found["value"])
                yield place, _record(found)
    except csv.Error as error:
        raise RecordError(f"line {reader.line_num}: {error}") from error


def _json_rows(text: str) -> Iterator[tuple[str, Record | str]]:
    """Yield the place of each object, and its record or what is wrong with it."""

    def compact(row: dict[str, Any]) -> Record | dict[str, Any]:
        # Made while the text is read, since records take less memory than objects.
        found = _record(row)
        return found if isinstance(found, Record) else row

    try:
        rows = json.loads(text, object_hook=compact)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"it is not JSON: {error}") from error
    if not isinstance(rows, list):
        raise RecordError("it must be a list of objects with name, value and optionally time")
    for number, row in enumerate(rows, 1):
        place = f"object {number}"
        if isinstance(row, Record):
            yield place, row
        else:
            yield place, _record(row) if isinstance(row, dict) else f"{_short(row)}: must be an object"
