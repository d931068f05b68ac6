"""The ways in which pages and programs count, what each sends, and what its answer says.

Only the first has a key, with which it may be repeated. Each request of another is an increment of its own.
"""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from history.model import Outcome

Answer = tuple[Outcome, dict[str, Any]]

_CERTAIN = {"store-unavailable", "draining"}
"""Only the application itself can say that nothing happened; an edge's own 503 says nothing."""


def document(status: int, body: bytes) -> Answer:
    """Understand JSON; raises ValueError if it is none. Whatever is not certain is indeterminate."""
    found = json.loads(body)
    if status == http.client.OK:
        return Outcome.OK, found
    return (Outcome.FAILED if found.get("code") in _CERTAIN else Outcome.INDETERMINATE), found


def badge(status: int, body: bytes) -> Answer:
    """Understand a picture. One without a number does not say whether it was counted."""
    found = re.search(rb"<title>[^<]*?([0-9,]+)</title>", body)
    if status != http.client.OK or not found:
        return Outcome.INDETERMINATE, {}
    return Outcome.OK, {"value": int(found[1].replace(b",", b""))}


def form(status: int, _: bytes) -> Answer:
    """Understand what a form leads to: the page of the counter, which is no answer to this increment but a read."""
    return (Outcome.OK if status == http.client.SEE_OTHER else Outcome.INDETERMINATE), {}


def refused(status: int, body: bytes) -> Answer:
    """Expect that nothing is counted, whatever the answer is."""
    if status < http.client.BAD_REQUEST:
        msg = f"status {status}, where nobody may count: {body[:80]!r}"
        raise RuntimeError(msg)
    return Outcome.FAILED, {}


@dataclass(frozen=True, slots=True)
class Way:
    """A request; ``{}`` in its path stands for the counter. ``unknown``: what it means that no answer came."""

    method: str
    path: str
    understand: Callable[[int, bytes], Answer] = document
    keyed: bool = False
    unknown: Outcome = Outcome.INDETERMINATE


KEY = Way("POST", "/api/counters/{}/increment", keyed=True)
WAYS = {
    "key": KEY,
    "program without a key": Way("POST", "/api/counters/{}/increment"),
    "badge": Way("GET", "/badge/{}.svg?count=1", badge),
    "CountAPI hit": Way("GET", "/hit/{}"),
    "CountAPI update": Way("GET", "/update/{}?amount=1", refused, unknown=Outcome.FAILED),
    "form": Way("POST", "/c/{}", form),
}
