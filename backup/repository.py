"""The restic repository: what it holds, what is saved and read, what is proved, and what is removed."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backup.content import STATE, empty, room
from backup.errors import BackupError, BadBackupError, MissingError, UnreadableError
from backup.passwords import change_password
from backup.plan import Plan
from backup.processes import Done, locked
from backup.restic import (
    LONG_SECONDS,
    QUICK_SECONDS,
    Exit,
    Restic,
    is_damage,
    is_missing,
    last_lines,
    messages,
    says_nothing,
)
from backup.retention import outdated
from backup.saved import (
    BAD,
    HOLD,
    LOG,
    MOMENT,
    PROJECT,
    PROVED,
    SAFETY,
    SITE,
    Log,
    Saved,
    Snapshot,
    ending,
    listed,
    newest_snapshots,
)
from counter.entries import some

SPANS_SHOWN = 3
FETCH_ATTEMPTS = 5
LOOK_ATTEMPTS = 3
NODES_FILE = "redis/internal"
"""A file of the state directory: secrets of the stack's Redis nodes, the newest first."""


class Repository:
    """The repository of a plan: listed when it is opened, since each question to restic takes up to a second."""

    def __init__(self, plan: Plan) -> None:
        """Take where it is; nothing is asked yet."""
        self._plan = plan
        self._restic = Restic(plan, plan.passwords[0])
        self._all: list[Saved] = []
        self._logs: list[Log] = []
        self.shared_with: list[str] = []
        """Other stacks, for which a former password still opens the repository."""

    def open(self, *, create: bool = False) -> None:
        """Find out what the repository holds, or make it. Otherwise, nothing in it is changed.

        Raises:
            BackupError: it is not there, cannot be used, or holds something else only.

        """
        # Two programs that make a repository at the same time make one that cannot be opened.
        with locked(self._plan.work / "opening"):
            self._open(create=create)

    def _open(self, *, create: bool) -> None:
        for password in self._plan.passwords:
            self._restic = Restic(self._plan, password)
            done = self._look()
            if done.status != Exit.WRONG_PASSWORD:
                break
        if done.status == Exit.NO_REPOSITORY and create:
            # Equal parts of a file are then equal in both.
            options = ["--from-repo", self._plan.copied_from, "--copy-chunker-params"] if self._plan.copied_from else []
            self._restic.run(["init", *options], QUICK_SECONDS)
            return
        if done.status:
            raise self._restic.error(done)
        self._all, self._logs = listed(done.printed)
        if not (self._all or self._logs) and (foreign := len(json.loads(done.printed))):
            raise BackupError(f"{self._restic.shown} holds {foreign} snapshots of something else, and no backup")

    @property
    def shown(self) -> str:
        """What to call it in a message."""
        return self._restic.shown

    def renew_password(self) -> None:
        """Replace a password that was replaced in the plan; only one that is stored already may be the new one."""
        with locked(self._plan.work / "opening"):
            others = {one.stack for one in (*self._all, *self._logs)} - {self._plan.stack}
            self._restic, stays = change_password(self._restic, shared=bool(others))
            self.shared_with = sorted(others) if stays else []

    def stranger(self, *, is_known: bool = False) -> Saved | Log | None:
        """Return the newest backup or log of another stack that has the same name; None if there is none.

        An earlier version saved no id. What it saved is the own stack's if that ``is_known`` to use the repository, or
        if both store a secret of the Redis nodes.
        """
        # What a restore replaced has the id from before.
        found: list[Saved | Log] = [*(saved for saved in self.backups() if not saved.replaced), *self.logs()]
        own = [one for one in found if one.stack == self._plan.stack]
        tagged = [one for one in own if one.site]
        if strangers := [one for one in tagged if one.site != self._plan.site]:
            return strangers[-1]
        if tagged or not own or is_known or self._has_own_secret(own[-1]):
            return None
        return own[-1]

    def _has_own_secret(self, saved: Saved | Log) -> bool:
        done = self._restic.attempt(["dump", "--no-lock", saved.snapshot, f"/{STATE}/{NODES_FILE}"], QUICK_SECONDS)
        path = self._plan.state / NODES_FILE
        return path.exists() and not set(path.read_text("utf-8").split()).isdisjoint(done.printed.split())

    def save(self, directory: Path, began: datetime, labels: Mapping[str, object]) -> Saved:
        """Save a backup from a directory; returns when the repository has all of it."""
        saved = Saved.read(self._save(directory, began, ["--force"], [], labels))
        self._all.append(saved)
        return saved

    def save_log(self, directory: Path, until: datetime, labels: Mapping[str, object]) -> None:
        """Save a log from a directory. It replaces what the repository had of it, except the last time's.

        A program that lists the repository at this moment may not see the new one yet.
        """
        # Segments that the former snapshot has are not read again.
        saved = Log.read(self._save(directory, until, [], [LOG], labels))
        self._logs.append(saved)
        former = [log for log in self._logs if log.log == saved.log][:-2]
        if not former:
            return
        done = self._restic.once(["forget", "--quiet", *(log.snapshot for log in former)], QUICK_SECONDS)
        if not done.status:
            self._logs = [log for log in self._logs if log not in former]
        elif done.status == Exit.LOCKED:
            # Tried again the next time. By then, this may have removed the lock of a program that has died.
            self._restic.once(["unlock"], QUICK_SECONDS)

    def _save(
        self, directory: Path, time: datetime, options: list[str], tags: list[str], labels: Mapping[str, object]
    ) -> dict[str, Any]:
        """Save a directory; return what ``restic snapshots`` tells of it."""
        labels = dict(labels) | ({SITE: self._plan.site} if self._plan.site else {})
        tags = [PROJECT, *tags, *(f"{name}={value}" for name, value in labels.items())]
        options = [*options, "--host", self._plan.stack, "--time", f"{time:%Y-%m-%d %H:%M:%S}"]
        options += [option for tag in tags for option in ("--tag", tag)]
        backup = ["backup", "--json", "--quiet", *options, "."]
        printed = self._restic.run(backup, LONG_SECONDS, cwd=directory)
        (summary,) = messages(printed, "summary")
        return {"id": summary["snapshot_id"], "time": f"{time:{MOMENT}}", "tags": tags, "summary": summary}

    def copy(self, wanted: Sequence[Saved | Log]) -> None:
        """Copy backups and logs from the repository that the plan of the copies names.

        Raises:
            BackupError: not all are here; the next call can copy the others.

        """
        self._restic.run(["copy", "--quiet", *(one.snapshot for one in wanted)], LONG_SECONDS)
        self._open(create=False)
        here = {one.identity for one in self._all} | {log.identity for log in self._logs}
        if missing := [one.id for one in wanted if one.identity not in here]:
            raise BackupError(f"not copied to {self.shown}, perhaps since they were removed meanwhile: {some(missing)}")

    def backups(self) -> list[Saved]:
        """Return the backups of all stacks, the oldest first."""
        # A change of tags that was interrupted leaves the former snapshot beside the new one.
        newest = newest_snapshots(self._all)
        return [newest[identity] for identity in sorted(newest)]

    def find(self, wanted: str) -> Saved:
        """Return the backup with an id; with ``latest``, the newest proved one of the stack that no restore made.

        A repeated restore then finds the same one. Backups that have less of a counter than an earlier one are passed
        over if there is another. ``STACK/ID`` and ``STACK/latest`` are those of another stack.
        """
        stack, _, wanted = wanted.rpartition("/")
        saved, owner = self.backups(), stack or self._plan.stack
        if wanted == "latest":
            found = [one for one in saved if one.proved and not one.replaced and one.stack == owner]
            found = [one for one in found if not one.less_than] or found
        else:
            found = [one for one in saved if one.id == wanted and stack in {"", one.stack}]
        if not found:
            shown = [f"{one.id} of {one.stack}{'' if one.proved else ' (not proved)'}" for one in saved[-3:]]
            what = "proved backup" if wanted == "latest" else f"backup {wanted}"
            raise BackupError(
                f"no {what} of {owner} in {self._restic.shown}; the newest are: {', '.join(shown) or 'none'}"
            )
        return self._own(found, wanted)

    def poorer(self, saved: Saved) -> list[str]:
        """Return the ids of later proved backups of its stack that have less of a counter."""
        later = [one for one in self.backups() if one.stack == saved.stack and one.id > saved.id]
        return [one.id for one in later if one.proved and one.less_than]

    def logs(self) -> list[Log]:
        """Return the logs of all stacks that reach any moment, the oldest first."""
        # A log that could not be forgotten is there as it is now and as it was.
        logs = [log for log in newest_snapshots(self._logs).values() if log.began <= log.until]
        logs.sort(key=lambda log: log.log)
        return [ending(log, logs[number:]) for number, log in enumerate(logs, 1)]

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
            raise BackupError(
                f"no log of {owner} in {self._restic.shown} reaches {wanted}; it has these: {spans or 'none'}"
            )
        return replace(self._own(found, wanted), id=wanted)

    def _own[S: Snapshot](self, found: list[S], wanted: str) -> S:
        """Return the newest one of the plan's stack or, if it has none, of the only other stack that has one."""
        found = [one for one in found if one.stack == self._plan.stack] or found
        if len(names := sorted({f"{one.stack}/{wanted}" for one in found})) > 1:
            raise BackupError(f"several stacks have {wanted}; choose one of them: {', '.join(names)}")
        newest = found[-1]
        if newest.format > newest.reads:
            raise BackupError(
                f"{newest.id} has format {newest.format}, and this version reads format {newest.reads} at most: "
                "use the version of the project that made it, or a later one"
            )
        return newest

    def size(self) -> int:
        """Return how many bytes the repository takes; 0 if it does not say so in time."""
        done = self._restic.attempt(["stats", "--json", "--no-lock", "--mode", "raw-data"], QUICK_SECONDS)
        return 0 if done.status else int(json.loads(done.printed)["total_size"])

    def fetch(self, saved: Saved | Log, directory: Path, *only: str) -> None:
        """Write the files of a backup or a log, or ``only`` these, below a directory.

        It needs no lock, so it also works where nothing can be written.

        Raises:
            BadBackupError: a part is damaged.
            UnreadableError: a part cannot be read now.
            BackupError: it was removed, the repository cannot be used, or the disk of this host is full.

        """
        room(directory, 0 if only else saved.size)
        paths = [option for path in only for option in ("--include", path)]
        snapshot, failed = saved.snapshot, ""
        for _ in range(FETCH_ATTEMPTS):
            restore = ["restore", "--quiet", "--no-lock", snapshot, "--target", str(directory), *paths]
            done = self._restic.attempt(restore, LONG_SECONDS)
            if not done.status:
                return
            # Neither a full disk nor a server that has gone says anything about the backup.
            room(directory, 0)
            if says_nothing(done) or (look := self._look()).status:
                raise self._restic.error(done if says_nothing(done) else look)
            backups, logs = listed(look.printed)
            if snapshot in {one.snapshot for one in (*backups, *logs)}:
                # The server may have been away while restic waited for a file.
                if snapshot != failed:
                    failed = snapshot
                    continue
                error = BadBackupError if is_damage(done) else MissingError if is_missing(done) else UnreadableError
                raise error(f"{saved.id} cannot be read back from {self._restic.shown}: {last_lines(done)}")
            # Another program has saved the log again, or judged the backup, and removed the former snapshot.
            newest: Saved | Log | None = (newest_snapshots(backups) | newest_snapshots(logs)).get(saved.identity)
            if not newest:
                raise BackupError(f"{saved.id} was removed from {self._restic.shown} meanwhile")
            snapshot = newest.snapshot
        raise BackupError(f"{saved.id} was replaced in {self._restic.shown} while it was read: try again later")

    def mark(self, saved: Saved, verdict: str) -> Saved:
        """Note that a backup was ``proved`` or is ``bad`` now, instead of what was noted before; return it so."""
        now = f"{datetime.now(UTC):{MOMENT}}"
        added = [SAFETY if saved.replaced and verdict == PROVED else verdict, f"{verdict}={now}"]
        former = [PROVED, BAD, SAFETY, f"{PROVED}={saved.proved}", f"{BAD}={saved.bad}"]
        # Restic removes a tag that is both added and removed.
        proved, bad = (now if verdict == each else "" for each in (PROVED, BAD))
        return self._tag(replace(saved, proved=proved, bad=bad), added, [tag for tag in former if tag not in added])

    def hold(self, saved: Saved, *, held: bool) -> Saved:
        """Let a backup stay until it is released, or release it; return it so."""
        tag = [f"{HOLD}=yes"]
        return self._tag(replace(saved, held=held), tag if held else [], [] if held else tag)

    def delete(self, saved: Saved) -> str:
        """Remove a backup; return why its room was not freed, empty if it was."""
        self._restic.run(["forget", "--quiet", saved.snapshot], QUICK_SECONDS)
        self._all = [one for one in self._all if one.snapshot != saved.snapshot]
        done = self._restic.attempt(["prune", "--quiet"], LONG_SECONDS)
        return str(self._restic.error(done)) if done.status else ""

    def _tag(self, saved: Saved, added: list[str], removed: list[str]) -> Saved:
        """Change the tags of a backup, which makes another snapshot of it; return it so."""
        options = [f"--add={tag}" for tag in added] + [f"--remove={tag}" for tag in removed]
        printed = self._restic.run(["tag", "--json", *options, saved.snapshot], QUICK_SECONDS)
        if not (changes := messages(printed, "changed")):
            if any(one.snapshot == saved.snapshot for one in listed(self._look().printed)[0]):
                return saved  # It has these tags: it was judged twice within a second, or is held already.
            raise BackupError(
                f"backup {saved.id} was removed from {self._restic.shown}, or judged by another program, meanwhile"
            )
        changed = replace(saved, snapshot=changes[0]["new_snapshot_id"])
        self._all = [changed if one.snapshot == saved.snapshot else one for one in self._all]
        return changed

    def forget(self, bad: Collection[Saved] = ()) -> str:
        """Remove what the plan does not keep, and these ``bad`` backups; return why no room was freed, empty if it was.

        Raises:
            BackupError: nothing was removed.

        """
        backups = [saved for saved in self.backups() if saved.stack == self._plan.stack]
        logs = [log for log in self.logs() if log.stack == self._plan.stack]
        kept = {one.snapshot for one in (*self.backups(), *self.logs())}
        doubles = [one for one in (*self._all, *self._logs) if one.stack == self._plan.stack]
        doubles = [one for one in doubles if one.snapshot not in kept]
        removed = [*outdated(backups, logs, self._plan, datetime.now(UTC)), *bad, *doubles]
        if removed:
            self._restic.run(["forget", "--quiet", *(one.snapshot for one in removed)], LONG_SECONDS)
        # Fails while a backup or a log needs what is missing.
        done = self._restic.attempt(["prune", "--quiet"], LONG_SECONDS)
        return str(self._restic.error(done)) if done.status else ""

    def check(self) -> list[str]:
        """Read the whole repository; return the damaged packs.

        Raises:
            BadBackupError: something else is damaged or missing; BackupError: the repository cannot be used.

        """
        done = self._restic.attempt(["check", "--read-data", "--json"], LONG_SECONDS)
        if says_nothing(done):
            raise self._restic.error(done)
        summary = next(iter(messages(done.printed, "summary")), {})
        packs = list(summary.get("broken_packs") or [])
        if (done.status or summary.get("num_errors")) and not packs:
            raise BadBackupError(f"{self._restic.shown} is damaged: {last_lines(done)}")
        return packs

    def repair(self, copies: Path, files: Path) -> list[str]:
        """Do without what is damaged or missing; return the ids of the stack's backups and logs that needed it.

        They are removed. New backups would refer to what they need, since restic saves nothing that the repository
        already has. Before anything changes, the snapshots, the index and the damaged packs are copied to the directory
        ``copies``. ``files``: a directory for what is read.

        Raises:
            BackupError: nothing can be read, which says nothing of what was saved; or the repository cannot be used.

        """
        everything: list[Saved | Log] = [*self.backups(), *self.logs()]
        own = [one for one in everything if one.stack == self._plan.stack]
        try:
            packs = self.check()
        except BadBackupError:  # something else than damaged packs
            packs = []
            self._refuse_unreadable(own, files)
        else:
            if not packs:
                return []
        for kind, those in (("snapshot", "snapshots"), ("index", "index")):
            (below := copies / those).mkdir(parents=True)
            for name in self._restic.run(["list", "--no-lock", those], QUICK_SECONDS).split():
                # One that is damaged cannot be copied.
                (below / name).write_text(self._restic.attempt(["cat", "--no-lock", kind, name], QUICK_SECONDS).printed)
        if packs:
            # Restic copies them to its working directory.
            self._restic.run(["repair", "packs", *packs], LONG_SECONDS, cwd=copies)
        # Forgets packs that are missing.
        self._restic.run(["repair", "index"], LONG_SECONDS)
        # What can only not be read now stays.
        lost = [one for one in own if isinstance(self._unreadable(one, files), (BadBackupError, MissingError))]
        if lost:
            self._restic.run(["forget", "--quiet", *(one.snapshot for one in lost)], LONG_SECONDS)
            self._open(create=False)
        return [one.id for one in lost]

    def _refuse_unreadable(self, own: Sequence[Saved | Log], files: Path) -> None:
        """Raise BackupError if nothing of this can be read: the storage may be well again later."""
        reason = None
        for one in own:
            reason = self._unreadable(one, files)
            if not reason or isinstance(reason, (BadBackupError, MissingError)):
                return
        if reason:
            raise BackupError(
                f"no backup can be read, perhaps since the storage is at fault, so nothing was repaired: {reason}"
            )

    def _unreadable(self, one: Saved | Log, files: Path) -> UnreadableError | None:
        """Return why a backup or a log cannot be read, None if it can; raises BackupError."""
        try:
            self.fetch(one, empty(files))
        except UnreadableError as error:
            return error
        finally:
            empty(files)
        return None

    def _look(self) -> Done:
        """Ask the repository for its snapshots, which needs no lock."""
        for _ in range(LOOK_ATTEMPTS):
            done = self._restic.attempt(["snapshots", "--json", "--no-lock"], self._plan.answer_seconds)
            # Restic lists names first. Of a backup that is judged at that moment, it then finds neither the former
            # snapshot nor the new one, and goes on without it.
            if 'Ignoring "' not in done.said:
                break
        return done
