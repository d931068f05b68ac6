"""Puts the counters of a backup in the place of what the stack's Redis nodes hold. Nothing may count meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

from backup.content import Content, empty
from backup.errors import BackupError
from backup.plan import Plan
from backup.repository import Repository, Saved
from backup.snapshot import Nodes
from counter.config import Config
from counter.data import read_all
from counter.entries import Entry, commands_of, some
from counter.store import open_route
from counter.store.primaries import Primaries


@dataclass(frozen=True, slots=True)
class Restored:
    """What the nodes hold now; ``keys`` counts all that was written."""

    counters: int
    sum: int
    keys: int


def restore(config: Config, plan: Plan, repository: Repository, saved: Saved) -> Restored:
    """Empty the nodes, write a backup to them, read it there and compare. It can be repeated.

    Raises:
        BadBackupError: the backup is not what was saved; nothing was changed.
        BackupError: the nodes hold something else or only a part of the backup.
        UnavailableError: the nodes did not confirm it.

    """
    content = Content(empty(plan.work / "restore"))
    try:
        repository.fetch(saved, content.directory)
        manifest = content.manifest()
        route = open_route(config)
        primaries = Primaries(route)
        Nodes(config, plan, route).empty(record.name for record in read_all(primaries))
        keys = 0
        for entries in content.entries(manifest):
            primaries.run([command for entry in entries for command in commands_of(entry)])
            keys += len(entries)
        for entries in content.entries(manifest):
            _compare(primaries, [entry for entry in entries if entry.left is None])
        held = {record.name: record.value for record in read_all(primaries)}
    finally:
        empty(content.directory)
    if (len(held), sum(held.values())) != (manifest.counters, manifest.sum):
        raise BackupError(
            f"the nodes hold {len(held)} counters with the sum {sum(held.values())}, but the backup "
            f"{manifest.counters} with the sum {manifest.sum}"
        )
    return Restored(len(held), sum(held.values()), keys)


def _compare(primaries: Primaries, entries: list[Entry]) -> None:
    replies = primaries.run([("GET" if isinstance(entry.value, str) else "SMEMBERS", entry.key) for entry in entries])
    found = [frozenset(reply) if isinstance(reply, list) else reply for reply in replies]
    if wrong := [entry.key for entry, value in zip(entries, found, strict=True) if value != entry.value]:
        raise BackupError(f"the nodes hold something else than was written: {some(wrong)}")
