"""The restic repository: what the program asks of restic, and what its failures mean."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from backup.content import empty, room
from backup.errors import BackupError, BadBackupError
from backup.plan import Plan
from backup.processes import TIMED_OUT, Done, ended, locked, run

PROJECT = "counter-deploy"
FORMAT = 1
"""The format of what is saved. A program refuses newer ones."""
MOMENT = "%Y-%m-%dT%H:%M:%SZ"
BACKUP_ID, LOG_ID = "%Y%m%dT%H%M%SZ", "%Y%m%dT%H%M%S.%fZ"
QUICK_SECONDS = 120
LONG_SECONDS = 3600
SHOWN_LINES = 3
SPANS_SHOWN = 3
UNPROVED_KEPT = 3
SSH_OPTIONS = ("BatchMode=yes", "ConnectTimeout=15", "ServerAliveInterval=15", "ServerAliveCountMax=4")
"""By itself, ssh waits for a dead connection for as long as restic may take."""
FETCH_ATTEMPTS = 5
LOOK_ATTEMPTS = 3
STACK, FORM, ID, COUNTERS, SUM, PROVED, BAD = "stack", "format", "id", "counters", "sum", "proved", "bad"
REPLACED, SAFETY = "replaced", "safety"
LOG, BEGAN, UNTIL = "log", "began", "until"
"""Names of the tags. ``proved``, ``bad`` and ``log`` are also tags without a value, for which restic can be asked.

A proved backup of what a restore replaced has ``safety`` instead of ``proved``, so that it takes the place of no other.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Something in the repository that can be restored. ``size`` in bytes."""

    id: str
    stack: str
    format: int
    size: int
    snapshot: str

    @property
    def name(self) -> str:
        """The name by which only this backup or log is found."""
        return f"{self.stack}/{self.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Log(Snapshot):
    """All changes from one moment to another. ``id`` is the moment to restore, by default the last one."""

    log: str
    began: str
    until: str

    @property
    def identity(self) -> tuple[str, str]:
        """What all snapshots of it have in common."""
        return self.log, self.stack

    @property
    def changed(self) -> str:
        """When it was last saved, which makes another snapshot of it."""
        return self.until


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved(Snapshot):
    """A backup. ``replaced``: whether a restore made it, of what it replaced.

    ``proved``, ``bad``: when it was last proved or found bad.
    """

    time: str
    counters: int
    sum: int
    replaced: bool
    proved: str
    bad: str

    @property
    def identity(self) -> tuple[str, str]:
        """What all snapshots of it have in common."""
        return self.id, self.stack

    @property
    def changed(self) -> str:
        """When it was last proved or found bad, which makes another snapshot of it."""
        return max(self.proved, self.bad)


def next_id(form: str, now: datetime, former: Iterable[str]) -> str:
    """Return an id in the form ``BACKUP_ID`` or ``LOG_ID``: the time, but later than the ids before it.

    They are in the future if the clock was ahead when they were made, and what is saved now would look older.
    """
    step = timedelta(seconds=1) if form == BACKUP_ID else timedelta(microseconds=1)
    times = [now]
    for one in former:
        with suppress(ValueError):  # somebody else wrote it
            times.append(datetime.strptime(one, form).replace(tzinfo=UTC) + step)
    return f"{max(times):{form}}"


class Exit(IntEnum):
    """Exit codes of restic that do not mean that a backup is bad."""

    TIMED_OUT = TIMED_OUT
    NO_REPOSITORY = 10
    LOCKED = 11
    WRONG_PASSWORD = 12


class Repository:
    """The repository of a plan: listed when it is opened, since each question to restic takes up to a second."""

    def __init__(self, plan: Plan) -> None:
        """Take where it is; nothing is asked yet."""
        self._plan = plan
        self._password = plan.passwords[0]
        self._all: list[Saved] = []
        self._logs: list[Log] = []
        self.shared_with: list[str] = []
        """Other stacks, for which a former password still opens the repository."""

    def open(self, *, create: bool, renew: bool = True) -> None:
        """Find out what the repository holds, or make it.

        With ``renew``, a password that was replaced is replaced in the repository, too: only if it is stored already.

        Raises:
            BackupError: it is not there, cannot be used, or holds something else only.

        """
        # Two programs that make a repository at the same time make one that cannot be opened.
        with locked(self._plan.work / "opening"):
            self._open(create=create, renew=renew)

    def _open(self, *, create: bool, renew: bool) -> None:
        for password in self._plan.passwords:
            self._password = password
            done = self._look()
            if done.status != Exit.WRONG_PASSWORD:
                break
        if done.status == Exit.NO_REPOSITORY and create:
            self._run(["init"], QUICK_SECONDS)
            return
        if done.status:
            raise self._error(done)
        self._all, self._logs = _listed(done)
        if not (self._all or self._logs) and (others := len(json.loads(done.printed))):
            raise BackupError(f"{self._shown} holds {others} snapshots of something else, and no backup")
        if renew:
            self._change_password()

    def save(self, directory: Path, began: datetime, labels: Mapping[str, object]) -> Saved:
        """Save a backup from a directory; returns when the repository has all of it."""
        saved = _saved(self._save(directory, began, [], labels))
        self._all.append(saved)
        return saved

    def save_log(self, directory: Path, until: datetime, labels: Mapping[str, object]) -> None:
        """Save a log from a directory. It replaces what the repository had of it, except the last time's.

        A program that lists the repository at this moment may not see the new one yet.
        """
        saved = _log(self._save(directory, until, [LOG], labels))
        self._logs.append(saved)
        former = [log for log in self._logs if log.log == saved.log][:-2]
        # Tried again the next time if another program uses the repository.
        if former and not self._restic(["forget", "--quiet", *(log.snapshot for log in former)], QUICK_SECONDS).status:
            self._logs = [log for log in self._logs if log not in former]

    def _save(self, directory: Path, time: datetime, tags: list[str], labels: Mapping[str, object]) -> dict[str, Any]:
        """Save a directory; return what ``restic snapshots`` tells of it."""
        tags = [PROJECT, *tags, *(f"{name}={value}" for name, value in labels.items())]
        options = ["--host", self._plan.stack, "--time", f"{time:%Y-%m-%d %H:%M:%S}"]
        options += [option for tag in tags for option in ("--tag", tag)]
        printed = self._run(["backup", "--json", "--quiet", "--force", *options, "."], LONG_SECONDS, cwd=directory)
        (summary,) = _messages(printed, "summary")
        return {"id": summary["snapshot_id"], "time": f"{time:{MOMENT}}", "tags": tags, "summary": summary}

    def backups(self) -> list[Saved]:
        """Return the backups of all stacks, the oldest first."""
        # A change of tags that was interrupted leaves the former snapshot beside the new one.
        newest = _newest(self._all)
        return [newest[identity] for identity in sorted(newest)]

    def find(self, wanted: str) -> Saved:
        """Return the backup with an id; with ``latest``, the newest proved one of the stack that no restore made.

        A repeated restore then finds the same one. ``STACK/ID`` and ``STACK/latest`` are those of another stack.
        """
        stack, _, wanted = wanted.rpartition("/")
        saved, owner = self.backups(), stack or self._plan.stack
        if wanted == "latest":
            found = [one for one in saved if one.proved and not one.replaced and one.stack == owner]
        else:
            found = [one for one in saved if one.id == wanted and stack in {"", one.stack}]
        if not found:
            shown = [f"{one.id} of {one.stack}{'' if one.proved else ' (not proved)'}" for one in saved[-3:]]
            what = "proved backup" if wanted == "latest" else f"backup {wanted}"
            raise BackupError(f"no {what} of {owner} in {self._shown}; the newest are: {', '.join(shown) or 'none'}")
        return self._own(found, wanted)

    def logs(self) -> list[Log]:
        """Return the logs of all stacks that reach any moment, the oldest first."""
        # A log that could not be forgotten is there as it is now and as it was.
        logs = [log for log in _newest(self._logs).values() if log.began <= log.until]
        logs.sort(key=lambda log: log.log)
        return [_ending(log, logs[number:]) for number, log in enumerate(logs, 1)]

    def at(self, moment: datetime | None, stack: str = "") -> Log:
        """Return the log that reaches a moment, with the moment as its id; without one, the last moment of the stack.

        With ``stack``, it is one of that stack.
        """
        logs, owner = self.logs(), stack or self._plan.stack
        own = [log for log in logs if log.stack == owner]
        wanted = f"{moment:{MOMENT}}" if moment else own[-1].until if own else "any moment"
        found = [log for log in logs if log.began <= wanted <= log.until and stack in {"", log.stack}]
        if not found:
            spans = ", ".join(f"{log.began} to {log.until} of {log.stack}" for log in (own or logs)[-SPANS_SHOWN:])
            raise BackupError(f"no log of {owner} in {self._shown} reaches {wanted}; it has these: {spans or 'none'}")
        return replace(self._own(found, wanted), id=wanted)

    def _own[S: Snapshot](self, found: list[S], wanted: str) -> S:
        """Return the newest one of the plan's stack or, if it has none, of the only other stack that has one."""
        found = [one for one in found if one.stack == self._plan.stack] or found
        if len(names := sorted({f"{one.stack}/{wanted}" for one in found})) > 1:
            raise BackupError(f"several stacks have {wanted}; choose one of them: {', '.join(names)}")
        return _readable(found[-1])

    def fetch(self, saved: Saved | Log, directory: Path, *only: str) -> None:
        """Write the files of a backup or a log, or ``only`` these, below a directory.

        Raises:
            BadBackupError: a part is damaged or missing.
            BackupError: the repository cannot be used, it was removed, or the disk of this host is full.

        """
        room(directory, 0 if only else saved.size)
        paths = [option for path in only for option in ("--include", path)]
        snapshot, failed = saved.snapshot, ""
        for _ in range(FETCH_ATTEMPTS):
            done = self._try(["restore", "--quiet", snapshot, "--target", str(directory), *paths], LONG_SECONDS)
            if not done.status:
                return
            # Neither a full disk nor a server that has gone says anything about the backup.
            room(directory, 0)
            if _says_nothing(done) or (look := self._look()).status:
                raise self._error(done if _says_nothing(done) else look)
            backups, logs = _listed(look)
            if snapshot in {one.snapshot for one in (*backups, *logs)}:
                # The server may have been away while restic waited for a file.
                if snapshot != failed:
                    failed = snapshot
                    continue
                raise BadBackupError(f"{saved.id} cannot be read back from {self._shown}: {_last(done.said)}")
            # Another program has saved the log again, or judged the backup, and removed the former snapshot.
            newest: Saved | Log | None = (_newest(backups) | _newest(logs)).get(saved.identity)
            if not newest:
                raise BackupError(f"{saved.id} was removed from {self._shown} meanwhile")
            snapshot = newest.snapshot
        raise BackupError(f"{saved.id} was replaced in {self._shown} while it was read: try again later")

    @contextmanager
    def judging(self, saved: Saved) -> Iterator[None]:
        """Mark a backup as bad if the block finds it so."""
        try:
            yield
        except BadBackupError:
            self.mark(saved, BAD)
            raise

    def mark(self, saved: Saved, verdict: str) -> Saved:
        """Note that a backup was ``proved`` or is ``bad`` now, instead of what was noted before; return it so."""
        now = f"{datetime.now(UTC):{MOMENT}}"
        added = [SAFETY if saved.replaced and verdict == PROVED else verdict, f"{verdict}={now}"]
        former = [PROVED, BAD, SAFETY, f"{PROVED}={saved.proved}", f"{BAD}={saved.bad}"]
        # Restic removes a tag that is both added and removed.
        options = [option for tag in added for option in ("--add", tag)]
        options += [option for tag in former if tag not in added for option in ("--remove", tag)]
        printed = self._run(["tag", "--json", *options, saved.snapshot], QUICK_SECONDS)
        if not (changes := _messages(printed, "changed")):
            raise BackupError(
                f"backup {saved.id} was removed from {self._shown}, or judged by another program, meanwhile"
            )
        proved, bad = (now if verdict == each else "" for each in (PROVED, BAD))
        marked = replace(saved, proved=proved, bad=bad, snapshot=changes[0]["new_snapshot_id"])
        self._all[self._all.index(saved)] = marked
        return marked

    def forget(self) -> str:
        """Remove what the plan does not keep, and bad backups; of those neither proved nor bad, the newest three stay.

        Returns why its room could not be freed; empty if it was.
        """
        backups = [saved for saved in self.backups() if saved.stack == self._plan.stack]
        unproved = [saved.snapshot for saved in backups if not saved.proved and not saved.bad][:-UNPROVED_KEPT]
        unproved = unproved if self._plan.keep else []
        # While one of them needs a file that is missing, restic frees no room at all.
        proved = max((saved.id for saved in backups if saved.proved), default="")
        bad = [saved.snapshot for saved in backups if saved.bad and saved.id < proved]
        kept = {saved.snapshot for saved in backups} | {log.snapshot for log in self.logs()}
        doubles = [
            one.snapshot
            for one in (*self._all, *self._logs)
            if one.stack == self._plan.stack and one.snapshot not in kept
        ]
        forget = ["forget", "--quiet"]
        if rest := bad + unproved + doubles:
            self._run([*forget, *rest], LONG_SECONDS)
        policies = {
            PROVED: [text for unit, number in self._plan.keep.items() for text in (f"--keep-{unit}", str(number))],
            LOG: (recent := ["--keep-within", f"{self._plan.log_days}d"]),
            SAFETY: recent if self._plan.keep else [],
        }
        for kind, policy in policies.items():
            if policy:
                tags = f"{PROJECT},{STACK}={self._plan.stack},{kind}"
                self._run([*forget, "--group-by", "", "--tag", tags, *policy], LONG_SECONDS)
        # Fails while a backup or a log needs what is missing.
        done = self._try(["prune", "--quiet"], LONG_SECONDS)
        return str(self._error(done)) if done.status else ""

    def forget_bad_logs(self, directory: Path) -> None:
        """Remove the stack's logs that cannot be read back, with a directory for their files."""
        for log in self.logs():
            try:
                if log.stack == self._plan.stack:
                    self.fetch(log, empty(directory))
            except BadBackupError:
                self._run(["forget", "--quiet", log.snapshot], LONG_SECONDS)
                self._logs = [one for one in self._logs if one.snapshot != log.snapshot]
        empty(directory)

    def check(self) -> None:
        """Read the whole repository; raises BadBackupError if a part is damaged or missing."""
        done = self._try(["check", "--read-data", "--quiet"], LONG_SECONDS)
        if _says_nothing(done):
            raise self._error(done)
        if done.status:
            raise BadBackupError(f"{self._shown} is damaged: {_last(done.said)}")

    def repair(self) -> bool:
        """Remove damaged packs, so that the next backup saves again what they held; return whether there is any damage.

        Otherwise it would refer to them, since restic saves nothing that the repository already has.
        """
        done = self._try(["check", "--read-data", "--json"], LONG_SECONDS)
        if _says_nothing(done):
            raise self._error(done)
        summary = next(iter(_messages(done.printed, "summary")), {})
        if not summary.get("num_errors"):
            return False
        if packs := summary.get("broken_packs"):
            # Restic copies them to its working directory.
            self._run(["repair", "packs", *packs], LONG_SECONDS, cwd=self._plan.files)
        # Forgets packs that are missing.
        self._run(["repair", "index"], LONG_SECONDS)
        return True

    @property
    def _shown(self) -> str:
        """The repository without a password that its address may hold."""
        return f"the repository {re.sub(r'//[^@/]*@', '//***@', self._plan.repository)}"

    def _look(self) -> Done:
        """Ask the repository for its snapshots, which needs no lock."""
        for _ in range(LOOK_ATTEMPTS):
            done = self._try(["snapshots", "--json", "--no-lock"], self._plan.answer_seconds)
            # Restic lists names first. Of a backup that is judged at that moment, it then finds neither the former
            # snapshot nor the new one, and goes on without it.
            if 'Ignoring "' not in done.said:
                break
        return done

    def _run(self, arguments: Sequence[str], seconds: float, cwd: Path | None = None) -> str:
        done = self._try(arguments, seconds + self._plan.lock_seconds, cwd)
        if done.status:
            raise self._error(done)
        return done.printed

    def _try(self, arguments: Sequence[str], seconds: float, cwd: Path | None = None) -> Done:
        done = self._restic(arguments, seconds, cwd)
        if done.status == Exit.LOCKED:
            # Perhaps by a program that has died; this removes no other lock.
            self._restic(["unlock"], QUICK_SECONDS)
            done = self._restic(["--retry-lock", f"{self._plan.lock_seconds}s", *arguments], seconds, cwd)
        return done

    def _restic(self, arguments: Sequence[str], seconds: float, cwd: Path | None = None) -> Done:
        # Without a cache, what is proved was read from the repository.
        options = ["--no-cache"]
        if self._plan.repository.startswith("sftp:"):
            options += ["--option", f"sftp.args={self._ssh_arguments()}"]
        own = {"RESTIC_REPOSITORY": self._plan.repository, "RESTIC_PASSWORD": self._password, "TZ": "UTC"}
        # Its packs of 16 MB do not fit into /tmp.
        own["TMPDIR"] = str(self._plan.work)
        return run(["restic", *options, *arguments], seconds, os.environ | dict(self._plan.environment) | own, cwd)

    def _ssh_arguments(self) -> str:
        """Return the options of ssh, after writing the files that they name."""
        directory = self._plan.work / "ssh"
        directory.mkdir(mode=0o700, exist_ok=True)
        for name, text in (("key", self._plan.ssh_key), ("known_hosts", self._plan.known_hosts)):
            # Another run may be reading the file.
            with NamedTemporaryFile("w", dir=directory, encoding="utf-8", delete=False) as file:
                file.write(text.rstrip() + "\n")
            Path(file.name).replace(directory / name)
        options = (f"UserKnownHostsFile={directory}/known_hosts", *SSH_OPTIONS)
        return " ".join([f"-i {directory}/key", *(f"-o {option}" for option in options)])

    def _change_password(self) -> None:
        """Let the repository take the newest password and no former one, unless other stacks may use that.

        Raises:
            BackupError: the repository cannot be used.

        """
        newest, *formers = self._plan.passwords
        others = {one.stack for one in (*self._all, *self._logs)} - {self._plan.stack}
        if self._password != newest:
            with NamedTemporaryFile("w", dir=self._plan.work, encoding="utf-8") as file:
                file.write(newest)
                file.flush()
                self._run(["key", "add", "--new-password-file", file.name], QUICK_SECONDS)
        for former in formers:
            while former != newest and (key := self._key(former)):
                if others:
                    self.shared_with = sorted(others)
                    break
                self._run(["key", "remove", key], QUICK_SECONDS)
        self._password = newest

    def _key(self, password: str) -> str:
        """Return the id of a key that a password opens; empty if it opens none."""
        self._password = password
        done = self._try(["key", "list", "--json", "--no-lock"], QUICK_SECONDS)
        self._password = self._plan.passwords[0]
        if done.status not in {0, Exit.WRONG_PASSWORD}:
            raise self._error(done)
        return "" if done.status else next(key["id"] for key in json.loads(done.printed) if key["current"])

    def _error(self, done: Done) -> BackupError:
        match done.status:
            case Exit.NO_REPOSITORY:
                copy = "; if it is on a host that was the first manager before, copy it from there"
                return BackupError(f"{self._shown} does not exist{copy if self._plan.repository[0] == '/' else ''}")
            case Exit.LOCKED:
                holder = next((line for line in done.said.splitlines() if "already locked" in line), done.said)
                return BackupError(
                    f"{self._shown} is in use; try again later (the lock of a killed program lasts up to 30 minutes): "
                    f"{holder.partition('repository is ')[2] or holder.strip()}"
                )
            case Exit.WRONG_PASSWORD:
                return BackupError(f"the password does not open {self._shown}")
            case Exit.TIMED_OUT:
                tries = [line for line in done.said.splitlines() if "returned error" in line]
                return BackupError(f"{self._shown} does not answer in time: {tries[-1] if tries else _last(done.said)}")
            case status if status < 0:
                return BackupError(f"{self._shown}: restic {ended(status)}: {_last(done.said)}")
            case _:
                return BackupError(f"{self._shown}: {_last(done.said)}")


def _says_nothing(done: Done) -> bool:
    """Tell whether what restic did says nothing of the backups: it could not begin or finish, or was killed."""
    return done.status < 0 or done.status in set(Exit)


def _readable[S: Snapshot](found: S) -> S:
    if found.format > FORMAT:
        raise BackupError(
            f"{found.id} has format {found.format}, and this version reads format {FORMAT} at most: "
            "use the version of the project that made it, or a later one"
        )
    return found


def _tags(snapshot: dict[str, Any]) -> dict[str, str]:
    return dict(tag.partition("=")[::2] for tag in snapshot["tags"] if "=" in tag)


def _listed(look: Done) -> tuple[list[Saved], list[Log]]:
    """Return the snapshots of backups and of logs in what `Repository._look` got."""
    own = [snapshot for snapshot in json.loads(look.printed) if PROJECT in (snapshot.get("tags") or [])]
    logs = [_log(snapshot) for snapshot in own if LOG in snapshot["tags"]]
    return [_saved(snapshot) for snapshot in own if LOG not in snapshot["tags"]], logs


def _newest[S: (Saved, Log)](snapshots: Iterable[S]) -> dict[tuple[str, str], S]:
    """Return the newest snapshot of each backup or log."""
    return {one.identity: one for one in sorted(snapshots, key=lambda one: one.changed)}


def _ending(log: Log, later: Iterable[Log]) -> Log:
    """Return a log that ends where a later one of its stack begins: what it has after that came from a clock ahead.

    A log that begins before it may come from a clock that was behind, and ends nothing.
    """
    ends = [one.began for one in later if one.stack == log.stack and one.began >= log.began]
    until = min([log.until, *ends])
    return replace(log, id=until, until=until)


def _common(snapshot: dict[str, Any]) -> dict[str, Any]:
    tags = _tags(snapshot)
    return {
        "stack": tags.get(STACK, ""),
        "format": int(tags.get(FORM, "0")),
        "size": int(snapshot.get("summary", {}).get("total_bytes_processed", 0)),
        "snapshot": snapshot["id"],
    }


def _log(snapshot: dict[str, Any]) -> Log:
    tags = _tags(snapshot)
    until = tags.get(UNTIL, "")
    return Log(**_common(snapshot), id=until, log=tags.get(ID, ""), began=tags.get(BEGAN, ""), until=until)


def _saved(snapshot: dict[str, Any]) -> Saved:
    tags = _tags(snapshot)
    return Saved(
        **_common(snapshot),
        id=tags.get(ID, ""),
        time=snapshot["time"],
        counters=int(tags.get(COUNTERS, "0")),
        sum=int(tags.get(SUM, "0")),
        replaced=REPLACED in tags,
        proved=tags.get(PROVED, ""),
        bad=tags.get(BAD, ""),
    )


def _messages(printed: str, kind: str) -> list[dict[str, Any]]:
    """Return the messages of a kind among the lines that restic prints with ``--json``."""
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    return [line for line in lines if line.get("message_type") == kind]


def _last(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return "; ".join(lines[-SHOWN_LINES:]) or "restic said nothing"
