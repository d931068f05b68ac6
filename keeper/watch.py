"""Tells of each problem once when it has lasted, and once when it has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from keeper import metrics

LOOK_SECONDS = 15.0
LASTS_SECONDS = 90.0
"""How long a problem must last to be told: a task that starts again in that time, as in deployments, is none."""
GOOD_LOOKS = 2
"""After as many looks without it, a problem has ended."""

Event = Literal["begins", "ends"]
Tell = Callable[[Event, list[str]], None]
"""Gets what began or ended in one look, as sentences."""


class Watch:
    """The problems that were told, and those that may become so."""

    def __init__(self, tell: Tell, told: Mapping[str, Mapping[str, Any]], hurry: float = 1.0) -> None:
        """Take whom to tell, and what was ``told`` before this process: name -> ``began`` (s), ``said``."""
        self._tell, self._lasts = tell, LASTS_SECONDS * hurry
        # Other threads read it: it is replaced, not changed.
        self.told = dict(told)
        self._began: dict[str, float] = {}
        self._good: dict[str, int] = {}
        for name in self.told:
            metrics.PROBLEM.labels(name).set(1)

    def note(self, found: Mapping[str, str], unknown: tuple[str, ...], now: float | None = None) -> None:
        """Take the result of a look (``problems``)."""
        now = time.time() if now is None else now
        for name in found:
            self._began.setdefault(name, now)
        for name in {*self._began, *self.told}:
            if name in found:
                self._good[name] = 0
            elif not name.startswith(unknown):
                self._good[name] = self._good.get(name, 0) + 1
        self._begin({name: said for name, said in found.items() if self._has_lasted(name, now)})
        self._end([name for name, looks in self._good.items() if looks >= GOOD_LOOKS], now)
        metrics.LOOKED.set(now)

    def _has_lasted(self, name: str, now: float) -> bool:
        return name not in self.told and now - self._began[name] >= self._lasts

    def _begin(self, new: Mapping[str, str]) -> None:
        if new:
            self.told = self.told | {name: {"began": self._began[name], "said": said} for name, said in new.items()}
            self._tell("begins", [f"{said} (since {_moment(self._began[name])})" for name, said in new.items()])
        for name in new:
            metrics.PROBLEM.labels(name).set(1)

    def _end(self, names: list[str], now: float) -> None:
        ended = {name: problem for name, problem in self.told.items() if name in names}
        for name in names:
            self._began.pop(name, None)
            self._good.pop(name, None)
        for name in ended:
            metrics.PROBLEM.remove(name)
        if ended:
            self.told = {name: problem for name, problem in self.told.items() if name not in ended}
            # What to type is of no use any more.
            lines = [(one["said"].partition(";")[0], _span(now - one["began"])) for one in ended.values()]
            self._tell("ends", [f"{said} (for {span})" for said, span in lines])


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _span(seconds: float) -> str:
    """Return a duration in the two largest units."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
