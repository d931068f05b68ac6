"""Log lines of services: whose they are, their level, and their order. No input or output here.

Shapes of services and tasks are those of the Docker Engine API, lines those of ``docker service logs --timestamps``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

LEVELS = ("debug", "info", "warning", "error")

_STAMPED = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?Z (.*\S.*)")
# How each program writes a level, and what its words or signs mean here.
_FORMATS = (
    # The app: JSON.
    (
        re.compile(r'^\{.*"level": "(\w+)"'),
        {"debug": "debug", "info": "info", "warning": "warning", "error": "error", "critical": "error"},
    ),
    # Redis and Sentinel: a sign behind the time. Theirs has nothing above `#`, which they call a warning.
    (re.compile(r"^\d+:[XCSM] \d+ \w+ \d+ [\d:.]+ ([.*#-]) "), {".": "debug", "-": "debug", "*": "info", "#": "error"}),
    # HAProxy's own messages.
    (
        re.compile(r"^\[(NOTICE|WARNING|ALERT)\s*\]"),
        {"NOTICE": "info", "WARNING": "warning", "ALERT": "error"},
    ),
    # HAProxy's log, whose format is without levels: what it says of servers.
    (
        re.compile(r"^(?:Server|backend|\S+/\S+:) .*?\b(IP changed|READY|UP|DOWN|has no server available)\b"),
        {"IP changed": "info", "READY": "info", "UP": "info", "DOWN": "warning", "has no server available": "error"},
    ),
)


class Line(NamedTuple):
    """A line, ordered by its time (UTC; seconds, and nine digits of their fraction)."""

    second: str
    fraction: str
    source: str
    text: str


def task_names(stack: str, service: dict, task: dict, hosts: dict[str, str]) -> tuple[str, str]:
    """Return the name of a task's service, and its own: with its number or, with one task on each node, its node."""
    name = service["Spec"]["Name"].removeprefix(f"{stack}_")
    return name, f"{name}.{task.get('Slot') or hosts.get(task['NodeID'], task['NodeID'])}"


def parse(text: str, source: str) -> Iterator[Line]:
    """Yield the lines of a task, without empty ones and without what the command itself says, which has no time."""
    for stamped in filter(None, map(_STAMPED.fullmatch, text.splitlines())):
        yield Line(stamped[1], (stamped[2] or "").ljust(9, "0"), source, stamped[3])


def level_of(text: str) -> str:
    """Return the level of a line; empty if the line does not say it."""
    for pattern, levels in _FORMATS:
        if found := pattern.search(text):
            return levels.get(found[1], "")
    return ""


def last_lines(lines: Iterable[Line], level: str, count: int) -> list[str]:
    """Return the last lines, at least of this level (``all``: any), in the order of time.

    A line without a level stays: it is part of a message of several lines, or a program's last words.
    """
    shown = ("", *LEVELS[LEVELS.index(level) :]) if level in LEVELS else None
    chosen = (line for line in lines if shown is None or level_of(line.text) in shown)
    # Lines of one source with the same time stay in their order.
    found = sorted(chosen, key=lambda line: line[:3])
    return [f"{line.second}.{line.fraction[:3]}Z {line.source} {line.text}" for line in found[-count:]]
