"""Structured logs: one JSON object per event and line, on standard error."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from gunicorn.glogging import Logger

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Render a record, the fields given in ``extra`` included, as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line (without a newline)."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        event: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        event |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            event["error"] = self.formatException(record.exc_info)
        return json.dumps(event, default=str)


class Brake(logging.Filter):
    """Lets through only so many records of the same event. Clients can cause failures, and must not fill the disk."""

    def __init__(self, most: int = 20, seconds: float = 10.0) -> None:
        """Take how many records of one event pass in how many seconds."""
        super().__init__()
        self._most, self._seconds = most, seconds
        self._passed: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether to write a record. The first one after a pause says in ``omitted`` how many were not."""
        event = record.name, str(record.msg)
        since, count = self._passed.get(event, (0.0, 0))
        if record.created - since >= self._seconds:
            if count > self._most:
                record.omitted = count - self._most
            since, count = record.created, 0
        self._passed[event] = since, count + 1
        return count < self._most


LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": JsonFormatter}},
    "filters": {"brake": {"()": Brake}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json", "filters": ["brake"]}},
    "root": {"level": "INFO", "handlers": ["stderr"]},
    "loggers": {
        "gunicorn.error": {"level": "INFO", "handlers": ["stderr"], "propagate": False},
    },
}
"""For ``logging.config.dictConfig``."""


class EventLogger(Logger):  # type: ignore[misc]
    """gunicorn's logger without the access log: requests are counted in the metrics, and logged nowhere.

    With ``logconfig_dict`` gunicorn formats every request, even where nothing is written: an eighth of the time that a
    small request takes.
    """

    def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        """Write nothing."""
