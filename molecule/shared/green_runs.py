"""Keeps ``molecule/runs.json``: the last green run of each scenario, one line for each.

``python green_runs.py SCENARIO DIRECTORY`` notes that the scenario has just passed. DIRECTORY has ``began``, written
when it began, and perhaps ``figures.jsonl``: a line for each load that it judged, with ``acknowledged`` increments, how
many of them were ``lost`` or ``doubled``, requests that ``failed``, and the longest ``gap`` without an answer in
seconds. Without arguments, it prints what would be noted as ``commit``.

Keys of a run: ``commit`` (with + if files had changed), ``date``, ``seconds``, ``cores``, ``slowness`` (how many times
slower the machine was than the one on which waits were chosen), and the sums of the figures, of ``gap`` the longest.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RUNS = ROOT / "molecule/runs.json"
# Files that a green run writes.
WRITTEN = ("molecule/runs.json", "docs/tested.md")
SUMS = ("acknowledged", "lost", "doubled", "failed")

sys.path.insert(0, str(ROOT / "tests"))
from support.waiting import slowness  # noqa: E402


def read() -> dict[str, dict[str, Any]]:
    """Return the last green run of each scenario that has one."""
    return dict(json.loads(RUNS.read_text(encoding="utf-8"))) if RUNS.exists() else {}


def write(runs: dict[str, dict[str, Any]]) -> None:
    """Store the runs, sorted by scenario."""
    lines = [f"{json.dumps(name)}: {json.dumps(runs[name])}" for name in sorted(runs)]
    RUNS.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def total(figures: Iterable[dict[str, float]]) -> dict[str, float]:
    """Return what all loads of a run come to; nothing of what no load said."""
    seen = list(figures)
    sums = {key: sum(one.get(key, 0) for one in seen) for key in SUMS if any(key in one for one in seen)}
    gaps = [one["gap"] for one in seen if "gap" in one]
    return sums | ({"gap": max(gaps)} if gaps else {})


def commit() -> str:
    """Return the short hash of what ran."""
    git = partial(subprocess.run, cwd=ROOT, capture_output=True, text=True, check=True)
    changed = git(["git", "status", "--porcelain", "--", ".", *(f":!{path}" for path in WRITTEN)]).stdout
    return str(git(["git", "rev-parse", "--short=8", "HEAD"]).stdout).strip() + ("+" if changed else "")


def main(scenario: str, directory: Path) -> None:
    """Note a run."""
    noted = directory / "figures.jsonl"
    lines = noted.read_text(encoding="utf-8").splitlines() if noted.exists() else []
    run = {
        "commit": commit(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "seconds": round(time.time() - (directory / "began").stat().st_mtime),
        "cores": os.cpu_count(),
        "slowness": round(slowness(), 1),
    }
    write(read() | {scenario: run | total(json.loads(line) for line in lines)})


if __name__ == "__main__":
    if sys.argv[1:]:
        main(sys.argv[1], Path(sys.argv[2]))
    else:
        print(commit())
