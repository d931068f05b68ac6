"""The ledger compares the gain of the counter with the responses that clients received.

A success (2xx) acknowledges one increment. A failed request is indeterminate: it may have counted before it failed. With
``ok`` successes and ``failed`` failures, the gain must lie in ``[ok, ok + failed]``; without failures it must equal ``ok``.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

VISITS = "visits"
"""The counter of page visits; anyone who opens the page during the run increments it too."""


@dataclass(frozen=True)
class Entry:
    """One counter in one arm: its value before and after, and the responses that clients received."""

    counter: str
    request: str
    before: int
    after: int
    ok: int
    failed: int
    shared: bool = False

    @property
    def gain(self) -> int:
        """The growth of the counter."""
        return self.after - self.before

    @property
    def lost(self) -> int:
        """Acknowledged increments that the counter lacks."""
        return max(0, self.ok - self.gain)

    @property
    def surplus(self) -> int:
        """Increments that no request of the arm explains: duplicates, or other clients of a shared counter."""
        return max(0, self.gain - self.ok - self.failed)

    @property
    def state(self) -> str:
        """``exact``, ``lost``, ``surplus``, or ``disturbed`` if other clients may have caused the surplus."""
        if self.lost:
            return "lost"
        if self.surplus:
            return "disturbed" if self.shared else "surplus"
        return "exact"

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON, including the derived numbers."""
        return {**asdict(self), "gain": self.gain, "lost": self.lost, "surplus": self.surplus, "state": self.state}


def entries(before: Mapping[str, int], after: Mapping[str, int], counter: str, requests: Mapping[str, tuple[int, int]]) -> list[Entry]:
    """The ledger of one arm. ``before``/``after``: values by counter name; ``requests``: (ok, failed) by request name."""
    pairs = ((counter, "increment", False), (VISITS, "page", True))
    return [Entry(name, request, before[name], after[name], *requests.get(request, (0, 0)), shared=shared) for name, request, shared in pairs]


def client_requests(statistics: Path) -> dict[str, tuple[int, int]]:
    """(ok, failed) by request name, from Locust's ``--json-file``: the whole run including the ramp. Raises OSError, KeyError.

    ``*_stats.csv`` is not usable: Locust writes its last row before the last requests are answered.
    """
    counts: dict[str, tuple[int, int]] = {}
    for entry in json.loads(statistics.read_text()):
        ok, failed = counts.get(entry["name"], (0, 0))
        counts[entry["name"]] = (ok + entry["num_requests"] - entry["num_failures"], failed + entry["num_failures"])
    return counts
