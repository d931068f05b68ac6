"""Chooses the scenario whose last green run is oldest, of those that end in time.

``python rotation.py MINUTES`` prints its name, and why on standard error. It prints no name if no known run fits into
so many minutes on this machine.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from green_runs import ROOT, read
from support.waiting import slowness


def estimate(run: Mapping[str, Any], slow: float) -> float:
    """Return the minutes that a run would take on a machine that is ``slow`` times slower than the first one."""
    return float(run["seconds"]) / 60 * slow / float(run["slowness"])


def choose(runs: Mapping[str, Mapping[str, Any]], minutes: float, slow: float) -> str | None:
    """Return the name of the oldest of ``runs`` that ends within ``minutes``; of one day, the shortest."""
    fitting = [name for name, run in runs.items() if estimate(run, slow) <= minutes]
    return min(fitting, key=lambda name: (runs[name]["date"], estimate(runs[name], slow)), default=None)


def main(minutes: float) -> None:
    """Print the choice for this machine."""
    slow = slowness()
    runs = read()
    unknown = sorted({path.parent.name for path in ROOT.glob("molecule/*/molecule.yml")} - set(runs))
    # It has just run.
    runs.pop("default", None)
    name = choose(runs, minutes, slow)
    if unknown:
        print(f"rotation: no run of these is known: {' '.join(unknown)}", file=sys.stderr)
    if name is None:
        print(f"rotation: no scenario ends within {minutes:.0f} minutes", file=sys.stderr)
        return
    why = f"its last green run, {runs[name]['commit']} on {runs[name]['date']}, is the oldest of those that end in time"
    left = f"about {estimate(runs[name], slow):.0f} of {minutes:.0f} minutes"
    print(f"rotation: {name} is next ({left}), since {why}", file=sys.stderr)
    print(name)


if __name__ == "__main__":
    main(float(sys.argv[1]))
