"""Copies what is proved, and the log of changes, to a second repository, and proves the copies there."""

from __future__ import annotations

from backup.errors import BackupError
from backup.making import Maker
from backup.repository import Repository
from backup.saved import Log, Saved
from counter.entries import some


def copy(source: Repository, maker: Maker) -> None:
    """Copy what is newer than all copies, with the log until its last upload; then prove what was not proved there.

    What was removed from the second repository, by hand or as outdated, does not return. ``maker`` has it open.

    Raises:
        BackupError: a backup has no proved copy; the next call goes on.

    """
    stack, copies = maker.plan.stack, maker.repository
    proved = {saved.id: saved for saved in source.backups() if _is_wanted(saved, stack)}
    last = max((saved.id for saved in copies.backups() if saved.stack == stack), default="")
    last_log = max((log.until for log in copies.logs() if log.stack == stack), default="")
    wanted: list[Saved | Log] = [
        *(saved for saved in proved.values() if saved.id > last),
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
