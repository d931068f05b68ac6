"""What this node decides and waits for, in the log of its service."""

from __future__ import annotations

import sys


class Journal:
    """Lines with the node's name."""

    def __init__(self, name: object) -> None:
        """Take what each line begins with."""
        self._name = name
        self._last = ""

    def write(self, text: str) -> None:
        """Write a line, unless it is empty or the same as the last one."""
        if text not in ("", self._last):
            sys.stderr.write(f"{self._name}: {text}\n")
            sys.stderr.flush()
        self._last = text
