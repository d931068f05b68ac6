"""What the stack knows of its newest proved backup: a key in Redis, which the app shows as a metric and in `status`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from backup.plan import Plan
from backup.processes import locked
from backup.repository import Repository
from backup.saved import MOMENT, Saved
from counter.store.keys import BACKUP_KEY
from counter.store.primaries import Primaries

LASTING = (
    *("repository", "repository_bytes", "seconds"),
    *("log_began", "log_until", "log_failure", "failed", "failure"),
)
"""What stays in the note after the backup that it named was found bad or was removed.

``repository_bytes``: the room that the repository takes. ``seconds``: how long the last backup took. ``log_began``,
``log_until``: the first and the last moment that can be restored. ``log_failure``: why the log does not go on; empty if
it does. ``failed``, ``failure``: when a backup or the log last failed, and why.
"""


def read(primaries: Primaries) -> dict[str, Any]:
    """Return the newest proved backup's fields, ``repository``, ``less_than`` and ``log_until``; empty without one."""
    (text,) = primaries.run([("GET", BACKUP_KEY)])
    return dict(json.loads(text)) if text else {}


def write(primaries: Primaries, repository: Repository, plan: Plan) -> None:
    """Note the newest proved backup of the stack, or that none is left."""
    proved = _proved(repository, plan)
    own = {"repository": digest(plan), "less_than": less_than(repository, plan)}
    fields = asdict(proved[-1]) | own if proved else {}
    _change(primaries, plan, lambda note: {key: note[key] for key in LASTING if key in note} | fields)


def less_than(repository: Repository, plan: Plan) -> str:
    """Return the id of the proved backup before the newest one if its sum is larger.

    Counters only grow, so nodes that hold less may have lost their data. Around a restore, nothing follows from it.
    """
    *_, former, newest = [None, None, *_proved(repository, plan)]
    if not former or not newest or former.replaced or newest.replaced:
        return ""
    return former.id if former.sum > newest.sum else ""


def add(primaries: Primaries, plan: Plan, **fields: object) -> None:
    """Note some of what lasts, once there has been a proved backup."""
    _change(primaries, plan, lambda note: note and note | fields)


def add_failure(primaries: Primaries, plan: Plan, failure: str) -> None:
    """Note that a backup or the log has just failed."""
    add(primaries, plan, failed=f"{datetime.now(UTC):{MOMENT}}", failure=failure)


def _proved(repository: Repository, plan: Plan) -> list[Saved]:
    """Return the stack's proved backups, the oldest first."""
    return [saved for saved in repository.backups() if saved.stack == plan.stack and saved.proved]


def _change(primaries: Primaries, plan: Plan, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change the note, which the log and a backup may do at the same time."""
    with locked(plan.work / "note"):
        if note := change(read(primaries)):
            primaries.run([("SET", BACKUP_KEY, json.dumps(note))])


def opened(primaries: Primaries, plan: Plan, *, create: bool = True) -> Repository:
    """Open the plan's repository, or ``create`` it if the stack has no backups there; raises BackupError."""
    repository = Repository(plan)
    # A directory that is not mounted looks like a new repository.
    repository.open(create=create and read(primaries).get("repository") != digest(plan))
    return repository


def digest(plan: Plan) -> str:
    """Return what tells one repository from another without showing a password in its address."""
    return hashlib.sha256(plan.repository.encode()).hexdigest()[:12]
