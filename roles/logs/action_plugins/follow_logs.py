"""Ansible action: show log lines as they come, until the run is interrupted.

A module prints nothing before it has ended, so this asks the module service_logs again and again. Its options are those
of that module.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

from ansible.plugins.action import ActionBase

PAUSE_SECONDS = 1
# Lines of other nodes can arrive so much later.
LATE_SECONDS = 10
MOST_LINES = 10_000
# A follower that was forgotten, or whose output nobody reads any more, ends after a day.
LONGEST_SECONDS = 86_400


class ActionModule(ActionBase):
    """Runs in the process of the task, whose display reaches the screen at once."""

    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Show new lines for a day."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        shown: deque[str] = deque(maxlen=2 * MOST_LINES)
        missing: list[str] = []
        options, began = dict(self._task.args), time.monotonic()
        while (asked := time.monotonic()) - began < LONGEST_SECONDS:
            answer = self._execute_module("service_logs", module_args=options, task_vars=task_vars)
            if answer.get("failed"):
                return result | answer
            for reason in set(answer["missing"]).difference(missing):
                self._display.display(f"WARNING: {reason}; these lines are missing")
            missing = answer["missing"]
            for line in new_lines(shown, answer["lines"]):
                self._display.display(line)
                shown.append(line)
            time.sleep(PAUSE_SECONDS)
            since = round(time.monotonic() - asked) + LATE_SECONDS
            options |= {"since": f"{since}s", "lines": MOST_LINES}
        return result


def new_lines(shown: Sequence[str], found: Sequence[str]) -> list[str]:
    """Return the lines that were not shown, from the time of the first that was; each begins with its time."""
    known = Counter(shown)
    first = shown[0].partition(" ")[0] if shown else ""
    new = []
    for line in found:
        if known[line]:
            known[line] -= 1
        elif line.partition(" ")[0] >= first:
            new.append(line)
    return new
