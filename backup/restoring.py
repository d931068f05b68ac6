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
from counter.entries import commands_of, different, question_of, some
from counter.store import open_route
from counter.store.keys import COUNTERS
from counter.store.primaries import Primaries


@dataclass(frozen=True, slots=True)
class Restored:
    """What the nodes hold now; ``keys`` counts all that was written."""

    counters: int
    sum: int
    keys: int


def restore(config: Config, plan: Plan, repository: Repository, saved: Saved) -> Restored:
    """Prove a backup, empty the nodes, write it to them, read it there and compare. It can be repeated.

    Raises:
        BadBackupError: the backup is not what was saved; nothing was changed.
        BackupError: the nodes have too little memory, and nothing was changed; or they hold something else.
        UnavailableError: the nodes did not confirm it.

    """
    content = Content(empty(plan.files / "restore"))
    with repository.judging(saved):
        repository.fetch(saved, content.directory)
        manifest = content.manifest()
        proved = content.prove(manifest)
    route = open_route(config)
    primaries, nodes = Primaries(route), Nodes(config, plan, route)
    names = [record.name for record in read_all(primaries)]
    limit = nodes.limit(nodes.homes(names).values())
    if limit and proved.used > limit:
        raise BackupError(
            f"the backup takes {proved.used >> 20} MB of memory, and the Redis nodes may use {limit >> 20} MB: "
            "deploy with more redis_memory, and repeat the restore"
        )
    nodes.empty(names)
    keys = 0
    for part in manifest.parts:
        for entries in content.entries(part):
            listed = [entry.counter for entry in entries if entry.counter]
            primaries.run(
                [command for entry in entries for command in commands_of(entry)]
                + ([("SADD", COUNTERS, *listed)] if listed else [])
            )
            keys += len(entries)
    for part in manifest.parts:
        for entries in content.entries(part):
            # Counters are listed a moment after they are first counted, so the backup's own list may lack some.
            stay = [entry for entry in entries if entry.left is None and entry.key != COUNTERS]
            if wrong := different(stay, primaries.run([question_of(entry) for entry in stay])):
                raise BackupError(f"the nodes hold something else than was written: {some(wrong)}")
    held = {record.name: record.value for record in read_all(primaries)}
    if wrong := [name for name in sorted({*held, *proved.counters}) if held.get(name) != proved.counters.get(name, 0)]:
        raise BackupError(f"the nodes hold something else than the backup for these counters: {some(wrong)}")
    return Restored(len(proved.counters), sum(proved.counters.values()), keys)
