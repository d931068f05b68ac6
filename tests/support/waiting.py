"""Waits for real processes."""

from __future__ import annotations

import time
from collections.abc import Callable

from redis.exceptions import RedisError


def wait_until[T](what: str, probe: Callable[[], T | None], seconds: float = 60.0) -> T:
    """Call ``probe`` until it returns something true, and return that; raise AssertionError after ``seconds``."""
    deadline = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < deadline:
        try:
            if result := probe():
                return result
            last = result
        except (RedisError, OSError) as error:
            last = error
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds:g} s for {what}; last seen: {last!r}")
