"""The log of changes: the counters when it began and every change since, taken to the repository while clients count.

It has a stream of each primary (``N.K.aof``, ``backup.segments``), the state directory, and ``log.json``, which says
how much each stream has. Each moment from ``began`` to ``until`` can be restored: what was acknowledged before it, and
at most what arrived within the second after it. Changes that arrive late on a busy machine, between two uploads, belong
to a later moment.

After an interruption, such as a failover, each stream goes on where it ended if its node still has these changes. Then
the same files have another log, since the moments of the interruption are in none. Otherwise a copy begins new files.
The last moment of a log may be up to a second after the interruption; it has what arrived before that.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backup import newest
from backup.content import STATE, Content, Manifest, empty, is_unfinished, room
from backup.errors import BackupError, BadBackupError
from backup.plan import Plan
from backup.processes import TIMED_OUT, ended, run
from backup.repository import Repository
from backup.saved import BEGAN, FORM, ID, LOG_FORMAT, LOG_ID, MOMENT, STACK, UNTIL, Log, next_id
from backup.segments import Segments, joined
from backup.snapshot import CATCH_UP_SECONDS, Holder, Nodes
from backup.stream import LEAST_CHANGES, BrokenError, EndedError, Stream
from backup.watch import Watch
from counter.config import Address, Config
from counter.store import open_route
from counter.store.primaries import Primaries
from counter.store.types import StoreError

_log = logging.getLogger(__name__)

DIRECTORY = "log"
"""Below ``work``."""
ABOUT = "log.json"
ANEW = "anew"
"""The file in ``work`` that asks for a new log."""
ATTEMPTS = 5
COPIES = 3
"""How much room to leave, in copies of the data: a log begins anew when its changes take as much as its copy."""
CUT_SECONDS = 300
RETRY_SECONDS = 5.0
"""How long after an interruption to try again."""
POLL_SECONDS = 1.0
"""How often to look whether a stream has ended."""


class Recording:
    """A log that is being written."""

    def __init__(self, config: Config, plan: Plan, repository: Repository) -> None:
        """Copy the data of all primaries and follow them.

        Raises:
            BackupError, UnavailableError, OSError: a node is not ready, or holds other data than the stack's.

        """
        self._config, self._plan = config, plan
        self._refuse_unfinished()
        self._nodes = Nodes(config, plan, open_route(config))
        self._nodes.refuse_others()
        self._homes = self._nodes.homes()
        holders = self._nodes.holders(self._homes.values())
        room(plan.work, COPIES * sum(holder.used for holder in holders))
        self._directory = empty(plan.work / DIRECTORY / f"{time.time_ns()}")
        self._streams = {
            holder.primary: Stream(
                plan.redis_user, plan.redis_password, config.ca_file, Segments(self._directory, str(number))
            )
            for number, holder in enumerate(holders, 1)
        }
        try:
            self._follow(repository, holders)
        except BaseException:
            self.close()
            raise

    def _follow(self, repository: Repository, holders: Iterable[Holder]) -> None:
        """Follow what is not followed; then a log begins."""
        self._has_begun = False
        for holder in holders:
            stream = self._streams[holder.primary]
            if stream.is_following and stream.replication_id == holder.replication_id:
                continue
            is_replica = holder.node != holder.primary
            if not is_replica and self._config.replicas_per_primary:
                raise BackupError(f"{holder.primary} has no replica that has caught up")
            stream.follow(holder.node, holder.replication_id if is_replica else None)
        self._reach()
        # They may have been emptied before they were copied.
        self._nodes.refuse_others()
        former = (log.log for log in repository.logs() if log.stack == self._plan.stack)
        self.id = next_id(LOG_ID, datetime.now(UTC), former)
        # Moments are whole seconds. The present one began before the last change.
        self._began = self._until = self._saved = int(time.time()) + 1
        time.sleep(1)
        self._has_begun = True

    def save(self, repository: Repository) -> datetime:
        """Save all that was acknowledged before this call; return the moment until which that is.

        Raises:
            BrokenError: something else happened than changes.
            BackupError: the repository cannot be used, or changes arrive late; the next call can save everything.

        """
        self._refuse_unfinished()
        if self.is_interrupted:
            self.rescue(repository)
        successors = self._successors()
        if self.is_interrupted or any(former != primary for former, primary in successors.items()):
            self.rescue(repository)
            self._homes = {key: successors[primary] for key, primary in self._homes.items()}
            self._streams = {successors[primary]: stream for primary, stream in self._streams.items()}
            self._follow(repository, self._nodes.holders(successors.values()))
            _log.info("log of changes goes on after an interruption", extra={"began": _shown(self._began)})
        until = self._until = self._reached()
        streams = {name: stream.end_second(until) for name, stream in self._named}
        # A slot that moves may be missing in the stream of its new primary, and gone from that of the old one.
        if any(former != primary for former, primary in self._successors().items()):
            raise EndedError("a primary was replaced")
        return self._save(repository, until, streams)

    def rescue(self, repository: Repository) -> None:
        """Save what arrived until a stream ended, if that is more than what was saved: perhaps nothing else has it."""
        until = min(int(time.time()), *(stream.arrived for stream in self._streams.values()))
        if not self._has_begun or until <= self._saved:
            return
        if len(self._streams) > 1:
            # What moved to a primary that is not followed would be missing.
            self._successors()
        self._save(repository, until, {name: stream.end_segment() for name, stream in self._named})

    def _save(self, repository: Repository, until: int, streams: Mapping[str, Any]) -> datetime:
        moments = {BEGAN: _shown(self._began), UNTIL: _shown(until)}
        about = {"stack": self._plan.stack, "version": self._plan.version, "topology": self._config.topology}
        text = json.dumps(about | moments | {"streams": streams}, indent=1)
        (self._directory / ABOUT).write_text(text + "\n", "utf-8")
        empty(self._directory / STATE).rmdir()
        Content(self._directory).add_state(self._plan.state)
        labels = {STACK: self._plan.stack, FORM: LOG_FORMAT, ID: self.id} | moments
        repository.save_log(self._directory, datetime.fromtimestamp(until, UTC), labels)
        self._saved = until
        return datetime.fromtimestamp(until, UTC)

    @property
    def is_interrupted(self) -> bool:
        """Whether a stream has ended, so that moments are missing until all go on."""
        return not self._has_begun or not all(stream.is_following for stream in self._streams.values())

    @property
    def is_long(self) -> bool:
        """Whether the changes take so much room that a new copy takes less."""
        changed = sum(stream.changed for stream in self._streams.values())
        copied = sum(stream.copied for stream in self._streams.values())
        return changed > max(copied, LEAST_CHANGES)

    def close(self) -> None:
        """Stop following, and remove the files."""
        for stream in self._streams.values():
            stream.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def _named(self) -> Iterator[tuple[str, Stream]]:
        for stream in self._streams.values():
            yield stream.name, stream

    def _reached(self) -> int:
        """Return a second: what was acknowledged before it has arrived, and belongs to it or to an earlier one."""
        for _ in range(ATTEMPTS):
            second = int(time.time())
            if second < self._until:
                raise BrokenError("the clock was set back")
            self._reach()
            if time.time() < second + 1:
                return second
        raise BackupError("changes arrive too late to tell when they were made")

    def _reach(self) -> None:
        for primary, stream in self._streams.items():
            stream.reach(*self._nodes.position(primary), CATCH_UP_SECONDS)

    def _refuse_unfinished(self) -> None:
        if is_unfinished(self._plan.state):
            raise BrokenError("a restore is unfinished, so the nodes may hold only some of the counters")

    def _successors(self) -> dict[Address, Address]:
        """Return for each primary the one that has its slots now; raises BrokenError if slots moved to others."""
        pairs = set(zip(self._homes.values(), self._nodes.homes().values(), strict=True))
        successors = dict(pairs)
        if not len(pairs) == len(successors) == len(set(successors.values())):
            raise BrokenError("slots moved")
        return successors


class Recorder:
    """Records changes and saves them every ``log_seconds``. What fails is logged, and tried again."""

    def __init__(self, config: Config, plan: Plan, watch: Watch) -> None:
        """Take whose changes go where, and who is told of it."""
        self._config, self._plan, self._watch = config, plan, watch
        self._primaries = Primaries(open_route(config))
        self._repository: Repository | None = None
        self._recording: Recording | None = None
        self._failure, self._has_saved = "", False

    def run(self, ended: threading.Event) -> None:
        """Record until the end; then save what has arrived."""
        while not ended.is_set():
            due = time.monotonic() + self._plan.log_seconds
            was_recording = bool(self._recording)
            try:
                self._save()
            except Exception as error:  # noqa: BLE001  # nothing else would notice that the log has ended
                self._failed(error)
            again = time.monotonic() + (RETRY_SECONDS if self._failure else 0)
            while not ended.wait(max(0, min(POLL_SECONDS, due - time.monotonic()))) and time.monotonic() < due:
                if self._is_interrupted or (was_recording and not self._recording):
                    # Moments are missing until then, and perhaps nothing else has what arrived last.
                    due = min(due, again)
        self._close(at_end=True)

    @property
    def _is_interrupted(self) -> bool:
        return bool(self._recording and self._recording.is_interrupted)

    def _save(self) -> None:
        if not (repository := self._repository):
            self._repository = repository = newest.opened(self._primaries, self._plan, create=not self._has_saved)
            if others := repository.shared_with:
                _log.warning("a former password still opens the repository", extra={"stacks": others})
            # Nodes to which the counters were moved do not know it.
            newest.write(self._primaries, repository, self._plan)
        if (anew := self._plan.work / ANEW).exists():
            anew.unlink()
            raise BrokenError("what was restored from it differed from the counters")
        self._recording = recording = self._recording or Recording(self._config, self._plan, repository)
        until = recording.save(repository)
        self._has_saved = True
        self._watch.log_saved(shown := _shown(until.timestamp()))
        began = min(log.began for log in repository.logs() if log.stack == self._plan.stack)
        with suppress(StoreError):  # Redis may be full
            newest.add(self._primaries, self._plan, log_began=began, log_until=shown, log_failure="")
        if recording.is_long:
            self._recording = _anew(recording, repository, self._config, self._plan)
        if self._failure:
            _log.info("log of changes continues", extra={"until": shown})
        self._failure = ""

    def _failed(self, error: Exception) -> None:
        self._watch.log_failed(failure := _text(error))
        if self._failure != failure:
            _log.warning("log of changes interrupted", extra={"error": failure})
            self._failure = failure
            with suppress(StoreError):
                newest.add(self._primaries, self._plan, log_failure=failure)
                newest.add_failure(self._primaries, self._plan, f"change log: {failure}")
        if isinstance(error, BrokenError):
            _log.warning("log of changes begins anew", extra={"error": failure})
            self._close()
        if not self._is_interrupted:
            # A password may have been replaced.
            self._repository = None

    def _close(self, *, at_end: bool = False) -> None:
        """Save what has arrived, and remove the files."""
        recording, repository, self._recording = self._recording, self._repository, None
        if not recording:
            return
        try:
            if repository and at_end and not recording.is_interrupted:
                recording.save(repository)
            elif repository:
                recording.rescue(repository)
        except Exception as error:  # noqa: BLE001  # nothing else can be done
            _log.warning("the last changes were not saved", extra={"error": _text(error)})
        recording.close()


def _anew(recording: Recording, repository: Repository, config: Config, plan: Plan) -> Recording:
    """Begin a new log, and end one that is long without a gap between the two."""
    following = Recording(config, plan, repository)
    try:
        recording.save(repository)
    except BaseException:
        following.close()
        raise
    recording.close()
    return following


def begin_anew(plan: Plan) -> None:
    """Let the recorder begin with new copies: something is wrong with what it has."""
    (plan.work / ANEW).touch()


def rebuild(plan: Plan, repository: Repository, log: Log, content: Content) -> dict[str, int]:
    """Write the content that the nodes had at the moment that is the log's id; return the counters.

    Raises:
        BadBackupError: the log is damaged.
        BackupError: it does not hold this moment, or the repository cannot be used.

    """
    fetched = empty(plan.files / "log")
    repository.fetch(log, fetched)
    try:
        about = json.loads((fetched / ABOUT).read_text("utf-8"))
        manifest = Manifest(about["stack"], about["version"], about["topology"], log.id, log.id)
    except (OSError, ValueError, KeyError) as error:
        raise BadBackupError(f"a file of it is missing or damaged: {error}") from error
    streams = about.get("streams")
    # Before format 2, a stream was a file, and nothing said how many there were.
    files = (
        sorted(fetched.glob("*.aof")) if streams is None else (joined(fetched, *stream) for stream in streams.items())
    )
    counters = content.add_parts(_cut(files, datetime.fromisoformat(log.id)), manifest)
    content.finish(manifest)
    empty(fetched)
    return counters


def _cut(files: Iterable[Path], moment: datetime) -> Iterator[Path]:
    """Yield the files of the streams without what came after a moment."""
    for path in files:
        second = f"{moment.timestamp():.0f}"
        done = run(["redis-check-aof", "--truncate-to-timestamp", second, str(path)], CUT_SECONDS)
        if done.status < 0:
            how = f"took more than {CUT_SECONDS} s" if done.status == TIMED_OUT else ended(done.status)
            raise BackupError(f"{path.name} of the log could not be cut: redis-check-aof {how}")
        if done.status or not re.search("Successfully truncated|Truncate nothing", done.printed):
            said = (done.printed + done.said).strip().splitlines()
            raise BadBackupError(f"{path.name} of the log is damaged: {'; '.join(said[-2:])}")
        yield path
        path.unlink(missing_ok=True)


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__


def _shown(second: float) -> str:
    return f"{datetime.fromtimestamp(second, UTC):{MOMENT}}"
