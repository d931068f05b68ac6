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
from contextlib import suppress
from datetime import UTC, datetime
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
    watch = Watch(plan)
    recorder = threading.Thread(
        target=Recorder(config, plan, watch).run, args=(ended,), daemon=True, name="log of changes"
    )
    if plan.log_seconds:
        recorder.start()
    threading.Thread(target=watch.run, args=(ended,), daemon=True, name="watch").start()
    # For the health check.
    Path(tempfile.gettempdir(), "serving").touch()
    try:
        if plan.schedule and _has_missed(plan, config):
            log.info("no backup was made at the last time of the schedule")
            _make_all(plan, watch, failed=not _make(plan, watch))
        _make_all(plan, watch)
    finally:
        # An upload that is ended by force leaves a lock in the repository.
        ended.set()
        if plan.log_seconds:
            recorder.join(STOP_SECONDS)
        # The next task may run on another node, and these are the counters in plain text.
        empty(plan.work / DIRECTORY)


def _has_missed(plan: Plan, config: Config) -> bool:
    """Tell whether a backup was due since the newest one, but not made: the service was restarted at that time."""
    due = next(CronSim(plan.schedule, datetime.now(UTC), reverse=True))
    try:
        made = newest.read(Primaries(open_route(config))).get("time")
    except StoreError:  # the next one is made at its time
        return False
    return made is not None and made < f"{due:{MOMENT}}"


def _make_all(plan: Plan, watch: Watch, *, failed: bool = False) -> NoReturn:
    while True:
        due = next(CronSim(plan.schedule or TIDYING, datetime.now(UTC)))
        retry = time.monotonic() + (plan.retry_seconds if failed else math.inf)
        if plan.schedule:
            log.info("next backup", extra={"at": f"{due:{MOMENT}}"} | ({"retry": plan.retry_seconds} if failed else {}))
        while (early := due.timestamp() > time.time()) and (left := retry - time.monotonic()) > 0:
            time.sleep(max(0.0, min(left, STEP_SECONDS, due.timestamp() - time.time())))
            # Sooner, after a clock that was ahead was set back.
            due = min(due, next(CronSim(plan.schedule or TIDYING, datetime.now(UTC))))
        failed = not (_make(plan, watch, again=early) if plan.schedule else _tidy(watch, again=early))


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
    elif said := backup["log_failure"]:
        log.error("backup proved, but not the log of changes", extra={"backup": backup, "error": said})
    else:
        log.info("backup proved", extra={"backup": backup})
        is_good = True
        said = backup["not_freed"] and f"old backups still take room: {backup['not_freed']}"
    if not is_good:
        with suppress(StoreError):
            newest.add_failure(Primaries(open_route(Config.from_env())), plan, said)
    watch.backup_ended(backup or None, said, is_good=is_good, known=again and not backup)
    return bool(backup)
