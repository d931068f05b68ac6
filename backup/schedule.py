"""Makes backups at the times of the schedule, each in a process of its own."""

from __future__ import annotations

import json
import logging
import logging.config
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

from cronsim import CronSim

from backup.plan import Plan
from counter.logs import LOGGING

log = logging.getLogger(__name__)

RUN_SECONDS = 4 * 3600
REPORT_SECONDS = 10
STEP_SECONDS = 60.0
"""How long to sleep at most, so that a corrected clock is noticed."""


def serve(plan: Plan) -> int:
    """Make backups until SIGTERM; without a schedule, only wait for it. Return 0."""
    logging.config.dictConfig(LOGGING)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    # For the health check.
    Path(tempfile.gettempdir(), "serving").touch()
    times = CronSim(plan.schedule, datetime.now(UTC)) if plan.schedule else None
    while times and not ended.is_set():
        due = next(times)
        log.info("next backup", extra={"at": f"{due:%Y-%m-%dT%H:%M:%SZ}"})
        while not ended.is_set() and (left := due.timestamp() - time.time()) > 0:
            ended.wait(min(left, STEP_SECONDS))
        if not ended.is_set():
            _run(plan)
            times = CronSim(plan.schedule, datetime.now(UTC))
    ended.wait()
    return 0


def _run(plan: Plan) -> None:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "backup", "run"], capture_output=True, text=True, timeout=RUN_SECONDS, check=False
        )
        status, printed, said = done.returncode, done.stdout, done.stderr.strip()
    except subprocess.TimeoutExpired:
        status, printed, said = 1, "", f"no end within {RUN_SECONDS} s"
    report = {"stack": plan.stack, "backup": json.loads(printed) if status == 0 else None, "error": said}
    if status:
        log.error("backup failed", extra={"error": said or f"exit status {status}"})
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
    except OSError as error:
        log.warning("result not reported", extra={"error": str(error)})
