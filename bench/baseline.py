"""The change from an earlier run that was made under the same conditions."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bench.environment import COMPARABLE
from bench.report import lookup

SAME_RATE = 0.05
"""Latencies are compared only if their rates differ by at most this share. Each run's rate is a share of its own capacity, so a faster
build is measured at a higher rate."""


def compare(summary: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Compare ``summary`` with the earlier summary at ``path`` (a file, or the directory of a run).

    Runs with different fingerprints are not compared: ``rows`` is empty and ``differences`` lists what differs. Latencies at
    different rates are listed side by side, without a ``change``. ``scatter`` is the largest difference in throughput between saturated
    arms of one count in ``summary``, as a share of the slower one; None if each count has one. Raises OSError, ValueError.
    """
    file = path / "summary.json" if path.is_dir() else path
    earlier = json.loads(file.read_text())
    if earlier.get("schema") != summary["schema"]:
        raise ValueError(f"{file}: schema {earlier.get('schema')!r}, expected {summary['schema']!r}")
    now, then = ({**s["settings"], **s["environment"]} for s in (summary, earlier))
    differences = [f"{fact}: {then.get(fact)} then, {now.get(fact)} now" for fact in COMPARABLE if now.get(fact) != then.get(fact)]
    rows = []
    if not differences:
        others = {row["replicas"]: row for row in reversed(earlier["counts"])}
        # A speed-up is one over the first count.
        same_first = earlier["counts"][0]["replicas"] == summary["counts"][0]["replicas"]
        for row in summary["counts"]:
            if row["replicas"] in others:
                rows += _rows(row, others[row["replicas"]], same_first=same_first)
    return {
        "run": earlier["run"]["id"],
        "topology": earlier["settings"]["topology"],
        "edge": earlier["settings"]["edge"],
        "result": earlier["verdict"]["result"],
        "comparable": not differences,
        "differences": differences,
        "scatter": _scatter(summary["arms"]),
        "rows": rows,
    }


def _scatter(arms: Iterable[Mapping[str, Any]]) -> float | None:
    rates: defaultdict[int, list[float]] = defaultdict(list)
    for arm in arms:
        if arm["phase"] == "S" and arm["throughput_rps"]:
            rates[arm["replicas"]].append(arm["throughput_rps"])
    return max((round(max(of_count) / min(of_count) - 1, 4) for of_count in rates.values() if len(of_count) > 1), default=None)


def _rows(row: Mapping[str, Any], other: Mapping[str, Any], *, same_first: bool) -> list[dict[str, Any]]:
    before, after = (lookup(side, "latency.rate_rps") or 0.0 for side in (other, row))
    alike = abs(after - before) <= SAME_RATE * before
    paced = f"at {before:,.0f} requests/s then, {after:,.0f} now"
    chosen = (
        ("requests/s, saturated", "saturation.throughput_rps", True),
        (f"p99 in ms {paced}", "latency.corrected_ms.p99", alike),
        (f"p50 in ms {paced}", "latency.corrected_ms.p50", alike),
        *([("speed-up", "speedup.value", True)] if same_first else []),
    )
    rows = []
    for figure, path, comparable in chosen:
        now, then = lookup(row, path), lookup(other, path)
        if now is not None and then:
            rows.append({"replicas": row["replicas"], "figure": figure, "then": then, "now": now, "change": round(now / then - 1, 4) if comparable else None})
    return rows
