"""The log of changes: the counters when it began and every change since, taken to the repository while clients count.

It has a stream of each primary (``N.aof``), the state directory, and ``log.json``. Each moment from ``began`` to
``until`` can be restored: what was acknowledged before it, and at most what arrived within the second after it. Changes
that arrive late on a busy machine, between two uploads, belong to a later moment.
"""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from backup import newest
from backup.content import STATE, Content, Manifest, empty, is_unfinished, room
from backup.errors import BackupError, BadBackupError
from backup.plan import Plan
from backup.processes import TIMED_OUT, ended, run
from backup.repository import Repository
from backup.saved import BEGAN, FORM, FORMAT, ID, LOG_ID, MOMENT, STACK, UNTIL, Log, next_id
from backup.snapshot import CATCH_UP_SECONDS, Nodes
from backup.stream import LEAST_CHANGES, BrokenError, Stream
from counter.config import Address, Config
from counter.store import open_route
from counter.store.primaries import Primaries

_log = logging.getLogger(__name__)

DIRECTORY = "log"
"""Below ``work``."""
ABOUT = "log.json"
ATTEMPTS = 5
COPIES = 3
"""How much room to leave, in copies of the data: a log begins anew when its changes take as much as its copy."""
CUT_SECONDS = 300


class Recording:
    """A log that is being written."""

    def __init__(self, config: Config, plan: Plan, repository: Repository) -> None:
        """Copy the data of all primaries and follow them.

        Raises:
            BackupError, UnavailableError, OSError: a node is not ready.

        """
        self._config, self._plan = config, plan
        self._refuse_unfinished()
        self._nodes = Nodes(config, plan, open_route(config))
        self._ending = ExitStack()
        self._streams: dict[Address, Stream] = {}
        self.id = next_id(LOG_ID, datetime.now(UTC), (log.log for log in repository.logs() if log.stack == plan.stack))
        self._homes = self._nodes.homes([])
        holders = self._nodes.holders(self._homes.values())
        room(plan.work, COPIES * sum(holder.used for holder in holders))
        self._directory = empty(plan.work / DIRECTORY / self.id)
        try:
            for number, holder in enumerate(holders, 1):
                if holder.node == holder.primary and config.replicas_per_primary:
                    raise BackupError(f"{holder.primary} has no replica that has caught up")
                path = self._directory / f"{number}.aof"
                stream = Stream(holder.node, plan.redis_user, plan.redis_password, config.ca_file, path)
                self._ending.callback(stream.close)
                stream.start()
                self._streams[holder.primary] = stream
            self._copied = self._size
            self._reach()
        except BaseException:
            self.close()
            raise
        # Moments are whole seconds. The present one began before the copy.
        self._began = self._until = int(time.time()) + 1
        time.sleep(1)

    def save(self, repository: Repository) -> datetime:
        """Save all that was acknowledged before this call; return the moment until which that is.

        Raises:
            BrokenError: something else happened than changes.
            BackupError: the repository cannot be used, or changes arrive late; the next call can save everything.

        """
        self._refuse_unfinished()
        self._refuse_change()
        until = self._until = self._reached()
        for stream in self._streams.values():
            stream.end_second(until)
        # A slot that moves may be missing in the stream of its new primary, and gone from that of the old one.
        self._refuse_change()
        moments = {BEGAN: _shown(self._began), UNTIL: _shown(until)}
        about = {"stack": self._plan.stack, "version": self._plan.version, "topology": self._config.topology} | moments
        (self._directory / ABOUT).write_text(json.dumps(about) + "\n", "utf-8")
        empty(self._directory / STATE).rmdir()
        Content(self._directory).add_state(self._plan.state)
        labels = {STACK: self._plan.stack, FORM: FORMAT, ID: self.id} | moments
        repository.save_log(self._directory, datetime.fromtimestamp(until, UTC), labels)
        return datetime.fromtimestamp(until, UTC)

    @property
    def is_long(self) -> bool:
        """Whether the changes take so much room that a new copy takes less."""
        return self._size - self._copied > max(self._copied, LEAST_CHANGES)

    def close(self) -> None:
        """Stop following, and remove the files."""
        self._ending.close()
        shutil.rmtree(self._directory, ignore_errors=True)

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

    def _refuse_change(self) -> None:
        if self._nodes.homes([]) != self._homes:
            raise BrokenError("a primary was replaced, or slots moved")

    @property
    def _size(self) -> int:
        return sum(path.stat().st_size for path in self._directory.glob("*.aof"))


def record_until(plan: Plan, config: Config, ended: threading.Event) -> None:
    """Record changes and save them every ``log_seconds`` until the end. What fails is logged, and tried again then."""
    primaries = Primaries(open_route(config))
    recording: Recording | None = None
    repository: Repository | None = None
    failure, saved = "", False
    while not ended.is_set():
        due = time.monotonic() + plan.log_seconds
        try:
            if repository is None:
                repository = newest.opened(primaries, plan, create=not saved)
                if others := repository.shared_with:
                    _log.warning("a former password still opens the repository", extra={"stacks": others})
                # Nodes to which the counters were moved do not know it.
                newest.write(primaries, repository, plan)
            recording = recording or Recording(config, plan, repository)
            until = recording.save(repository)
            saved = True
            newest.write_log(primaries, plan, until)
            if recording.is_long:
                recording = _anew(recording, repository, config, plan)
            if failure:
                _log.info("log of changes continues", extra={"until": _shown(until.timestamp())})
            failure = ""
        except Exception as error:  # noqa: BLE001  # nothing else would notice that the log has ended
            if failure != (failure := str(error) or type(error).__name__):
                _log.warning("log of changes interrupted", extra={"error": failure})
            # A password may have been replaced.
            repository = None
            if recording and isinstance(error, BrokenError):
                _log.warning("log of changes begins anew", extra={"error": failure})
                recording.close()
                recording = None
        ended.wait(due - time.monotonic())
    if recording:
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


def rebuild(plan: Plan, repository: Repository, log: Log, content: Content) -> None:
    """Write the content that the nodes had at the moment that is the log's id.

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
    content.add_parts(_cut(fetched, datetime.fromisoformat(log.id)), manifest)
    content.finish(manifest)
    empty(fetched)


def _cut(directory: Path, moment: datetime) -> Iterable[Path]:
    """Yield the files of the streams without what came after a moment."""
    for path in sorted(directory.glob("*.aof")):
        second = f"{moment.timestamp():.0f}"
        done = run(["redis-check-aof", "--truncate-to-timestamp", second, str(path)], CUT_SECONDS)
        if done.status < 0:
            how = f"took more than {CUT_SECONDS} s" if done.status == TIMED_OUT else ended(done.status)
            raise BackupError(f"{path.name} of the log could not be cut: redis-check-aof {how}")
        if done.status or "Successfully truncated" not in done.printed:
            said = (done.printed + done.said).strip().splitlines()
            raise BadBackupError(f"{path.name} of the log is damaged: {'; '.join(said[-2:])}")
        yield path
        path.unlink(missing_ok=True)


def _shown(second: float) -> str:
    return f"{datetime.fromtimestamp(second, UTC):{MOMENT}}"
