"""What the stack knows of its newest proved backup: a key in Redis, which the app shows as a metric and in `status`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import batched
from typing import Any

from backup.errors import BackupError
from backup.plan import Plan
from backup.processes import locked
from backup.repository import Repository
from backup.saved import MOMENT, Saved
from counter.store.keys import BACKUP_KEY, REMOVED_KEY
from counter.store.primaries import BATCH, Primaries

LASTING = (
    *("repository", "repository_bytes", "seconds", "since", "not_freed"),
    *("log_began", "log_until", "log_failure", "failed", "failure", "copy_repository", "copied", "copy_failure"),
)
"""What stays in the note after the backup that it named was found bad or was removed.

``repository_bytes``: the room that the repository takes. ``seconds``: how long the last backup took. ``since``: the
newest backup when a restore replaced the counters; what was saved until then says nothing of them. ``not_freed``: why
outdated backups and logs were not removed; empty if they were. ``log_began``, ``log_until``: the first and the last
moment that can be restored. ``log_failure``: why the log does not go on; empty if it does. ``failed``, ``failure``:
when a backup, its copy or the log last failed, and why. ``copy_repository``: which one has the copies. ``copied``: when
the newest backup was made that has a proved copy. ``copy_failure``: why there is no newer copy; empty if there is.
"""


def read(primaries: Primaries) -> dict[str, Any]:
    """Return the newest proved backup's fields, ``repository``, ``log_until`` and ``since``; empty without one."""
    (text,) = primaries.run([("GET", BACKUP_KEY)])
    return dict(json.loads(text)) if text else {}


def is_suspect(note: dict[str, Any]) -> bool:
    """Tell whether the newest backup has less of a counter than an earlier one, or could not be compared with it."""
    return bool(note.get("less_than") or note.get("uncompared"))


def write(
    primaries: Primaries, repository: Repository, plan: Plan, *, restored: bool = False, removed: Iterable[str] = ()
) -> None:
    """Note the newest proved backup of the stack, or that none is left. ``restored``: a restore has just ended.

    ``removed``: counters that were removed before it began, and that the next one is not compared with. They are
    forgotten.
    """
    own = _own(repository, plan)
    proved = [saved for saved in own if saved.proved and not saved.replaced]
    if plan.copied_from:
        add(primaries, plan, copy_repository=digest(plan), copied=proved[-1].time if proved else 0)
        return
    fields = asdict(proved[-1]) | {"repository": digest(plan)} if proved else {}

    def changed(note: dict[str, Any]) -> dict[str, Any]:
        since = {"since": own[-1].id} if restored and own else {}
        note = {key: note[key] for key in LASTING if key in note} | fields | since
        is_current = note.get("id", "") > _since(own, note)
        # What a restore replaced is not compared any more.
        return note if is_current or not fields else note | {"less_than": "", "uncompared": ""}

    _change(primaries, plan, changed)
    for names in batched(removed, BATCH):
        primaries.run([("SREM", REMOVED_KEY, *names)])


def removed(primaries: Primaries) -> set[str]:
    """Return the counters that were removed since the newest proved backup began; raises UnavailableError."""
    return set(primaries.run([("SMEMBERS", REMOVED_KEY)])[0])


def former(primaries: Primaries, repository: Repository, plan: Plan) -> Saved | None:
    """Return the newest proved backup since the last restore, with which the next one can be compared."""
    own = _own(repository, plan)
    since = _since(own, read(primaries))
    found = [saved for saved in own if saved.proved and not saved.replaced and saved.id > since]
    return found[-1] if found else None


def _since(own: list[Saved], note: dict[str, Any]) -> str:
    """Return the newest backup that was made before or by the last restore; empty without one."""
    return max([str(note.get("since", "")), *(saved.id for saved in own if saved.replaced)])


def add(primaries: Primaries, plan: Plan, **fields: object) -> None:
    """Note some of what lasts, once there has been a proved backup."""
    _change(primaries, plan, lambda note: note and note | fields)


def add_failure(primaries: Primaries, plan: Plan, failure: str, **fields: object) -> None:
    """Note that a backup, its copy or the log has just failed, and perhaps more."""
    add(primaries, plan, failed=f"{datetime.now(UTC):{MOMENT}}", failure=failure, **fields)


def _own(repository: Repository, plan: Plan) -> list[Saved]:
    """Return the stack's backups, the oldest first."""
    return [saved for saved in repository.backups() if saved.stack == plan.stack]


def _change(primaries: Primaries, plan: Plan, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change the note, which the log and a backup may do at the same time."""
    with locked(plan.work / "note"):
        if note := change(read(primaries)):
            primaries.run([("SET", BACKUP_KEY, json.dumps(note))])


def opened(primaries: Primaries, plan: Plan, *, create: bool = True, replaced: bool = False) -> Repository:
    """Open the plan's repository for writing, or ``create`` it if the stack has no backups there.

    Raises:
        BackupError: it cannot be used, or another stack of this name uses it. What a restore ``replaced`` may be saved
            there.

    """
    repository = Repository(plan)
    note = read(primaries)
    # A directory that is not mounted looks like a new repository.
    is_known = note.get("copy_repository" if plan.copied_from else "repository") == digest(plan)
    repository.open(create=create and not is_known)
    if not replaced and (found := repository.stranger(is_known=is_known)):
        there = f" -e backup_repository={plan.repository} -e backup_copy_repository=" if plan.copied_from else ""
        raise BackupError(
            f"{repository.shown} has backups and changes of another stack named {plan.stack}, until {found.id}. Each "
            "would remove what the other needs, so nothing was written. To go on from them, once its servers are off "
            f"for good: ./counter restore{there} -e backup=latest, or -e to=latest for the last change. If it still "
            "runs, or to keep both apart: another stack_name or another repository"
        )
    repository.renew_password()
    return repository


def digest(plan: Plan) -> str:
    """Return what tells one repository from another without showing a password in its address."""
    return hashlib.sha256(plan.repository.encode()).hexdigest()[:12]
