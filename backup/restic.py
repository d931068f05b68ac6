"""How restic is called, and what its failures mean."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from backup.errors import BackupError, NoRepositoryError
from backup.plan import Plan
from backup.processes import TIMED_OUT, Done, ended, run

QUICK_SECONDS = 120
LONG_SECONDS = 3600
SHOWN_LINES = 3
SSH_OPTIONS = ("BatchMode=yes", "ConnectTimeout=15", "ServerAliveInterval=15", "ServerAliveCountMax=4")
"""By itself, ssh waits for a dead connection for as long as restic may take."""


class Exit(IntEnum):
    """Exit codes of restic that do not mean that a backup is bad."""

    TIMED_OUT = TIMED_OUT
    NO_REPOSITORY = 10
    LOCKED = 11
    WRONG_PASSWORD = 12


@dataclass(frozen=True, slots=True)
class Restic:
    """Calls restic for the repository of a plan, with one of its passwords."""

    plan: Plan
    password: str = field(repr=False)

    @property
    def shown(self) -> str:
        """The repository without a password that its address may hold."""
        return f"the repository {re.sub(r'//[^@/]*@', '//***@', self.plan.repository)}"

    def run(self, arguments: Sequence[str], seconds: float, cwd: Path | None = None) -> str:
        """Run a command, and return what it printed.

        Raises:
            BackupError: it failed.

        """
        done = self.attempt(arguments, seconds + self.plan.lock_seconds, cwd)
        if done.status:
            raise self.error(done)
        return done.printed

    def attempt(self, arguments: Sequence[str], seconds: float, cwd: Path | None = None) -> Done:
        """Run a command to its end, however it ends; a lock of another program is waited for."""
        done = self.once(arguments, seconds, cwd)
        if done.status == Exit.LOCKED:
            # Perhaps by a program that has died; this removes no other lock.
            self.once(["unlock"], QUICK_SECONDS)
            done = self.once(["--retry-lock", f"{self.plan.lock_seconds}s", *arguments], seconds, cwd)
        return done

    def once(self, arguments: Sequence[str], seconds: float, cwd: Path | None = None) -> Done:
        """Run a command, which fails if another program holds a lock that it needs."""
        # Without a cache, what is proved was read from the repository.
        options = ["--no-cache"]
        if any(one.startswith("sftp:") for one in (self.plan.repository, self.plan.copied_from)):
            options += ["--option", f"sftp.args={self._ssh_arguments()}"]
        own = {"RESTIC_REPOSITORY": self.plan.repository, "RESTIC_PASSWORD": self.password, "TZ": "UTC"}
        if self.plan.copied_from:
            own |= {"RESTIC_FROM_REPOSITORY": self.plan.copied_from, "RESTIC_FROM_PASSWORD": self.plan.passwords[0]}
        # Its packs of 16 MB do not fit into /tmp.
        own["TMPDIR"] = str(self.plan.work)
        own |= {name: str(self._file(name, text)) for name, text in self.plan.environment_files.items()}
        return run(["restic", *options, *arguments], seconds, os.environ | dict(self.plan.environment) | own, cwd)

    def _ssh_arguments(self) -> str:
        """Return the options of ssh, after writing the files that they name."""
        key, known_hosts = self._file("key", self.plan.ssh_key), self._file("known_hosts", self.plan.known_hosts)
        options = (f"UserKnownHostsFile={known_hosts}", *SSH_OPTIONS)
        return " ".join([f"-i {key}", *(f"-o {option}" for option in options)])

    def _file(self, name: str, text: str) -> Path:
        """Return a file that only this program can read, after writing it."""
        directory = self.plan.work / "login"
        directory.mkdir(mode=0o700, exist_ok=True)
        # Another run may be reading the file.
        with NamedTemporaryFile("w", dir=directory, encoding="utf-8", delete=False) as file:
            file.write(text.rstrip() + "\n")
        return Path(file.name).replace(directory / name)

    def error(self, done: Done) -> BackupError:
        """Return what a failure means for the user."""
        match done.status:
            case Exit.NO_REPOSITORY:
                copy = "; if it is on a host that was the first manager before, copy it from there"
                return NoRepositoryError(f"{self.shown} does not exist{copy if self.plan.repository[0] == '/' else ''}")
            case Exit.LOCKED:
                holder = next((line for line in done.said.splitlines() if "already locked" in line), done.said)
                return BackupError(
                    f"{self.shown} is in use; try again later (the lock of a killed program lasts up to 30 minutes): "
                    f"{holder.partition('repository is ')[2] or holder.strip()}"
                )
            case Exit.WRONG_PASSWORD:
                return BackupError(f"the password does not open {self.shown}")
            case Exit.TIMED_OUT:
                tries = [line for line in done.said.splitlines() if "returned error" in line]
                return BackupError(f"{self.shown} does not answer in time: {tries[-1] if tries else last_lines(done)}")
            case status if status < 0:
                return BackupError(f"{self.shown}: restic {ended(status)}: {last_lines(done)}")
            case _:
                return BackupError(f"{self.shown}: {last_lines(done)}")


def says_nothing(done: Done) -> bool:
    """Tell whether what restic did says nothing of the backups: it could not begin or finish, or was killed."""
    return done.status < 0 or done.status in set(Exit)


def is_damage(done: Done) -> bool:
    """Tell whether restic read something else than what was saved. What it cannot read may be there again later."""
    return (
        re.search("ciphertext verification failed|nonce is invalid|invalid hash|wrong data returned", done.said)
        is not None
    )


def is_missing(done: Done) -> bool:
    """Tell whether the index lacks something, as after a repair of what is gone."""
    return re.search("not found in (repository|index)|[Uu]nknown blob", done.said) is not None


def last_lines(done: Done) -> str:
    """Return the end of what restic wrote to standard error, in one line."""
    lines = [line.strip() for line in done.said.splitlines() if line.strip()]
    return "; ".join(lines[-SHOWN_LINES:]) or "restic said nothing"


def messages(printed: str, kind: str) -> list[dict[str, Any]]:
    """Return the messages of a kind among the lines that restic prints with ``--json``."""
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    return [line for line in lines if line.get("message_type") == kind]
