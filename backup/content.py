"""The files of a backup in a directory: what the nodes held, the state of the stack, and a manifest of both."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from redis import Redis
from redis.crc import key_slot

from backup.errors import BackupError, BadBackupError
from backup.spare import spare_redis
from counter.entries import Entry, EntryError, copy, of_lines, read, some, to_line
from counter.store.attempt import Command

MANIFEST = "manifest.json"
STATE = "state"
HOST_ONLY = ("redis-secrets", "step.yml")
"""What belongs to a host or a run."""
STATE_ATTEMPTS = 3
SHOWN_BYTES = 1 << 20
"""The largest file of the state that a restore is told of. The stack's own files are smaller."""
STATE_DOCUMENTS = ("releases.json", "restore.json", "maintenance.json", "redis/redis.json", "redis/certificates.json")
RESERVE_BYTES = 64 << 20


@dataclass(slots=True)
class Manifest:
    """What a backup holds. ``parts``: file -> its SHA-256. ``began`` and ``ended`` of the reading, in UTC (RFC 3339).

    What was acknowledged before ``began`` is in it. Each counter is as of a moment between the two.
    """

    stack: str
    version: str
    topology: str
    began: str
    ended: str = ""
    counters: int = 0
    sum: int = 0
    keys: int = 0
    parts: dict[str, str] = field(default_factory=dict)


def is_unfinished(state: Path) -> bool:
    """Return whether the state directory says that a restore is unfinished (roles/backup)."""
    path = state / "restore.json"
    return path.exists() and json.loads(path.read_text()) != {}


@dataclass(slots=True)
class Held:
    """What a Redis was found to hold: its counters, and the slots of its keys."""

    counters: dict[str, int] = field(default_factory=dict)
    slots: set[int] = field(default_factory=set)

    def add(self, entries: list[Entry]) -> None:
        """Add the counters and the slots of some entries."""
        self.counters |= {entry.counter: int(str(entry.value)) for entry in entries if entry.counter}
        self.slots |= {key_slot(entry.key.encode()) for entry in entries}


@dataclass(frozen=True, slots=True)
class Content:
    """A directory that holds a backup or is going to."""

    directory: Path

    def add_parts(self, copies: Iterable[Path], manifest: Manifest) -> dict[str, int]:
        """Write what the copies of all primaries hold; return the counters.

        Raises:
            BackupError: a slot is in two of them.

        """
        held = Held()
        for number, dump in enumerate(copies, 1):
            part = self._add_part(number, dump, manifest)
            if part.slots & held.slots:
                raise BackupError("two primaries hold keys of the same slot, because it is moving between them")
            held.slots |= part.slots
            held.counters |= part.counters
        manifest.counters, manifest.sum = len(held.counters), sum(held.counters.values())
        return held.counters

    def _add_part(self, number: int, dump: Path, manifest: Manifest) -> Held:
        """Write what a dump of a Redis holds as lines of JSON; return it."""
        name = f"data-{number}.jsonl"
        held = Held()
        with spare_redis(dump) as redis, (self.directory / name).open("w", encoding="utf-8") as file:
            for entries in read(redis):
                now = time.time()
                file.writelines(to_line(entry, now) for entry in entries)
                held.add(entries)
                manifest.keys += len(entries)
        manifest.parts[name] = _digest(self.directory / name)
        return held

    def add_state(self, state: Path) -> None:
        """Copy the state directory of the stack; raises BackupError if it is not there, or not what a restore needs."""
        for attempt in range(1, STATE_ATTEMPTS + 1):
            shutil.rmtree(self.directory / STATE, ignore_errors=True)
            try:
                shutil.copytree(state, self.directory / STATE, ignore=shutil.ignore_patterns(*HOST_ONLY))
                self.files()
            except (BadBackupError, OSError) as error:  # a deployment may be writing it
                if attempt == STATE_ATTEMPTS:
                    raise BackupError(f"the state of the stack cannot be saved: {error}") from error
                time.sleep(1)
            else:
                return

    def files(self) -> dict[str, str]:
        """Return the texts of the state directory, which is all that a restore needs besides the parts.

        Raises:
            BadBackupError: one that the project writes is missing or damaged.

        """
        below, texts = self.directory / STATE, {}
        for path in sorted(below.rglob("*")):
            if path.is_file() and path.stat().st_size <= SHOWN_BYTES:
                # The project writes text only, so replaced bytes belong to files of somebody else.
                texts[str(path.relative_to(below))] = path.read_text("utf-8", "replace")
        try:
            for name in {"deployed.json", *(name for name in STATE_DOCUMENTS if name in texts)}:
                json.loads(texts[name])
        except (KeyError, ValueError) as error:
            raise BadBackupError(f"the state of the stack has no usable {name}: {error}") from error
        return texts

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest."""
        (self.directory / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1) + "\n", "utf-8")

    def manifest(self) -> Manifest:
        """Return the manifest, after comparing the parts with it; raises BadBackupError."""
        try:
            manifest = Manifest(**json.loads((self.directory / MANIFEST).read_text("utf-8")))
            found = {name: _digest(self.directory / name) for name in manifest.parts}
        except (FileNotFoundError, ValueError, TypeError) as error:
            raise BadBackupError(f"a file of it is missing or damaged: {error}") from error
        except OSError as error:
            raise BackupError(f"a file of it cannot be read on this host: {error}") from error
        if wrong := [name for name, digest in found.items() if digest != manifest.parts[name]]:
            raise BadBackupError(f"these files are not what was saved: {some(wrong)}")
        return manifest

    def prove(self, manifest: Manifest) -> int:
        """Restore everything into a spare Redis, read it there and compare; return how many bytes of memory it takes.

        Raises:
            BadBackupError: something differs from the manifest or from the files.

        """
        counters: dict[str, int] = {}
        used = 0
        for name in manifest.parts:
            with spare_redis() as redis:
                try:
                    counters |= copy(partial(self.entries, name), partial(_run, redis), whole=True)[1]
                except EntryError as error:
                    raise BadBackupError(f"of the restored backup, {error}") from error
                used += int(redis.info("memory")["used_memory"])
        if (len(counters), sum(counters.values())) != (manifest.counters, manifest.sum):
            raise BadBackupError(
                f"the restored backup has {len(counters)} counters with the sum {sum(counters.values())}, "
                f"instead of {manifest.counters} with the sum {manifest.sum}"
            )
        return used

    def entries(self, part: str) -> Iterator[list[Entry]]:
        """Yield what a part holds, without what has expired since."""
        with (self.directory / part).open(encoding="utf-8") as file:
            yield from of_lines(file)


def _run(redis: Redis, commands: Iterable[Command]) -> list[Any]:
    pipeline = redis.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
    return pipeline.execute()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def empty(directory: Path) -> Path:
    """Return a directory after removing what was in it."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700, parents=True)
    return directory


def room(directory: Path, needed: int) -> None:
    """Raise BackupError unless a directory's disk has that many bytes, and some to spare."""
    free, wanted = shutil.disk_usage(directory).free, needed + RESERVE_BYTES
    if free < wanted:
        raise BackupError(
            f"the disk of the host that makes the backups has {free >> 20} MB free; make room for {wanted >> 20} MB"
        )
