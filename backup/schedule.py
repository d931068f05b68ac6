"""Makes backups at the times of the schedule, or only removes what is outdated, each in a process of its own."""

from __future__ import annotations

import json
import logging
import logging.config
import math
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from itertools import dropwhile
from pathlib import Path
from typing import Any, NoReturn

from cronsim import CronSim

from backup import newest
from backup.content import empty
from backup.log import DIRECTORY, Recorder
from backup.plan import Plan
from backup.processes import STOP_SECONDS, TIMED_OUT, run
from backup.restoring import remove_abandoned
from backup.saved import MOMENT
from backup.watch import Watch
from counter.config import Config
from counter.logs import LOGGING
from counter.store import open_route
from counter.store.primaries import Primaries
from counter.store.types import StoreError

log = logging.getLogger(__name__)

Job = Callable[..., bool]
RUN_SECONDS = 4 * 3600
TIDYING = "0 3 * * *"
"""When outdated backups and logs are removed if there is no schedule, after whose backups that is done otherwise."""
STEP_SECONDS = 60.0
"""How long to sleep at most, so that a corrected clock is noticed."""


def serve(plan: Plan) -> NoReturn:
    """Make backups by the schedule, or without one only remove what is outdated, until a signal ends the process."""
    logging.config.dictConfig(LOGGING)
    ended = threading.Event()
    empty(plan.work / DIRECTORY)
    remove_abandoned(plan)
    config = Config.from_env()
    watch = Watch(plan, partial(newest.read, Primaries(open_route(config))))
    recorder = threading.Thread(
        target=Recorder(config, plan, watch).run, args=(ended,), daemon=True, name="log of changes"
    )
    if plan.log_seconds:
        recorder.start()
    threading.Thread(target=watch.run, args=(ended,), daemon=True, name="watch").start()
    # For the health check.
    Path(tempfile.gettempdir(), "serving").touch()
    try:
        _make_all(plan, watch, config)
    finally:
        # An upload that is ended by force leaves a lock in the repository.
        ended.set()
        if plan.log_seconds:
            recorder.join(STOP_SECONDS)
        # The next task may run on another node, and these are the counters in plain text.
        empty(plan.work / DIRECTORY)


def _missed(plan: Plan, config: Config, jobs: list[Job]) -> list[Job]:
    """Return what was due, but not done: the service was restarted at that time, or nothing was to be copied before."""
    if not (plan.schedule or plan.copy_repository):
        return []
    due = next(CronSim(plan.schedule or TIDYING, datetime.now(UTC), reverse=True))
    try:
        note = newest.read(Primaries(open_route(config)))
    except StoreError:  # all is done at its time
        return []
    if plan.schedule and note.get("time", "9") < f"{due:{MOMENT}}":
        log.info("no backup was made at the last time of the schedule")
        return jobs
    known = (newest.digest(plan.second), note.get("time"))
    return jobs[1:] if note and (note.get("copy_repository"), note.get("copied")) != known else []


def _rest(jobs: list[Job], *, again: bool = False) -> list[Job]:
    """Do one after the other; return those that are left when one fails. ``again``: the first one has failed before."""
    return list(dropwhile(lambda job: job(again=again and job is jobs[0]), jobs))


def _make_all(plan: Plan, watch: Watch, config: Config) -> NoReturn:
    jobs: list[Job] = [partial(_make, plan, watch) if plan.schedule else partial(_tidy, watch)]
    jobs += [partial(_copy, plan, watch)] if plan.copy_repository else []
    failed = _rest(_missed(plan, config, jobs))
    while True:
        due = next(CronSim(plan.schedule or TIDYING, datetime.now(UTC)))
        retry = time.monotonic() + (plan.retry_seconds if failed else math.inf)
        if plan.schedule:
            log.info("next backup", extra={"at": f"{due:{MOMENT}}"} | ({"retry": plan.retry_seconds} if failed else {}))
        while (early := due.timestamp() > time.time()) and (left := retry - time.monotonic()) > 0:
            time.sleep(max(0.0, min(left, STEP_SECONDS, due.timestamp() - time.time())))
            # Sooner, after a clock that was ahead was set back.
            due = min(due, next(CronSim(plan.schedule or TIDYING, datetime.now(UTC))))
        failed = _rest(failed if early else jobs, again=early)


def _copy(plan: Plan, watch: Watch, *, again: bool = False) -> bool:
    """Copy what is proved; return whether all is copied and proved there."""
    done = run([sys.executable, "-m", "backup", "copy"], RUN_SECONDS)
    if done.status:
        said = done.said.strip() or f"exit status {done.status}"
        log.error("backups not copied", extra={"error": said})
        with suppress(StoreError):
            newest.add_failure(Primaries(open_route(Config.from_env())), plan, f"copy: {said}", copy_failure=said)
        watch.copy_ended(None, f"proved backups were not copied: {said}", known=again)
        return False
    copied = json.loads(done.printed)["copied"]
    log.info("backups copied", extra={"copied": copied})
    watch.copy_ended(copied, "")
    return True


def _tidy(watch: Watch, *, again: bool = False) -> bool:
    """Remove what is outdated; return whether that was possible. If it fails ``again``, this is not reported."""
    done = run([sys.executable, "-m", "backup", "tidy"], RUN_SECONDS)
    said = done.said.strip() if done.status else json.loads(done.printed)["not_freed"]
    if done.status or said:
        said = f"outdated backups and logs were not removed: {said or f'exit status {done.status}'}"
        log.error("outdated backups and logs were not removed", extra={"error": said})
        watch.backup_ended(None, said, is_good=False, known=again)
    else:
        log.info("outdated backups and logs removed")
        watch.backup_ended(None, "", is_good=True, known=True)
    return not said


def _make(plan: Plan, watch: Watch, *, again: bool = False) -> bool:
    """Make a backup; return whether there is one. If it fails ``again``, this is not reported, as it was before."""
    is_good = False
    done = run([sys.executable, "-m", "backup", "run", "scheduled"], RUN_SECONDS)
    said = done.said.strip()
    if done.status == TIMED_OUT:
        said = f"no end within {RUN_SECONDS} s; {said}"
    backup: dict[str, Any] = {} if done.status else json.loads(done.printed)
    if done.status:
        said = said or f"exit status {done.status}"
        log.error("backup failed", extra={"error": said})
    elif less := backup["less_than"]:
        said = f"counters have less than in backup {less}: if nobody lowered or removed them, Redis lost data"
        said += f": {backup['lower']}" if backup["lower"] else ""
        log.error("backup proved, but it holds less", extra={"backup": backup, "error": said})
    elif uncompared := backup["uncompared"]:
        said = f"not compared with backup {uncompared}, which cannot be read: whether counters have less is unknown"
        log.error("backup proved, but not compared", extra={"backup": backup, "error": said})
    elif said := backup["log_failure"]:
        log.error("backup proved, but not the log of changes", extra={"backup": backup, "error": said})
    else:
        log.info("backup proved", extra={"backup": backup})
        is_good = True
        said = backup["not_freed"] and f"old backups still take room: {backup['not_freed']}"
    if not is_good:
        with suppress(StoreError):
            newest.add_failure(Primaries(open_route(Config.from_env())), plan, said)
    is_noted = newest.is_suspect(backup) and not backup["not_freed"]
    watch.backup_ended(backup or None, said, is_good=is_good or is_noted, known=again and not backup)
    return bool(backup)
