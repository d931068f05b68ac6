"""Makes backups at the times of the schedule, each in a process of its own."""

from __future__ import annotations

import json
import logging
import logging.config
import sys
import tempfile
import threading
import time
import urllib.request
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import NoReturn

from cronsim import CronSim

from backup.content import empty
from backup.log import DIRECTORY, keep
from backup.plan import Plan
from backup.processes import STOP_SECONDS, TIMED_OUT, run
from counter.config import Config
from counter.logs import LOGGING

log = logging.getLogger(__name__)

RUN_SECONDS = 4 * 3600
REPORT_SECONDS = 10
STEP_SECONDS = 60.0
"""How long to sleep at most, so that a corrected clock is noticed."""


def serve(plan: Plan) -> NoReturn:
    """Make backups by the schedule, if there is one, until a signal ends the process."""
    logging.config.dictConfig(LOGGING)
    ended = threading.Event()
    empty(plan.work / DIRECTORY)
    recorder = threading.Thread(target=keep, args=(plan, Config.from_env(), ended), daemon=True, name="log of changes")
    if plan.log_seconds:
        recorder.start()
    # For the health check.
    Path(tempfile.gettempdir(), "serving").touch()
    try:
        _make_all(plan)
    finally:
        # An upload that is ended by force leaves a lock in the repository.
        ended.set()
        if plan.log_seconds:
            recorder.join(STOP_SECONDS)


def _make_all(plan: Plan) -> NoReturn:
    while True:
        due = next(CronSim(plan.schedule, datetime.now(UTC))) if plan.schedule else None
        if due:
            log.info("next backup", extra={"at": f"{due:%Y-%m-%dT%H:%M:%SZ}"})
        while not due or (left := due.timestamp() - time.time()) > 0:
            time.sleep(min(left, STEP_SECONDS) if due else STEP_SECONDS)
        _make(plan)


def _make(plan: Plan) -> None:
    done = run([sys.executable, "-m", "backup", "run"], RUN_SECONDS)
    said = done.said.strip()
    if done.status == TIMED_OUT:
        said = f"no end within {RUN_SECONDS} s; {said}"
    report = {"stack": plan.stack, "backup": None if done.status else json.loads(done.printed), "error": said}
    if done.status:
        log.error("backup failed", extra={"error": said or f"exit status {done.status}"})
    else:
        log.info("backup proved", extra={"backup": report["backup"]})
    if plan.report_url:
        _report(plan.report_url, report)


def _report(url: str, report: dict[str, object]) -> None:
    """Send the result of a run; a failure is only logged."""
    body = json.dumps(report).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310  # preflight allows http only
    try:
        with urllib.request.urlopen(request, timeout=REPORT_SECONDS):  # noqa: S310
            pass
    except (OSError, HTTPException) as error:
        log.warning("result not reported", extra={"error": str(error)})
