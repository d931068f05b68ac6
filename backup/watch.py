"""Tells others how the backups and the log of changes are: each event once, and a heartbeat while both are good."""

from __future__ import annotations

import json
import logging
import threading
import time
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from typing import Any

from backup.newest import is_suspect
from backup.plan import Plan
from counter.store.types import StoreError

log = logging.getLogger(__name__)

SEND_SECONDS = 10
BEAT_SECONDS = 60.0


class _Straight(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it would lose the report, and the server's answer would look good."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_Straight)


class Watch:
    """What is known of the last backup and of the log of changes, and who is told."""

    def __init__(self, plan: Plan, note: Callable[[], dict[str, Any]] = dict) -> None:
        """Take whom to tell, and how to read what is noted of the newest backup. The log has until it is late to begin.

        A loss that is noted lasts longer than this process, and somebody may confirm it without it.
        """
        self._plan, self._note = plan, note
        self._saved_at = time.monotonic()
        self._until, self._log_error, self._is_late = "", "", False
        self._backup_error = self._copy_error = ""

    def run(self, ended: threading.Event) -> None:
        """Look and tell until the end."""
        while not ended.wait(min(BEAT_SECONDS, self._plan.log_seconds or BEAT_SECONDS)):
            self.look()

    def log_saved(self, until: str) -> None:
        """Note that all changes until a moment are in the repository."""
        self._saved_at, self._until, self._log_error = time.monotonic(), until, ""

    def log_failed(self, error: str) -> None:
        """Note why changes do not reach it."""
        self._log_error = error

    def backup_ended(self, backup: dict[str, Any] | None, error: str, *, is_good: bool, known: bool = False) -> None:
        """Report how a backup of the schedule ended. ``known``: an earlier report has said that it failed.

        ``is_good``: nothing is wrong but what is noted of the backup.
        """
        self._backup_error = "" if is_good else error
        if not known:
            self._report({"backup": backup, "error": error})

    def copy_ended(self, copied: str | None, error: str, *, known: bool = False) -> None:
        """Report how the copying of proved backups ended; ``copied``: when the newest that has a copy was made."""
        self._copy_error = error
        if not known:
            self._report({"copied": copied, "error": error})

    def look(self) -> None:
        """Report a log that has stopped for too long, or goes on again; send a heartbeat if all is well."""
        bound = max(self._plan.late_seconds, 3 * self._plan.log_seconds)
        is_late = bool(self._plan.log_seconds) and time.monotonic() - self._saved_at > bound
        if is_late != self._is_late:
            self._is_late = is_late
            error = f"changes after {self._until or 'the start'} have not reached the repository: {self._log_error}"
            if is_late:
                log.error("log of changes stopped", extra={"error": error})
            self._report({"log_until": self._until or None, "error": error if is_late else ""})
        is_good = (self._until or not self._plan.log_seconds) and not (
            self._log_error or self._backup_error or self._copy_error
        )
        if self._plan.heartbeat_url and is_good and not is_late and not self._is_suspect():
            _send(self._plan.heartbeat_url)

    def _is_suspect(self) -> bool:
        try:
            return is_suspect(self._note())
        except StoreError:  # Redis does not answer
            return True

    def _report(self, report: dict[str, object]) -> None:
        if self._plan.report_url:
            _send(self._plan.report_url, json.dumps({"stack": self._plan.stack} | report).encode())


def _send(url: str, body: bytes | None = None) -> None:
    """Post a body, or just call the address; a failure is only logged."""
    try:
        # Preflight allows http only.
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"} if body else {})  # noqa: S310
        with _OPENER.open(request, timeout=SEND_SECONDS):
            pass
    except (OSError, HTTPException, ValueError) as error:
        log.warning("not reported", extra={"error": str(error)})
