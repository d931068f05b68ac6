"""What the stack knows of its newest proved backup: a key in Redis, which the app shows as a metric and in `status`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from datetime import datetime
from typing import Any

from backup.plan import Plan
from backup.processes import locked
from backup.repository import MOMENT, Repository
from counter.store.keys import BACKUP_KEY
from counter.store.primaries import Primaries


def read(primaries: Primaries) -> dict[str, Any]:
    """Return the newest proved backup's fields and ``repository``, as `write` left them; empty if there was none."""
    (text,) = primaries.run([("GET", BACKUP_KEY)])
    return dict(json.loads(text)) if text else {}


def write(primaries: Primaries, repository: Repository, plan: Plan) -> None:
    """Note the newest proved backup of the stack."""
    proved = [saved for saved in repository.backups() if saved.stack == plan.stack and saved.proved]
    if proved:
        _add(primaries, plan, asdict(proved[-1]) | {"repository": digest(plan)})


def write_log(primaries: Primaries, plan: Plan, until: datetime) -> None:
    """Note until when the log of changes reaches, if there is a proved backup."""
    if read(primaries):
        _add(primaries, plan, {"log_until": f"{until:{MOMENT}}"})


def _add(primaries: Primaries, plan: Plan, labels: dict[str, Any]) -> None:
    """Add to the note, which the log and a backup may do at the same time."""
    with locked(plan.work / "note"):
        primaries.run([("SET", BACKUP_KEY, json.dumps(read(primaries) | labels))])


def opened(primaries: Primaries, plan: Plan, *, create: bool = True) -> Repository:
    """Open the plan's repository, or ``create`` it if the stack has no backups there; raises BackupError."""
    repository = Repository(plan)
    # A directory that is not mounted looks like a new repository.
    repository.open(create=create and read(primaries).get("repository") != digest(plan))
    return repository


def digest(plan: Plan) -> str:
    """Return what tells one repository from another without showing a password in its address."""
    return hashlib.sha256(plan.repository.encode()).hexdigest()[:12]
