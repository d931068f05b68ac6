"""Waits for real processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from redis.exceptions import RedisError

SLOWNESS = float(os.environ.get("SLOWNESS") or 1)
"""How many times slower this machine is than the one on which waits were chosen; ``tests/run`` measures it."""


def slowness() -> float:
    """Return it, from 1 to 4. The other machine (2 cores, 2026) took 0.22 s for this."""
    began = time.monotonic()
    sum(number * number for number in range(5_000_000))
    return min(max((time.monotonic() - began) / 0.22, 1.0), 4.0)


def wait_until[T](what: str, probe: Callable[[], T | None], seconds: float = 60.0) -> T:
    """Call ``probe`` until it returns something true, and return that; raise AssertionError after ``seconds``.

    On a slower machine it waits longer.
    """
    seconds *= SLOWNESS
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
