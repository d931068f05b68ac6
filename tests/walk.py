"""Counts what somebody reads who follows a deployment from top to bottom.

``ansible-playbook -vv deploy.yml | python tests/walk.py`` prints how many files of tasks and playbooks the run entered,
in how many steps (each is a change from one file to another), how many changes of role there were, and the steps.
"""

from __future__ import annotations

import re
import sys
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PATH = re.compile(r"^task path: (\S+):\d+$", re.MULTILINE)


def steps(log: str) -> list[str]:
    """Return the files in the order in which the run entered them."""
    return [path.removeprefix(f"{ROOT}/") for path, _ in groupby(PATH.findall(log))]


def room(path: str) -> str:
    """Return the role of a file, or ``playbooks``."""
    role = re.match(r"roles/([^/]+)/", path)
    return role[1] if role else "playbooks"


def main() -> None:
    """Read the log of a run, and print the numbers and the steps."""
    entered = steps(sys.stdin.read())
    rooms = [name for name, _ in groupby(map(room, entered))]
    print(f"{len(set(entered))} files, {len(entered)} steps, {len(rooms) - 1} changes of role")
    print("\n".join(entered))


if __name__ == "__main__":
    main()
