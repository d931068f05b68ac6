"""The files of a backup in a directory: what the nodes held, the state of the stack, and a manifest of both."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from redis import Redis

from backup.errors import BackupError, BadBackupError
from backup.spare import spare_redis
from counter.entries import Entry, commands_of, of_lines, read, some, to_line

MANIFEST = "manifest.json"
STATE = "state"
HOST_ONLY = ("redis-secrets", "step.yml")
"""What belongs to a host or a run."""


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


@dataclass(frozen=True, slots=True)
class Content:
    """A directory that holds a backup or is going to."""

    directory: Path

    def add_part(self, number: int, dump: Path, manifest: Manifest) -> dict[str, int]:
        """Write what a dump of Redis holds as lines of JSON; return its counters."""
        name = f"data-{number}.jsonl"
        counters: dict[str, int] = {}
        with spare_redis(dump) as redis, (self.directory / name).open("w", encoding="utf-8") as file:
            for entries in read(redis):
                now = time.time()
                file.writelines(to_line(entry, now) for entry in entries)
                counters |= {entry.counter: int(str(entry.value)) for entry in entries if entry.counter}
                manifest.keys += len(entries)
        manifest.parts[name] = _digest(self.directory / name)
        return counters

    def add_state(self, state: Path) -> None:
        """Copy the state directory of the stack."""
        if state.is_dir():
            shutil.copytree(state, self.directory / STATE, ignore=shutil.ignore_patterns(*HOST_ONLY))

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest."""
        (self.directory / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1) + "\n", "utf-8")

    def manifest(self) -> Manifest:
        """Return the manifest, after comparing the parts with it; raises BadBackupError."""
        try:
            manifest = Manifest(**json.loads((self.directory / MANIFEST).read_text("utf-8")))
            found = {name: _digest(self.directory / name) for name in manifest.parts}
        except (OSError, ValueError, TypeError) as error:
            raise BadBackupError(f"a file of it is missing or damaged: {error}") from error
        if wrong := [name for name, digest in found.items() if digest != manifest.parts[name]]:
            raise BadBackupError(f"these files are not what was saved: {some(wrong)}")
        return manifest

    def entries(self, manifest: Manifest) -> Iterator[list[Entry]]:
        """Yield what the nodes held, without what has expired since."""
        for name in manifest.parts:
            with (self.directory / name).open(encoding="utf-8") as file:
                yield from of_lines(file)

    def prove(self, manifest: Manifest) -> dict[str, int]:
        """Restore everything into a spare Redis, read it there and compare; return the counters.

        Raises:
            BadBackupError: something differs from the manifest or from the files.

        """
        counters: dict[str, int] = {}
        for name in manifest.parts:
            with spare_redis() as redis:
                with (self.directory / name).open(encoding="utf-8") as file:
                    for entries in of_lines(file):
                        _write(redis, entries)
                held = {entry.key: entry for entries in read(redis) for entry in entries}
                with (self.directory / name).open(encoding="utf-8") as file:
                    for entries in of_lines(file):
                        # What expires may have expired by now.
                        there = [(one, held.get(one.key)) for one in entries if one.left is None or one.key in held]
                        if wrong := [one.key for one, other in there if not other or other.value != one.value]:
                            raise BadBackupError(f"restored, these keys have other values: {some(wrong)}")
            counters |= {entry.counter: int(str(entry.value)) for entry in held.values() if entry.counter}
        if (len(counters), sum(counters.values())) != (manifest.counters, manifest.sum):
            raise BadBackupError(
                f"restored, it has {len(counters)} counters with the sum {sum(counters.values())}, and not "
                f"{manifest.counters} with the sum {manifest.sum}"
            )
        return counters


def _write(redis: Redis, entries: list[Entry]) -> None:
    pipeline = redis.pipeline(transaction=False)
    for entry in entries:
        for command in commands_of(entry):
            pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
    pipeline.execute()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def empty(directory: Path) -> Path:
    """Return a directory after removing what was in it."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700, parents=True)
    return directory


def room(directory: Path, needed: int) -> None:
    """Raise BackupError if a directory's disk has not so many bytes."""
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise BackupError(
            f"the disk of this host has {free >> 20} MB left, and a backup needs {needed >> 20} MB: make room there"
        )
