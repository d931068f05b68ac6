"""Makes a backup while clients count, and proves it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from redis.exceptions import RedisError

from backup.content import Content, Held, Manifest, empty, room
from backup.errors import BackupError, BadBackupError, UnreadableError
from backup.newest import removed
from backup.plan import Plan
from backup.repository import Repository
from backup.saved import (
    BACKUP_ID,
    BAD,
    COUNTERS,
    FORM,
    FORMAT,
    ID,
    LESS,
    MOMENT,
    PROVED,
    REPLACED,
    STACK,
    SUM,
    UNCOMPARED,
    Saved,
    next_id,
)
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
class Compared:
    """How counters compare with a former backup.

    ``lower``: in words, which have less; in ``less_than``, which stays until it is confirmed. ``uncompared``: the id of
    one that cannot be read.
    """

    lower: list[str]
    less_than: str = ""
    uncompared: str = ""


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes backups of the stack of ``config`` as ``plan`` says."""

    config: Config
    plan: Plan
    repository: Repository

    def make(self, *, replaced: bool = False, former: Saved | None = None) -> tuple[Saved, list[str]]:
        """Read the nodes, save and prove; return the backup, and the counters that have less than in ``former``.

        Counters only grow until they are removed, so nodes that hold less may have lost their data. Until that is
        confirmed, each backup is compared with the same one and marked. If that cannot be read, the backup is marked as
        ``uncompared``, and the next one is compared with it too. ``replaced``: a restore will replace what the nodes
        hold.

        Raises:
            BackupError: there is no backup, perhaps since the nodes hold other data than the stack's.
            BadBackupError: there is one, but it is not what was read.
            UnavailableError: the nodes do not answer.

        """
        began = datetime.now(UTC)
        route = open_route(self.config)
        primaries, nodes = Primaries(route), Nodes(self.config, self.plan, route)
        content = Content(empty(self.plan.files / "backup"))
        manifest, found = self._read(primaries, nodes, content, began)
        if not replaced:
            nodes.refuse_others()
        content.add_state(self.plan.state)
        content.finish(manifest)
        compared = self._compared(found, former, removed(primaries)) if former else Compared([])
        others = [saved.id for saved in self.repository.backups() if saved.stack == self.plan.stack]
        identifier = next_id(BACKUP_ID, began, others)
        labels = {STACK: self.plan.stack, FORM: FORMAT, ID: identifier, COUNTERS: manifest.counters, SUM: manifest.sum}
        labels |= {REPLACED: "yes"} if replaced else {}
        labels |= {LESS: compared.less_than} if compared.less_than else {}
        labels |= {UNCOMPARED: compared.uncompared} if compared.uncompared else {}
        saved = self.repository.save(content.directory, began, labels)
        empty(content.directory)
        return self.prove(saved), compared.lower

    def _compared(self, found: Mapping[str, int], former: Saved, gone: set[str]) -> Compared:
        """Compare counters with those of a former backup, and of what that was or should have been compared with.

        ``gone``: names of counters that were removed.
        """
        uncompared = ""
        known = {saved.id: saved for saved in self.repository.backups() if saved.stack == former.stack}
        for identifier in dict.fromkeys([former.uncompared, former.less_than, former.id]):
            if identifier not in known:  # somebody has removed it
                continue
            try:
                held = self._counters(known[identifier])
            except BackupError:
                uncompared = uncompared or identifier
                continue
            if lower := [
                f"{name} from {value} to {found.get(name, 0)}"
                for name, value in sorted(held.items())
                if found.get(name, 0) < value and name not in gone
            ]:
                return Compared(lower, former.less_than or identifier, uncompared)
        return Compared([], former.less_than, uncompared)

    def _counters(self, saved: Saved) -> dict[str, int]:
        """Return the counters of a backup; raises BackupError."""
        content, held = Content(empty(self.plan.files / "former")), Held()
        try:
            self.repository.fetch(saved, content.directory)
            for part in content.manifest().parts:
                for entries in content.entries(part):
                    held.add(entries)
        finally:
            empty(content.directory)
        return held.counters

    def _read(
        self, primaries: Primaries, nodes: Nodes, content: Content, began: datetime
    ) -> tuple[Manifest, dict[str, int]]:
        """Write the data of all primaries to files; return the manifest, and the counters.

        Each value is between those that were read before and after.
        """
        for attempt in range(1, ATTEMPTS + 1):
            manifest = Manifest(self.plan.stack, self.plan.version, self.config.topology, f"{began:{MOMENT}}")
            before = {record.name: record.value for record in read_all(primaries)}
            try:
                found = self._copy(nodes, content, manifest)
                after = {record.name: record.value for record in read_all(primaries)}
                if wrong := impossible(found, before, after, removed(primaries)):
                    raise BackupError(f"the copies of these counters have impossible values: {some(wrong)}")
            except BackupError:
                if attempt == ATTEMPTS:
                    raise
                time.sleep(PAUSE_SECONDS)
            else:
                manifest.ended = f"{datetime.now(UTC):{MOMENT}}"
                return manifest, found
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

    def prove(self, saved: Saved) -> Saved:
        """Restore a backup into a spare Redis and compare it with what was saved, note the result and return it.

        Raises:
            BadBackupError: it differs, which is noted too.
            UnreadableError: it cannot be read now, which says nothing of it.

        """
        content = Content(empty(self.plan.files / "proof"))
        try:
            self.repository.fetch(saved, content.directory)
            content.prove(content.manifest())
            content.files()
        except BadBackupError:
            self.repository.mark(saved, BAD)
            raise
        finally:
            empty(content.directory)
        return self.repository.mark(saved, PROVED)

    def prove_all(self, names: Iterable[str]) -> dict[str, UnreadableError]:
        """Prove backups again; return what is wrong with those that are bad or cannot be read now."""
        failures = {}
        for name in names:
            try:
                self.prove(self.repository.find(name))
            except UnreadableError as error:
                failures[name] = error
        return failures

    def tidy(self) -> str:
        """Remove what the plan does not keep; return what is wrong with that, empty if nothing is.

        A bad backup is removed once there is a newer one that is proved, if it is found bad again.
        """
        backups = [saved for saved in self.repository.backups() if saved.stack == self.plan.stack]
        proved = max((saved.id for saved in backups if saved.proved), default="")
        try:
            failures = self.prove_all(
                saved.name for saved in backups if saved.bad and not saved.held and saved.id < proved
            )
            bad = [name for name, error in failures.items() if isinstance(error, BadBackupError)]
            reason = self.repository.forget([self.repository.find(name) for name in bad])
        except (BackupError, RedisError, OSError) as error:
            return str(error)
        unread = [f"{name}: {error}" for name, error in failures.items() if name not in bad]
        return "; ".join([*unread, *([reason] if reason else [])])


def impossible(
    held: Mapping[str, int], before: Mapping[str, int], after: Mapping[str, int], gone: set[str]
) -> list[str]:
    """Return in words which values are not between those read before and after. ``gone`` are not compared."""
    return [
        f"{name}: {held.get(name, 0)}, but {before.get(name, 0)} before and {after.get(name, 0)} after"
        for name in sorted({*held, *before} - gone)
        if not before.get(name, 0) <= held.get(name, 0) <= after.get(name, 0)
    ]
