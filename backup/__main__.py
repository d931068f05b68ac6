"""``python -m backup [--copy] VERB [ID]``. With ``--copy``, it reads the copies instead of the backups.

- ``serve``: make backups by the schedule and take the changes since to the repository, until SIGTERM
- ``run [replaced|scheduled|confirmed|repaired]``: make a backup and prove it; prints it, with the id of an earlier one
  that has more of a counter (``less_than``) and these counters (``lower``). That stays so until a run is ``confirmed``.
  ``uncompared`` is the id of one that could not be read to compare it; the next run compares it. Then remove what is
  not kept, unless one of these is set; ``not_freed`` says what went wrong. ``shared_with`` names the other stacks for
  which a former password still opens the repository. With ``replaced``, a restore makes it of what it replaces:
  ``latest`` is never this one, and nothing is removed. With either of the first words, it waits for another
  run. With ``scheduled``, the log of changes is replayed and compared too; ``log_failure`` says what is wrong with it.
  With ``repaired``, the repository first does without what is damaged or missing; ``removed`` are the ids of what
  needed it, which standard error says too
- ``copy [repaired]``: copy what is proved to the second repository, prove it there, and remove there what is not kept;
  prints when the newest backup with a proved copy was made (``copied``), and ``shared_with`` and ``removed`` of there
- ``tidy``: only remove what is not kept; prints ``not_freed``
- ``change hold|unhold|delete ID``: let a backup stay, or no longer, or remove it; prints it
- ``list``: prints the ``backups`` of all stacks in the repository, and their ``logs``
- ``verify ID|all``: prove backups again; prints them
- ``whose``: if another stack of this name has backups or logs in the repository, prints the id of the ``newest`` and
  the ``backup`` that is ``latest``
- ``state WHAT``: prints ``backup``, ``manifest`` and ``files``, the texts of the stack's state directory; ``until``,
  the last moment that this stack has recorded, wherever it runs; and which later backups have less of a counter
  (``passed_over``)
- ``prepare WHAT``: fetch and prove it, so that ``restore`` takes less time
- ``restore WHAT``: put its counters in the place of those that the nodes hold; prints what they hold then
- ``export WHAT csv|json``: prints its ``counters``, their ``sum`` and the ``text`` of a file with them

WHAT is the id of a backup, ``latest`` (which lacks no counters), a moment of the log with its zone, such as
2026-11-25T10:00:05Z, or ``log``, the last moment; of another stack STACK/WHAT.

Results are JSON on standard output. Exit status 1: standard error says why.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from redis.exceptions import RedisError

from backup import log, newest, schedule
from backup.content import MANIFEST, STATE, Content, empty, is_unfinished
from backup.copying import copy
from backup.errors import BackupError, BadBackupError, NoRepositoryError
from backup.making import Maker
from backup.plan import Plan
from backup.processes import locked
from backup.replay import replay
from backup.repository import Repository
from backup.restoring import fetch, is_prepared, prepare, remove_abandoned, restore
from backup.saved import BACKUP_ID, Log, Saved
from counter.config import Config
from counter.data import give_way
from counter.entries import EntryError, some
from counter.records import Record, lines_of
from counter.store import open_route
from counter.store.primaries import Primaries
from counter.store.types import UnavailableError

WAIT_SECONDS = 900.0
"""How long a restore waits for a backup or a proof that has begun."""


@contextmanager
def alone(plan: Plan, seconds: float = 0.0) -> Iterator[None]:
    """Give the plan's directory for files to this process; raises BackupError if another one has it for so long."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(plan.work / "lock", seconds=seconds))
        except BlockingIOError:
            waited = f", and has not ended within {seconds:g} s" if seconds else ""
            raise BackupError(
                f"a backup, a proof or a restore is already running{waited}; try again when it has ended"
            ) from None
        empty(plan.files)
        stack.callback(empty, plan.files)
        yield


def run(plan: Plan, arguments: Sequence[str]) -> Any:
    """Make a backup."""
    primaries = Primaries(open_route(Config.from_env()))
    replaced, began = "replaced" in arguments, time.monotonic()
    # The app is stopped already when a restore makes its backup, and nobody repeats one of the schedule.
    with alone(plan, schedule.RUN_SECONDS if "scheduled" in arguments else WAIT_SECONDS if replaced else 0.0):
        if is_unfinished(plan.state):
            raise BackupError("a restore is unfinished, so the nodes may hold only some of the counters")
        if not replaced:
            remove_abandoned(plan)
        if "scheduled" in arguments and is_prepared(plan):
            raise BackupError("a restore has been prepared, and may be about to begin")
        repository = newest.opened(primaries, plan, replaced=replaced)
        maker = Maker(Config.from_env(), plan, repository)
        removed = _repaired(repository, plan) if "repaired" in arguments else []
        compared = not replaced and "confirmed" not in arguments
        removed_before: set[str] = set() if replaced else newest.removed(primaries)
        saved, lower = maker.make(
            replaced=replaced, former=newest.former(primaries, repository, plan) if compared else None
        )
        # After a loss, the old backups are needed, and compared again.
        is_suspect = bool(saved.less_than or saved.uncompared)
        forgotten = set() if is_suspect else removed_before
        not_noted = _noted(lambda: newest.write(primaries, repository, plan, removed=forgotten))
        not_freed = not_noted if replaced or is_suspect else _tidy(primaries, plan, maker) or not_noted
        log_failure = replay(plan, primaries) if "scheduled" in arguments and plan.log_seconds else ""
        if not replaced:
            facts = {"seconds": round(time.monotonic() - began), "repository_bytes": repository.size()}
            not_freed = not_freed or _noted(lambda: newest.add(primaries, plan, **facts))
    said = {"lower": some(lower), "not_freed": not_freed, "removed": removed, "log_failure": log_failure}
    return asdict(saved) | said | {"shared_with": repository.shared_with}


def _repaired(repository: Repository, plan: Plan, suffix: str = "") -> list[str]:
    """Do without what is damaged or missing; return the ids of what needed it."""
    copies = plan.work / "damaged" / f"{datetime.now(UTC):{BACKUP_ID}}{suffix}"
    if removed := repository.repair(copies, plan.files / "proof"):
        # What follows may fail.
        sys.stderr.write(f"Removed what needed damaged or missing files: {', '.join(removed)}\n")
    return removed


def _noted(write: Callable[[], None]) -> str:
    """Note something in Redis, which may be full; return why that failed."""
    try:
        write()
    except (UnavailableError, RedisError) as error:
        return f"Redis did not store the result: {error}"
    return ""


def _tidy(primaries: Primaries, plan: Plan, maker: Maker) -> str:
    """Remove what is not kept, and note the result; return what went wrong."""
    not_freed = maker.tidy()
    not_noted = _noted(lambda: newest.add(primaries, plan, not_freed=not_freed))
    return not_freed or not_noted


def tidied(plan: Plan, _: Sequence[str]) -> Any:
    """Remove what is not kept, without a new backup."""
    primaries = Primaries(open_route(Config.from_env()))
    with alone(plan, schedule.RUN_SECONDS):
        if is_unfinished(plan.state) or newest.is_suspect(newest.read(primaries)):
            return {"not_freed": ""}
        try:
            repository = newest.opened(primaries, plan, create=False)
        except NoRepositoryError:  # nothing was saved yet, or its directory is not mounted
            return {"not_freed": ""}
        return {"not_freed": _tidy(primaries, plan, Maker(Config.from_env(), plan, repository))}


def copied(plan: Plan, arguments: Sequence[str]) -> Any:
    """Copy what is proved to the second repository."""
    primaries = Primaries(open_route(Config.from_env()))
    done: dict[str, Any] = {"copied": None, "shared_with": [], "removed": []}
    with alone(plan, schedule.RUN_SECONDS):
        if is_unfinished(plan.state):
            return done
        try:
            source = newest.opened(primaries, plan, create=False)
        except NoRepositoryError:  # nothing was saved yet, or a backup has just said so
            return done
        try:
            repository = newest.opened(primaries, plan.second)
            maker = Maker(Config.from_env(), plan.second, repository)
            if "repaired" in arguments:
                done["removed"] = _repaired(repository, plan, "-copy")
            try:
                copy(source, maker)
            finally:
                newest.write(primaries, repository, plan.second)
            # After a loss, the old backups are needed.
            if not newest.is_suspect(newest.read(primaries)) and (reason := maker.tidy()):
                raise BackupError(f"old copies still take room: {reason}")
        except (BackupError, EntryError, OSError) as error:
            newest.add_failure(primaries, plan, f"copy: {error}", copy_failure=str(error))
            raise
        newest.add(primaries, plan, copy_failure="")
        return done | {"copied": newest.read(primaries).get("copied"), "shared_with": repository.shared_with}


def changed(plan: Plan, arguments: Sequence[str]) -> Any:
    """Hold, release or delete a backup."""
    verb, wanted = arguments
    primaries = Primaries(open_route(Config.from_env()))
    with alone(plan, WAIT_SECONDS):
        repository = newest.opened(primaries, plan, create=False)
        saved = repository.find(wanted)
        # The other one first: if it fails, the whole can be repeated.
        both = [(plan, repository)]
        if plan.copy_repository:
            both.insert(0, (plan.second, newest.opened(primaries, plan.second)))
        if saved.stack != plan.stack:
            raise BackupError(f"{saved.name} is a backup of another stack, which only that one may change")
        if verb == "delete" and saved.held:
            raise BackupError(f"backup {saved.id} is held; release it first (unhold={saved.id})")
        not_freed = ""
        for where, each in both:
            for one in [one for one in each.backups() if one.identity == saved.identity]:
                if verb == "delete":
                    not_freed = each.delete(one) or not_freed
                else:
                    saved = each.hold(one, held=verb == "hold")
            if verb == "delete":
                not_freed = _noted(partial(newest.write, primaries, each, where)) or not_freed
        return asdict(saved) | {"not_freed": not_freed}


def listed(plan: Plan, _: Sequence[str]) -> Any:
    """List what can be restored."""
    repository = Repository(plan)
    repository.open()
    return {
        "backups": [asdict(saved) for saved in repository.backups()],
        "logs": [asdict(found) for found in repository.logs()],
    }


def verify(plan: Plan, arguments: Sequence[str]) -> Any:
    """Prove one backup or all of the stack."""
    repository = Repository(plan)
    maker = Maker(Config.from_env(), plan, repository)
    with alone(plan):
        repository.open()
        if arguments[0] == "all":
            wanted = [saved.name for saved in repository.backups() if saved.stack == plan.stack]
        else:
            wanted = [repository.find(arguments[0]).name]
        failures = [f"{name}: {error}" for name, error in maker.prove_all(wanted).items()]
        if arguments[0] == "all":
            try:
                if packs := repository.check():
                    failures.append(f"these files of the repository are damaged: {some(packs)}")
            except BadBackupError as error:
                failures.append(str(error))
        with suppress(UnavailableError):  # a proof needs no Redis nodes
            newest.write(Primaries(open_route(Config.from_env())), repository, plan)
    if failures:
        raise BackupError("; ".join(failures))
    return [asdict(repository.find(name)) for name in wanted]


def whose(plan: Plan, _: Sequence[str]) -> Any:
    """Tell whether another stack of the plan's name has backups."""
    repository = Repository(plan)
    with suppress(NoRepositoryError):
        repository.open()
    if not (found := repository.stranger()):
        return {}
    latest = {}
    with suppress(BackupError):  # there is none
        latest = asdict(repository.find(f"{plan.stack}/latest"))
    return {"newest": found.id, "backup": latest}


def state(plan: Plan, arguments: Sequence[str]) -> Any:
    """Print the state directory of a backup or a log."""
    repository = Repository(plan)
    repository.open()
    found = _find(repository, arguments[0])
    manifest = log.ABOUT if isinstance(found, Log) else MANIFEST
    own = [each.until for each in repository.logs() if (each.stack, each.site) == (found.stack, found.site)]
    with TemporaryDirectory(dir=plan.work) as directory:
        repository.fetch(found, Path(directory), f"/{manifest}", f"/{STATE}")
        return {
            "backup": asdict(found),
            "until": max(own, default=""),
            "passed_over": repository.poorer(found) if isinstance(found, Saved) else [],
            "manifest": json.loads(Path(directory, manifest).read_text("utf-8")),
            "files": Content(Path(directory)).files(),
        }


def prepared(plan: Plan, arguments: Sequence[str]) -> Any:
    """Prepare a restore."""
    repository = Repository(plan)
    # The service may have begun to make up for a backup when it was started for the restore.
    with alone(plan, WAIT_SECONDS):
        repository.open()
        found = _find(repository, arguments[0])
        prepare(Config.from_env(), plan, repository, found)
    return {"backup": asdict(found)}


def restored(plan: Plan, arguments: Sequence[str]) -> Any:
    """Restore a backup or a moment."""
    config, repository = Config.from_env(), Repository(plan)
    with alone(plan, WAIT_SECONDS):
        repository.open()
        found = _find(repository, arguments[0])
        done = restore(config, plan, repository, found)
        newest.write(Primaries(open_route(config)), repository, plan, restored=True)
    return asdict(done) | {"backup": asdict(found)}


def exported(plan: Plan, arguments: Sequence[str]) -> Any:
    """Print the counters of a backup or a moment as a file."""
    wanted, form = arguments
    repository = Repository(plan)
    with alone(plan, WAIT_SECONDS):
        repository.open()
        found = _find(repository, wanted)
        content = Content(empty(plan.files / "export"))
        manifest = fetch(plan, repository, found, content)
        values: dict[str, int] = {}
        for entries in (entries for part in manifest.parts for entries in content.entries(part)):
            values |= {entry.counter: int(str(entry.value)) for entry in entries if entry.counter}
    records = [Record(name, value, manifest.began) for name, value in sorted(values.items())]
    return {
        "backup": asdict(found),
        "counters": len(records),
        "sum": sum(values.values()),
        "text": "".join(lines_of(records, form)),
    }


def _find(repository: Repository, wanted: str) -> Saved | Log:
    stack, _, name = wanted.rpartition("/")
    if name == "log":
        return repository.at(None, stack)
    if ":" not in name:
        return repository.find(wanted)
    moment = datetime.fromisoformat(name)
    if moment.tzinfo is None:
        raise BackupError(f"{wanted} has no time zone; in UTC it is {wanted}Z")
    return repository.at(moment.astimezone(UTC), stack)


VERBS: Mapping[str, Callable[[Plan, Sequence[str]], Any]] = {
    "run": run,
    "copy": copied,
    "tidy": tidied,
    "change": changed,
    "list": listed,
    "verify": verify,
    "whose": whose,
    "state": state,
    "prepare": prepared,
    "restore": restored,
    "export": exported,
}


def main(arguments: Sequence[str]) -> int:
    """Run one verb; return the exit status."""
    plan = Plan.read()
    if arguments[0] == "--copy":
        if not plan.copy_repository:
            sys.stderr.write("there are no copies: no backup_copy_repository is deployed\n")
            return 1
        plan, arguments = plan.second, arguments[1:]
    plan.work.mkdir(parents=True, exist_ok=True)
    give_way()
    # Programs that this one runs are ended, too: a restic that is killed leaves a lock in the repository.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0 if arguments[0] == "serve" else "ended by SIGTERM"))
    # Restic sends it to the process that a lock names, which may be another one by now.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if arguments[0] == "serve":
        # Swarm starts a task beside the former one of a host that was cut off. Restic would not see whose locks hold.
        with locked(plan.work / "serving"):
            schedule.serve(plan)
    try:
        result = VERBS[arguments[0]](plan, arguments[1:])
    except (BackupError, EntryError, UnavailableError, RedisError, OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    json.dump(result, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
