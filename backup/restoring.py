"""Puts the counters of a backup, or of a moment of the log, in the place of what the stack's Redis nodes hold."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import batched, chain

from backup.content import Content, Manifest, empty, is_unfinished
from backup.errors import BackupError
from backup.log import rebuild
from backup.newest import digest
from backup.plan import Plan
from backup.repository import Repository
from backup.saved import Log, Saved
from backup.snapshot import Nodes
from counter.config import Config
from counter.data import read_all
from counter.entries import copy, some
from counter.store import open_route
from counter.store.keys import COUNTERS
from counter.store.primaries import BATCH, Primaries

PREPARED = "prepared"
"""The directory below ``work``. It stays if a restore fails, and is the same for the next attempt."""
MARK = "proved"
"""The file there which says what was prepared in full."""
ABANDONED_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Restored:
    """What the nodes hold now; ``keys`` counts all that was written."""

    counters: int
    sum: int
    keys: int


def fetch(plan: Plan, repository: Repository, wanted: Saved | Log, content: Content) -> Manifest:
    """Fetch a backup or the content of a moment; return its manifest, after comparing the files with it.

    Raises:
        BadBackupError: it is not what was saved; BackupError: it cannot be read now.

    """
    if isinstance(wanted, Log):
        rebuild(plan, repository, wanted, content)
    else:
        repository.fetch(wanted, content.directory)
    return content.manifest()


def prepare(config: Config, plan: Plan, repository: Repository, wanted: Saved | Log) -> None:
    """Fetch and prove what will be restored, while clients count.

    Raises:
        BadBackupError: it is not what was saved; BackupError: it needs more memory than the nodes have.

    """
    content = Content(empty(plan.work / PREPARED))
    used = content.prove(fetch(plan, repository, wanted, content))
    nodes = Nodes(config, plan, open_route(config))
    limit = nodes.limit(nodes.homes().values())
    if limit and used > limit:
        raise BackupError(
            f"the backup takes {used >> 20} MB of memory, and the Redis nodes may use {limit >> 20} MB: "
            "deploy with more redis_memory, and repeat the restore"
        )
    (content.directory / MARK).write_text(_name(plan, wanted), "utf-8")


def is_prepared(plan: Plan) -> bool:
    """Tell whether a restore has everything that it needs, and has not ended."""
    return (plan.work / PREPARED / MARK).exists()


def remove_abandoned(plan: Plan) -> None:
    """Remove what was prepared for a restore that did not follow: all counters, in plain text."""
    directory = plan.work / PREPARED
    if not directory.exists() or is_unfinished(plan.state):
        return
    # A restore stops the app between preparing and beginning, and may do so now.
    if directory.stat().st_mtime < time.time() - ABANDONED_SECONDS:
        empty(directory)


def restore(config: Config, plan: Plan, repository: Repository, wanted: Saved | Log) -> Restored:
    """Empty the nodes, write to them what was prepared, read it there and compare. Nothing may count meanwhile.

    It can be repeated. What is not prepared is prepared first.

    Raises:
        BadBackupError: it is not what was saved; nothing was changed.
        BackupError: the nodes have too little memory, and nothing was changed; or they hold other counters.
        EntryError: they hold something else.
        UnavailableError: the nodes did not confirm it.

    """
    content = Content(plan.work / PREPARED)
    mark = content.directory / MARK
    if not mark.exists() or mark.read_text("utf-8") != _name(plan, wanted):
        prepare(config, plan, repository, wanted)
    manifest = content.manifest()
    route = open_route(config)
    primaries, nodes = Primaries(route), Nodes(config, plan, route)
    nodes.empty()
    keys, counters = copy(lambda: chain.from_iterable(map(content.entries, manifest.parts)), primaries.run)
    # Counters are listed a moment after they are first counted, so the backup's own list may lack some.
    for names in batched(counters, BATCH):
        primaries.run([("SADD", COUNTERS, *names)])
    held = {record.name: record.value for record in read_all(primaries)}
    if wrong := [name for name in sorted({*held, *counters}) if held.get(name) != counters.get(name, 0)]:
        raise BackupError(f"these counters on the nodes differ from the backup: {some(wrong)}")
    empty(content.directory)
    return Restored(len(counters), sum(counters.values()), keys)


def _name(plan: Plan, wanted: Saved | Log) -> str:
    """Return what tells it from all others. A log's snapshot is another one every minute."""
    return f"{digest(plan)} {wanted.stack} {wanted.id}"
