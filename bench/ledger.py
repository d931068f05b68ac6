"""The ledger: what the counter gained against what the clients were told.

A success (2xx) promises one increment. A failed request is indeterminate: it may have counted before it failed. So with
``ok`` successes and ``failed`` failures the gain must lie in ``[ok, ok + failed]``, and without failures it must equal ``ok``.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

VISITS = "visits"
"""The counter that the page counts on; people who open the page during the run count on it too."""


@dataclass(frozen=True)
class Entry:
    """One counter in one arm: its value before and after, and what the clients saw."""

    counter: str
    request: str
    before: int
    after: int
    ok: int
    failed: int
    shared: bool = False

    @property
    def gain(self) -> int:
        """By how much the counter grew."""
        return self.after - self.before

    @property
    def lost(self) -> int:
        """Acknowledged increments that are not in the counter."""
        return max(0, self.ok - self.gain)

    @property
    def surplus(self) -> int:
        """Increments that nobody asked for: doubled ones, or other clients on a shared counter."""
        return max(0, self.gain - self.ok - self.failed)

    @property
    def state(self) -> str:
        """``exact``, ``lost``, ``surplus``, or ``disturbed`` where a surplus may be somebody else's."""
        if self.lost:
            return "lost"
        if self.surplus:
            return "disturbed" if self.shared else "surplus"
        return "exact"

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON, with the derived numbers."""
        return {**asdict(self), "gain": self.gain, "lost": self.lost, "surplus": self.surplus, "state": self.state}


def entries(before: Mapping[str, int], after: Mapping[str, int], counter: str, requests: Mapping[str, tuple[int, int]]) -> list[Entry]:
    """The ledger of one arm. ``before``/``after``: values by counter name; ``requests``: (ok, failed) by request name."""
    pairs = ((counter, "increment", False), (VISITS, "page", True))
    return [Entry(name, request, before[name], after[name], *requests.get(request, (0, 0)), shared=shared) for name, request, shared in pairs]


def client_requests(statistics: Path) -> dict[str, tuple[int, int]]:
    """(ok, failed) by request name from Locust's ``--json-file``: the whole run, ramp included. Raises OSError, KeyError.

    Not from ``*_stats.csv``: its last row is written before the last requests are answered.
    """
    counts: dict[str, tuple[int, int]] = {}
    for entry in json.loads(statistics.read_text()):
        ok, failed = counts.get(entry["name"], (0, 0))
        counts[entry["name"]] = (ok + entry["num_requests"] - entry["num_failures"], failed + entry["num_failures"])
    return counts
