"""What can be restored from a repository: backups and logs, and how restic's snapshots describe them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

PROJECT = "counter-deploy"
FORMAT, LOG_FORMAT = 1, 2
"""The formats of a backup and of a log. A program refuses newer ones."""
MOMENT = "%Y-%m-%dT%H:%M:%SZ"
BACKUP_ID, LOG_ID = "%Y%m%dT%H%M%SZ", "%Y%m%dT%H%M%S.%fZ"
STACK, FORM, ID, COUNTERS, SUM, PROVED, BAD = "stack", "format", "id", "counters", "sum", "proved", "bad"
REPLACED, SAFETY = "replaced", "safety"
SITE, LESS, UNCOMPARED, HOLD = "site", "less", "uncompared", "hold"
LOG, BEGAN, UNTIL = "log", "began", "until"
"""Names of the tags. ``proved``, ``bad`` and ``log`` are also tags without a value, for which restic can be asked.

A proved backup of what a restore replaced has ``safety`` instead of ``proved``, so that it takes the place of no other.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Something in the repository that can be restored. ``size`` in bytes.

    ``site``: the id of the stack's counters, since stacks of two sites can have the same name; an earlier version saved
    none.
    """

    reads: ClassVar[int] = FORMAT
    """The newest format that this program knows."""
    id: str
    stack: str
    site: str
    format: int
    size: int
    snapshot: str

    @property
    def name(self) -> str:
        """The name by which only this backup or log is found."""
        return f"{self.stack}/{self.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Log(Snapshot):
    """All changes from one moment to another. ``id`` is the moment to restore, by default the last one."""

    reads: ClassVar[int] = LOG_FORMAT
    log: str
    began: str
    until: str

    @classmethod
    def read(cls, snapshot: dict[str, Any]) -> Log:
        """Return what a snapshot describes, as restic lists it."""
        tags = _tags(snapshot)
        until = tags.get(UNTIL, "")
        return cls(**_common(snapshot), id=until, log=tags.get(ID, ""), began=tags.get(BEGAN, ""), until=until)

    @property
    def identity(self) -> tuple[str, str]:
        """What all snapshots of it have in common."""
        return self.log, self.stack

    @property
    def changed(self) -> str:
        """When it was last saved, which makes another snapshot of it."""
        return self.until


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved(Snapshot):
    """A backup. ``replaced``: whether a restore made it, of what it replaced.

    ``proved``, ``bad``: when it was last proved or found bad. ``less_than``: the id of an earlier backup that has more
    of a counter, if nobody has confirmed that since. ``uncompared``: the id of an earlier one that could not be read to
    compare it; the next one is compared with that too. ``held``: whether it stays until somebody releases or deletes
    it.
    """

    time: str
    counters: int
    sum: int
    replaced: bool
    held: bool
    less_than: str
    uncompared: str
    proved: str
    bad: str

    @classmethod
    def read(cls, snapshot: dict[str, Any]) -> Saved:
        """Return what a snapshot describes, as restic lists it."""
        tags = _tags(snapshot)
        return cls(
            **_common(snapshot),
            id=tags.get(ID, ""),
            time=snapshot["time"],
            counters=int(tags.get(COUNTERS, "0")),
            sum=int(tags.get(SUM, "0")),
            replaced=REPLACED in tags,
            held=HOLD in tags,
            less_than=tags.get(LESS, ""),
            uncompared=tags.get(UNCOMPARED, ""),
            proved=tags.get(PROVED, ""),
            bad=tags.get(BAD, ""),
        )

    @property
    def identity(self) -> tuple[str, str]:
        """What all snapshots of it have in common."""
        return self.id, self.stack

    @property
    def changed(self) -> str:
        """When it was last proved or found bad, which makes another snapshot of it."""
        return max(self.proved, self.bad)


def next_id(form: str, now: datetime, former: Iterable[str]) -> str:
    """Return an id in the form ``BACKUP_ID`` or ``LOG_ID``: the time, but later than the ids before it.

    They are in the future if the clock was ahead when they were made, and what is saved now would look older.
    """
    step = timedelta(seconds=1) if form == BACKUP_ID else timedelta(microseconds=1)
    times = [now]
    for one in former:
        with suppress(ValueError):  # somebody else wrote it
            times.append(datetime.strptime(one, form).replace(tzinfo=UTC) + step)
    return f"{max(times):{form}}"


def listed(printed: str) -> tuple[list[Saved], list[Log]]:
    """Return the snapshots of backups and of logs among those that ``restic snapshots --json`` prints."""
    own = [snapshot for snapshot in json.loads(printed) if PROJECT in (snapshot.get("tags") or [])]
    logs = [Log.read(snapshot) for snapshot in own if LOG in snapshot["tags"]]
    return [Saved.read(snapshot) for snapshot in own if LOG not in snapshot["tags"]], logs


def newest_snapshots[S: (Saved, Log)](snapshots: Iterable[S]) -> dict[tuple[str, str], S]:
    """Return the newest snapshot of each backup or log."""
    return {one.identity: one for one in sorted(snapshots, key=lambda one: one.changed)}


def ending(log: Log, later: Iterable[Log]) -> Log:
    """Return a log that ends where a later one of its stack begins: what it has after that came from a clock ahead.

    A log that begins before it may come from a clock that was behind, and ends nothing.
    """
    ends = [one.began for one in later if one.stack == log.stack and one.began >= log.began]
    until = min([log.until, *ends])
    return replace(log, id=until, until=until)


def _common(snapshot: dict[str, Any]) -> dict[str, Any]:
    tags = _tags(snapshot)
    return {
        "stack": tags.get(STACK, ""),
        "site": tags.get(SITE, ""),
        "format": int(tags.get(FORM, "0")),
        "size": int(snapshot.get("summary", {}).get("total_bytes_processed", 0)),
        "snapshot": snapshot["id"],
    }


def _tags(snapshot: dict[str, Any]) -> dict[str, str]:
    return dict(tag.partition("=")[::2] for tag in snapshot["tags"] if "=" in tag)
