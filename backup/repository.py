"""The restic repository: what the program asks of restic, and what its failures mean."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backup.errors import BackupError, BadBackupError
from backup.plan import Plan

PROJECT = "counter-deploy"
FORMAT = 1
"""The format of what is saved. A program refuses newer ones."""
QUICK_SECONDS = 120
LONG_SECONDS = 3600
NO_REPOSITORY, LOCKED, WRONG_PASSWORD = 10, 11, 12
"""Exit codes of restic."""
LOCK_WAIT = "5m"
"""How long restic waits for somebody else's lock. One that is not renewed counts as left behind after 30 minutes."""
SHOWN_LINES = 3
UNPROVED_KEPT = 3
STACK, FORM, ID, COUNTERS, SUM, PROVED, BAD = "stack", "format", "id", "counters", "sum", "proved", "bad"
"""Names of the tags. ``proved`` and ``bad`` are also tags without a value, for which restic can be asked."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A backup in the repository. ``size`` in bytes; ``proved``, ``bad``: when it was last proved or found bad."""

    id: str
    stack: str
    format: int
    time: str
    size: int
    counters: int
    sum: int
    proved: str
    bad: str
    snapshot: str


class Repository:
    """The repository of a plan."""

    def __init__(self, plan: Plan) -> None:
        """Take where it is; nothing is asked yet."""
        self._plan = plan
        self._password = plan.passwords[0]
        self._files = plan.work / "restic"

    def open(self, *, create: bool) -> bool:
        """Find out whether the repository can be used; return whether it was made now.

        A password that was replaced is replaced in the repository, too. Locks of runs that have ended are removed.

        Raises:
            BackupError: it is not there, or cannot be used.

        """
        made = False
        status, said = self._try(["cat", "config"], QUICK_SECONDS)
        if status == WRONG_PASSWORD and len(self._plan.passwords) > 1:
            self._change_password()
            status, said = self._try(["cat", "config"], QUICK_SECONDS)
        if status == NO_REPOSITORY and create:
            self._run(["init"], QUICK_SECONDS)
            made = True
        elif status:
            raise self._error(status, said)
        self._run(["unlock"], QUICK_SECONDS)
        return made

    def save(self, directory: Path, tags: Sequence[str]) -> None:
        """Save a directory; returns when the repository has all of it."""
        self._run(["backup", "--quiet", "--host", self._plan.stack, *_tags(tags), "."], LONG_SECONDS, cwd=directory)

    def backups(self) -> list[Saved]:
        """Return the backups of all stacks, the oldest first; raises BackupError if there is something else only."""
        snapshots: list[dict[str, Any]] = json.loads(self._run(["snapshots", "--json"], QUICK_SECONDS))
        ours = [_saved(snapshot) for snapshot in snapshots if PROJECT in (snapshot.get("tags") or [])]
        if snapshots and not ours:
            raise BackupError(f"{self._shown} holds {len(snapshots)} snapshots of something else, and no backup")
        return sorted(ours, key=lambda saved: saved.id)

    def find(self, wanted: str) -> Saved:
        """Return the backup with an id, or with ``latest`` the newest one of the stack that is not bad."""
        saved = self.backups()
        if wanted == "latest":
            found = [one for one in saved if one.stack == self._plan.stack and not one.bad]
        else:
            found = [one for one in saved if one.id == wanted]
        if not found:
            newest = ", ".join(f"{one.id} of {one.stack}" for one in saved[-3:]) or "none"
            raise BackupError(f"no backup {wanted} of {self._plan.stack} in {self._shown}; the newest are: {newest}")
        if found[-1].format > FORMAT:
            raise BackupError(
                f"backup {found[-1].id} has format {found[-1].format}, and this version reads format {FORMAT} at most: "
                "use the version of the project that made it, or a later one"
            )
        return found[-1]

    def fetch(self, saved: Saved, directory: Path) -> None:
        """Write the files of a backup below a directory; raises BadBackupError if a part is damaged or missing."""
        status, said = self._try(["restore", "--quiet", saved.snapshot, "--target", str(directory)], LONG_SECONDS)
        if status in {NO_REPOSITORY, LOCKED, WRONG_PASSWORD}:
            raise self._error(status, said)
        if status:
            raise BadBackupError(f"backup {saved.id} cannot be read back from {self._shown}: {_last(said)}")

    def file(self, saved: Saved, path: str) -> str:
        """Return the text of one file of a backup."""
        return self._run(["dump", saved.snapshot, path], LONG_SECONDS)

    def files(self, saved: Saved, below: str) -> list[str]:
        """Return the paths of the files below a directory of a backup."""
        listed = self._run(["ls", "--json", "--recursive", saved.snapshot, below], QUICK_SECONDS)
        nodes = [json.loads(line) for line in listed.splitlines()]
        return [node["path"] for node in nodes if node.get("type") == "file"]

    def mark(self, saved: Saved, verdict: str, time: str) -> None:
        """Note that a backup was ``proved`` or is ``bad``, instead of what was noted before."""
        former = [f"{name}={value}" for name, value in ((PROVED, saved.proved), (BAD, saved.bad)) if value]
        removed = [option for tag in [*former, PROVED, BAD] for option in ("--remove", tag)]
        self._run(["tag", *removed, "--add", verdict, "--add", f"{verdict}={time}", saved.snapshot], QUICK_SECONDS)

    def forget(self) -> None:
        """Remove what the plan does not keep. Of backups that are not proved, the newest three stay."""
        if not self._plan.keep:
            return
        policy = [text for unit, number in self._plan.keep.items() for text in (f"--keep-{unit}", str(number))]
        tags = f"{PROJECT},{STACK}={self._plan.stack},{PROVED}"
        self._run(["forget", "--quiet", "--group-by", "", "--tag", tags, *policy], QUICK_SECONDS)
        unproved = [saved for saved in self.backups() if saved.stack == self._plan.stack and not saved.proved]
        if rest := [saved.snapshot for saved in unproved[:-UNPROVED_KEPT]]:
            self._run(["forget", "--quiet", *rest], QUICK_SECONDS)
        self._run(["prune", "--quiet"], LONG_SECONDS)

    def check(self) -> None:
        """Read the whole repository; raises BadBackupError if a part is damaged or missing."""
        status, said = self._try(["check", "--read-data", "--quiet"], LONG_SECONDS)
        if status in {NO_REPOSITORY, LOCKED, WRONG_PASSWORD}:
            raise self._error(status, said)
        if status:
            raise BadBackupError(f"{self._shown} is damaged: {_last(said)}")

    @property
    def _shown(self) -> str:
        """The repository without a password that its address may hold."""
        return f"the repository {re.sub(r'//[^@/]*@', '//***@', self._plan.repository)}"

    def _run(self, arguments: Sequence[str], seconds: float, cwd: Path | None = None) -> str:
        status, said = self._try(arguments, seconds, cwd)
        if status:
            raise self._error(status, said)
        return said

    def _try(self, arguments: Sequence[str], seconds: float, cwd: Path | None = None) -> tuple[int, str]:
        """Return the exit code, and what restic printed: the result, or what was wrong."""
        options = ["--retry-lock", LOCK_WAIT]
        if self._plan.repository.startswith("sftp:"):
            options += ["--option", f"sftp.args={self._ssh_arguments()}"]
        environ = (
            os.environ
            | dict(self._plan.environment)
            | {
                "RESTIC_REPOSITORY": self._plan.repository,
                "RESTIC_PASSWORD": self._password,
                "RESTIC_CACHE_DIR": str(self._plan.work / "cache"),
            }
        )
        try:
            done = subprocess.run(
                ["restic", *options, *arguments],
                capture_output=True,
                text=True,
                timeout=seconds,
                env=environ,
                cwd=cwd,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return 1, f"no answer within {seconds:.0f} s"
        return done.returncode, done.stderr if done.returncode else done.stdout

    def _ssh_arguments(self) -> str:
        """Return the options of ssh, after writing the files that they name."""
        self._files.mkdir(mode=0o700, exist_ok=True)
        for name, text in (("key", self._plan.ssh_key), ("known_hosts", self._plan.known_hosts)):
            path = self._files / name
            path.touch(mode=0o600)
            path.write_text(text.rstrip() + "\n", "utf-8")
        return f"-i {self._files}/key -o UserKnownHostsFile={self._files}/known_hosts -o BatchMode=yes"

    def _change_password(self) -> None:
        """Let the repository take the newest password instead of a former one; raises BackupError."""
        for former in self._plan.passwords[1:]:
            self._password = former
            with tempfile.NamedTemporaryFile("w", dir=self._plan.work, encoding="utf-8") as file:
                file.write(self._plan.passwords[0])
                file.flush()
                status, said = self._try(["key", "passwd", "--new-password-file", file.name], QUICK_SECONDS)
            self._password = self._plan.passwords[0]
            if status not in {0, WRONG_PASSWORD}:
                raise self._error(status, said)

    def _error(self, status: int, said: str) -> BackupError:
        match status:
            case 10:
                return BackupError(f"{self._shown} does not exist")
            case 11:
                return BackupError(f"{self._shown} is locked by another program: {_last(said)}")
            case 12:
                return BackupError(f"the password does not open {self._shown}")
            case _:
                return BackupError(f"{self._shown}: {_last(said)}")


def _saved(snapshot: dict[str, Any]) -> Saved:
    tags = dict(tag.partition("=")[::2] for tag in snapshot["tags"] if "=" in tag)
    return Saved(
        id=tags.get(ID, ""),
        stack=tags.get(STACK, ""),
        format=int(tags.get(FORM, "0")),
        time=snapshot["time"],
        size=int(snapshot.get("summary", {}).get("total_bytes_processed", 0)),
        counters=int(tags.get(COUNTERS, "0")),
        sum=int(tags.get(SUM, "0")),
        proved=tags.get(PROVED, ""),
        bad=tags.get(BAD, ""),
        snapshot=snapshot["id"],
    )


def _tags(tags: Iterable[str]) -> list[str]:
    return [option for tag in tags for option in ("--tag", tag)]


def _last(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return "; ".join(lines[-SHOWN_LINES:]) or "restic said nothing"
