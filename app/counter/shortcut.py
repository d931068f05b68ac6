"""The hot path: increments are answered in front of Flask.

Flask's dispatch takes about as long as everything else that an increment does. Requests that need more than the usual
answer, errors included, go to Flask's route for the same path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from counter import metrics
from counter.counting import Counting
from counter.names import NAME_PATTERN

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_PATH = re.compile(rf"/api/counters/({NAME_PATTERN})/increment")


class IncrementShortcut:
    """WSGI middleware in front of Flask."""

    def __init__(self, application: WSGIApplication, counting: Counting) -> None:
        """Take the application behind."""
        self._application = application
        self._counting = counting
        self._headers = [("Content-Type", "application/json"), *counting.headers.items()]
        self._requests = metrics.REQUESTS.labels("increment", 200)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer an increment, or leave the request to Flask."""
        found = _PATH.fullmatch(environ["PATH_INFO"]) if environ["REQUEST_METHOD"] == "POST" else None
        if found is None:
            return self._application(environ, start_response)
        try:
            body = self._counting.increment(found[1], environ.get("HTTP_IDEMPOTENCY_KEY"))
        except Exception as error:  # noqa: BLE001  # Flask answers them all
            environ["counter.error"] = error  # raised again by the route: it must not count twice
            environ.pop("HTTP_HOST", None)  # Flask would answer one that is invalid instead of the error
            return self._application(environ, start_response)
        self._requests.inc()
        headers = [*self._headers, ("Content-Length", str(len(body)))]
        if "HTTP_ORIGIN" in environ:
            headers += self._counting.origins.headers(environ["HTTP_ORIGIN"]).items()
        start_response("200 OK", headers)
        return [body]
