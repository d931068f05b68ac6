"""Copies what is proved, and the log of changes, to a second repository, and proves the copies there."""

from __future__ import annotations

from datetime import UTC, datetime

from backup.errors import BackupError
from backup.making import Maker
from backup.repository import Repository
from backup.retention import outdated
from backup.saved import Log, Saved
from counter.entries import some


def copy(source: Repository, maker: Maker) -> None:
    """Copy what is proved and has no copy, with the log until its last upload; then prove what was not proved there.

    ``maker`` has the second repository open.

    Raises:
        BackupError: a backup has no proved copy; the next call goes on.

    """
    stack, copies = maker.plan.stack, maker.repository
    proved = {saved.id: saved for saved in source.backups() if _is_wanted(saved, stack)}
    here = {saved.id for saved in copies.backups() if saved.stack == stack}
    # The first repository has these if nothing could be removed there.
    old = outdated(list(proved.values()), [], maker.plan, datetime.now(UTC))
    last_log = max((log.until for log in copies.logs() if log.stack == stack), default="")
    wanted: list[Saved | Log] = [
        *(saved for saved in proved.values() if saved.id not in here and saved not in old),
        *(log for log in source.logs() if log.stack == stack and log.until > last_log),
    ]
    if wanted:
        copies.copy(wanted)
    # A copy says when its backup was proved, until it was proved itself.
    unproved = [
        saved.name
        for saved in copies.backups()
        if saved.stack == stack and saved.id in proved and saved.proved == proved[saved.id].proved
    ]
    if failures := maker.prove_all(unproved):
        raise BackupError(some([f"{name}: {error}" for name, error in failures.items()]))


def _is_wanted(saved: Saved, stack: str) -> bool:
    return saved.stack == stack and bool(saved.proved) and not saved.replaced
