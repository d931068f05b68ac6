"""What the modules with routes share: the counters of this application, and how a path names one."""

from __future__ import annotations

from flask import current_app
from werkzeug.routing import BaseConverter

from counter.counting import Counting


class CounterName(BaseConverter):
    """One or two parts of a path. ``Counting`` decides whether they may name a counter, and answers 400 if not."""

    part_isolating = False
    regex = r"[^/]+(?:/(?!increment(?:/|$))[^/]+)?"


def counting() -> Counting:
    """Return the counters of this application."""
    found: Counting = current_app.extensions["counting"]
    return found
