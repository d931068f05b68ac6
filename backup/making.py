"""Makes a backup while clients count, and proves it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from redis.exceptions import RedisError

from backup.content import Content, Manifest, empty, room
from backup.errors import BackupError, BadBackupError
from backup.plan import Plan
from backup.repository import Repository
from backup.saved import BACKUP_ID, COUNTERS, FORM, FORMAT, ID, MOMENT, PROVED, REPLACED, STACK, SUM, Saved, next_id
from backup.snapshot import Nodes
from counter.config import Config
from counter.data import read_all
from counter.entries import some
from counter.store import open_route
from counter.store.primaries import Primaries

ATTEMPTS = 3
"""How often the nodes are read again if a failover or a moving slot came between."""
PAUSE_SECONDS = 2.0
COPIES = 3
"""How often the data is on the disk at the same time: as a dump and as lines of JSON, which can take twice the room."""


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes backups of the stack of ``config`` as ``plan`` says."""

    config: Config
    plan: Plan
    repository: Repository

    def make(self, *, replaced: bool = False) -> Saved:
        """Read the nodes, save and prove; return the backup. ``replaced``: a restore will replace what they hold.

        Raises:
            BackupError: there is no backup; BadBackupError: there is one, but it is not what was read.
            UnavailableError: the nodes do not answer.

        """
        began = datetime.now(UTC)
        route = open_route(self.config)
        primaries, nodes = Primaries(route), Nodes(self.config, self.plan, route)
        content = Content(empty(self.plan.files / "backup"))
        manifest, before, found = self._read(primaries, nodes, content, began)
        content.add_state(self.plan.state)
        content.finish(manifest)
        former = [saved.id for saved in self.repository.backups() if saved.stack == self.plan.stack]
        identifier = next_id(BACKUP_ID, began, former)
        labels = {STACK: self.plan.stack, FORM: FORMAT, ID: identifier, COUNTERS: manifest.counters, SUM: manifest.sum}
        labels |= {REPLACED: "yes"} if replaced else {}
        saved = self.repository.save(content.directory, began, labels)
        empty(content.directory)
        after = {record.name: record.value for record in read_all(primaries, found)}
        return self.prove(saved, (before, after))

    def _read(
        self, primaries: Primaries, nodes: Nodes, content: Content, began: datetime
    ) -> tuple[Manifest, dict[str, int], dict[str, int]]:
        """Write the data of all primaries to files; return the manifest, and the counters before and in the files."""
        for attempt in range(1, ATTEMPTS + 1):
            manifest = Manifest(self.plan.stack, self.plan.version, self.config.topology, f"{began:{MOMENT}}")
            before = {record.name: record.value for record in read_all(primaries)}
            try:
                found = self._copy(nodes, content, manifest)
                if short := [name for name, value in before.items() if found.get(name, 0) < value]:
                    raise BackupError(f"the copies of these counters hold less than was read before: {some(short)}")
            except BackupError:
                if attempt == ATTEMPTS:
                    raise
                time.sleep(PAUSE_SECONDS)
            else:
                manifest.ended = f"{datetime.now(UTC):{MOMENT}}"
                return manifest, before, found
        raise AssertionError

    def _copy(self, nodes: Nodes, content: Content, manifest: Manifest) -> dict[str, int]:
        homes = nodes.homes()
        holders = nodes.holders(homes.values())
        room(self.plan.files, COPIES * sum(holder.used for holder in holders))

        def dumps() -> Iterator[Path]:
            dump = self.plan.files / "dump.rdb"
            for holder in holders:
                nodes.dump(holder.node, dump)
                yield dump
                dump.unlink()

        found = content.add_parts(dumps(), manifest)
        if nodes.homes() != homes:
            raise BackupError("a primary was replaced, or slots moved, while the data was copied")
        return found

    def prove(self, saved: Saved, between: tuple[Mapping[str, int], Mapping[str, int]] | None = None) -> Saved:
        """Restore a backup into a spare Redis and compare it with what was saved, note the result and return it.

        ``between``: each counter's value before and after it was read, if the backup has just been made.

        Raises:
            BadBackupError: it differs, or cannot be read back.

        """
        content = Content(empty(self.plan.files / "proof"))
        with self.repository.judging(saved):
            self.repository.fetch(saved, content.directory)
            held = content.prove(content.manifest()).counters
            empty(content.directory)
            _check(held, *between or (held, held))
        return self.repository.mark(saved, PROVED)

    def prove_all(self, names: Iterable[str]) -> list[str]:
        """Prove backups again; return what is wrong with the bad ones."""
        failures = []
        for name in names:
            try:
                self.prove(self.repository.find(name))
            except BadBackupError as error:
                failures.append(f"{name}: {error}")
        return failures

    def tidy(self) -> str:
        """Remove what the plan does not keep; return why its room could not be freed, empty if it was."""
        try:
            if (reason := self.repository.forget()) and self.repository.repair():
                # Old backups and logs may need the files that are lost. Then nothing can restore them.
                self.repository.open(create=False)
                self.prove_all(saved.name for saved in self.repository.backups() if saved.stack == self.plan.stack)
                self.repository.forget_bad_logs(self.plan.files / "proof")
                reason = self.repository.forget()
        except (BackupError, RedisError, OSError) as error:
            return str(error)
        return reason


def _check(held: Mapping[str, int], before: Mapping[str, int], after: Mapping[str, int]) -> None:
    """Raise BadBackupError unless each value is between those read before and after."""
    wrong = [
        f"{name}: {held.get(name, 0)}, but {before.get(name, 0)} before and {after.get(name, 0)} after"
        for name in sorted({*held, *before})
        if not before.get(name, 0) <= held.get(name, 0) <= after.get(name, 0)
    ]
    if wrong:
        raise BadBackupError(f"these counters of the restored backup have impossible values: {some(wrong)}")
