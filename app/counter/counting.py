"""Requests for a counter: checks, the call to the store, the answer. Independent of the web framework."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from counter import metrics
from counter.config import Config
from counter.cors import Origins
from counter.names import KEY_RULE, NAME_RULE, VISITS, idempotency_key, is_counter_name
from counter.problems import Problem
from counter.store.store import Store
from counter.store.types import (
    NO_ROOM,
    Counted,
    IndeterminateError,
    RefusedError,
    ReusedKeyError,
    StoreError,
    UnsupportedKeyError,
)

log = logging.getLogger(__name__)

_SEEN_LIMIT = 1000


class Counting:
    """The counters as this replica serves them. Every error that the client should see is raised as ``Problem``."""

    def __init__(self, config: Config, store: Store) -> None:
        """Take the configuration and the store of its topology."""
        self.config = config
        self.store = store
        self.retry_after = max(1, math.ceil(config.deadline / 5))
        """Seconds for ``Retry-After``."""
        self.headers = {
            "X-Counter-Replica": config.replica,
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        }
        """For every response."""
        self.origins = Origins(config.cors_origins)
        self._seen: dict[str, tuple[float, Counted]] = {}
        self._acknowledged = metrics.INCREMENTS.labels("acknowledged")
        # JSON by hand below: names, replicas and nodes need quoting once, not per request.
        self._replica = json.dumps(config.replica)

    def increment(self, name: str, key_header: str | None) -> bytes:
        """Count one and return the JSON document."""
        check_name(name)
        key = None
        if key_header is not None:
            key = idempotency_key(key_header)
            if key is None:
                detail = f"{key_header[:80]!r} is not an Idempotency-Key: a key is {KEY_RULE}, for example a UUID."
                raise Problem(HTTPStatus.BAD_REQUEST, "invalid-idempotency-key", detail)
        return self._document(name, self.count(name, key))

    def read(self, name: str, max_age: float = 0.0) -> bytes:
        """Return the value as a JSON document. It was confirmed at most ``max_age`` seconds ago."""
        return self._document(name, self.look(name, max_age))

    def look(self, name: str, max_age: float = 0.0) -> Counted:
        """Return the value, which was confirmed at most ``max_age`` seconds ago."""
        check_name(name)
        now = time.monotonic()
        since, counted = self._seen.get(name, (0.0, None))
        if counted and now - since < max_age:
            return counted
        with self._reading():
            counted = self.store.read(name)
        if len(self._seen) >= _SEEN_LIMIT:
            self._seen.clear()
        self._seen[name] = now, counted
        return counted

    def find(self, name: str) -> Counted | None:
        """Return the value, None if there is no such counter."""
        check_name(name)
        with self._reading():
            return self.store.find(name)

    def create(self, name: str) -> bool:
        """Make a counter with the value 0; return whether there was none."""
        check_name(name)
        try:
            return self.store.create(name)
        except RefusedError as error:
            raise _refusal(error) from error
        except StoreError as error:
            raise self._unavailable("store-unavailable", f"The counter cannot be made: {error}.") from error

    def count(self, name: str, key: str | None = None) -> Counted:
        """Count one and return the store's answer."""
        started = time.perf_counter()
        try:
            counted = self.store.increment(name, key)
        except UnsupportedKeyError as error:
            metrics.INCREMENTS.labels("refused").inc()
            detail = (
                f"With topology {self.config.topology} the Redis nodes share nothing: a repeat may reach one that has "
                "not seen the key, and count again. Leave the header out."
            )
            raise Problem(HTTPStatus.BAD_REQUEST, "idempotency-key-unsupported", detail) from error
        except ReusedKeyError as error:
            metrics.INCREMENTS.labels("refused").inc()
            detail = f"This Idempotency-Key was used for another counter; use a new key, such as a UUID, for {name!r}."
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "idempotency-key-reused", detail) from error
        except RefusedError as error:
            metrics.INCREMENTS.labels("refused").inc()
            raise _refusal(error) from error
        except IndeterminateError as error:
            metrics.INCREMENTS.labels("indeterminate").inc()
            log.warning(
                "increment indeterminate",
                extra={"counter": name, "operation_id": error.operation_id, "reason": str(error)},
            )
            detail = "It is not known whether the increment was counted."
            if self.store.recognises_ids:
                detail += (
                    " Repeat it with this operation_id as Idempotency-Key within"
                    f" {error.seconds:g} seconds of the first attempt: it is counted exactly once, even if the first"
                    " attempt succeeded."
                )
            raise self._unavailable("store-indeterminate", detail, operation_id=error.operation_id) from error
        except StoreError as error:
            metrics.INCREMENTS.labels("unavailable").inc()
            log.warning("increment not taken", extra={"counter": name, "reason": str(error)})
            detail = "The store did not accept this request, so nothing was counted."
            raise self._unavailable("store-unavailable", detail, operation_id=error.operation_id) from error
        self._acknowledged.inc()
        metrics.INCREMENT_SECONDS.observe(time.perf_counter() - started)
        return counted

    def _document(self, name: str, counted: Counted) -> bytes:
        return (
            f'{{"name":"{name}","value":{counted.value},"replica":{self._replica},'
            f'"source":{{"node":"{counted.node}","role":"primary"}}}}\n'
        ).encode()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except StoreError as error:
            raise self._unavailable("store-unavailable", f"The counter cannot be read: {error}.") from error

    def _unavailable(self, code: str, detail: str, **members: str) -> Problem:
        return Problem(HTTPStatus.SERVICE_UNAVAILABLE, code, detail, retry_after=self.retry_after, **members)


def _refusal(error: RefusedError) -> Problem:
    detail = f"Nothing was counted: {error}. Counters that exist go on counting."
    # A limit that clients have reached is no failure of the server; a Redis that is nearly full is.
    status = HTTPStatus.INSUFFICIENT_STORAGE if error.code == NO_ROOM else HTTPStatus.TOO_MANY_REQUESTS
    return Problem(status, error.code, detail, retry_after=error.seconds)


def check_name(name: str) -> None:
    """Raise ``Problem`` if this cannot be a counter's name."""
    if not is_counter_name(name):
        detail = f"{name[:80]!r} is not the name of a counter: a name has {NAME_RULE}. An example is {VISITS!r}."
        raise Problem(HTTPStatus.BAD_REQUEST, "invalid-name", detail)
