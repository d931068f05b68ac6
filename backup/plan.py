"""What a backup needs to know besides ``COUNTER_*``: one document, which the deployment writes (roles/backup)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Plan:
    """Where backups of which stack go, when, and for how long.

    ``repository``: as restic writes it. ``copy_repository``: another one, to which what is proved is copied; empty:
    none. ``passwords``: of both, the newest first. ``environment``: variables for restic, for example the keys of S3.
    ``environment_files``: variables for restic that name a file, with its text. ``ssh_key``, ``known_hosts``: text for
    sftp. ``schedule``: a cron expression, in UTC; empty: none. ``keep``: how many of ``last``, ``hourly``, ``daily``,
    ... stay; empty: all.
    ``log_seconds``: how often changes go to the repository; 0: never. ``log_days``: how long they stay there.
    ``report_url``: receives the result of each run of the schedule, and when the log stops or goes on.
    ``heartbeat_url``: is called while the last backup and the log are good. ``redis_user``, ``redis_password``: may
    copy the data of nodes.
    """

    stack: str
    repository: str
    passwords: tuple[str, ...] = field(repr=False)
    copy_repository: str = ""
    copied_from: str = ""
    """In the plan of the copies (``second``): the repository that they are made from."""
    version: str = ""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    environment_files: Mapping[str, str] = field(default_factory=dict, repr=False)
    ssh_key: str = field(default="", repr=False)
    known_hosts: str = ""
    schedule: str = ""
    keep: Mapping[str, int] = field(default_factory=dict)
    log_seconds: int = 0
    log_days: int = 7
    report_url: str = field(default="", repr=False)
    heartbeat_url: str = field(default="", repr=False)
    redis_user: str = "backup"
    redis_password: str = field(default="", repr=False)
    work: Path = Path("/work")
    """A directory of the program's own, on a disk."""
    state: Path = Path("/state")
    """The state directory of the stack, which is a part of each backup."""
    answer_seconds: float = 60
    """How long the repository may take to answer the first question."""
    lock_seconds: int = 300
    """How long to wait for locks of other programs. A lock that is not renewed is stale after 30 minutes."""
    late_seconds: int = 10 * 60
    """For how long changes may stay out of the repository, at least: three times ``log_seconds`` if that is longer."""
    retry_seconds: int = 15 * 60
    """How long after a backup of the schedule failed to try again."""

    @property
    def site(self) -> str:
        """The id of the stack's counters; empty if an earlier version deployed the stack."""
        path = self.state / "site"
        return path.read_text("utf-8").strip() if path.exists() else ""

    @property
    def second(self) -> Plan:
        """The plan of the repository with the copies."""
        return replace(self, repository=self.copy_repository, copy_repository="", copied_from=self.repository)

    @property
    def files(self) -> Path:
        """The directory for the files of a run, which is emptied when the next one begins."""
        return self.work / "files"

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> Plan:
        """Read the document in ``BACKUP_PLAN``, or the secret ``backup.json``."""
        values = json.loads(environ.get("BACKUP_PLAN") or Path("/run/secrets/backup.json").read_text("utf-8"))
        paths = {key: Path(values[key]) for key in ("work", "state") if key in values}
        return cls(**values | paths | {"passwords": tuple(values["passwords"])})
