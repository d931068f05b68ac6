"""The passwords of a repository: a new one takes the place of the former ones."""

from __future__ import annotations

import json
from tempfile import NamedTemporaryFile

from backup.restic import QUICK_SECONDS, Exit, Restic


def change_password(restic: Restic, *, shared: bool) -> tuple[Restic, bool]:
    """Let the repository take the newest password of the plan and, unless other stacks may use them, no former one.

    ``restic`` has a password that opens it. Returns one with the newest, and whether it still takes a former one.

    Raises:
        BackupError: the repository cannot be used.

    """
    newest, *formers = restic.plan.passwords
    if restic.password != newest:
        with NamedTemporaryFile("w", dir=restic.plan.work, encoding="utf-8") as file:
            file.write(newest)
            file.flush()
            restic.run(["key", "add", "--new-password-file", file.name], QUICK_SECONDS)
    restic = Restic(restic.plan, newest)
    for former in formers:
        while former != newest and (key := _key(Restic(restic.plan, former))):
            if shared:
                return restic, True
            restic.run(["key", "remove", key], QUICK_SECONDS)
    return restic, False


def _key(restic: Restic) -> str:
    """Return the id of a key that the password opens; empty if it opens none."""
    done = restic.attempt(["key", "list", "--json", "--no-lock"], QUICK_SECONDS)
    if done.status not in {0, Exit.WRONG_PASSWORD}:
        raise restic.error(done)
    return "" if done.status else next(key["id"] for key in json.loads(done.printed) if key["current"])
