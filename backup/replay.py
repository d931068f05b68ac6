"""Replays the log of changes, and compares what comes out with what the nodes held at that moment."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from backup import newest
from backup.content import Content, empty
from backup.errors import BackupError, BadBackupError
from backup.log import begin_anew, rebuild
from backup.making import impossible
from backup.plan import Plan
from backup.repository import Repository
from backup.saved import MOMENT
from counter.data import read_all
from counter.entries import EntryError, some
from counter.store.primaries import Primaries
from counter.store.types import UnavailableError

POLL_SECONDS = 1.0


def replay(plan: Plan, primaries: Primaries) -> str:
    """Rebuild the next moment that reaches the repository; return what is wrong with it, empty if nothing is.

    If it is the log, that begins anew: what would be added to it would not be of use either.
    """
    try:
        _replay(plan, primaries)
    except BadBackupError as error:
        begin_anew(plan)
        return f"the change log is of no use: {error}"
    except (BackupError, EntryError, UnavailableError, OSError) as error:
        return f"the change log could not be replayed: {error}"
    return ""


def _replay(plan: Plan, primaries: Primaries) -> None:
    before = {record.name: record.value for record in read_all(primaries)}
    wanted = f"{datetime.now(UTC):{MOMENT}}"
    deadline = time.monotonic() + max(plan.late_seconds, 3 * plan.log_seconds)
    while newest.read(primaries).get("log_until", "") <= wanted:
        if time.monotonic() > deadline:
            raise BackupError(f"it has not reached {wanted}")
        time.sleep(POLL_SECONDS)
    repository = Repository(plan)
    repository.open()
    log = repository.at(None)
    content = Content(empty(plan.files / "replay"))
    try:
        held = rebuild(plan, repository, log, content)
    finally:
        empty(content.directory)
    after = {record.name: record.value for record in read_all(primaries)}
    if wrong := impossible(held, before, after, newest.removed(primaries)):
        raise BadBackupError(f"these counters have impossible values at {log.id}: {some(wrong)}")
