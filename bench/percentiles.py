"""Latency histograms: the recorder's log format, sums and percentiles.

Values in a histogram are in microseconds; this module returns milliseconds.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hdrh.histogram import HdrHistogram

LOWEST_US, HIGHEST_US, DIGITS = 1, 600_000_000, 3
REPORTED = {"p50": 50.0, "p95": 95.0, "p99": 99.0, "p99_9": 99.9, "max": 100.0}
TAIL_SAMPLES = 10_000
"""From this number of samples on, p99.9 has ten beyond it and is reported."""
# Percentiles of the overlaid curves, spaced by "nines" to show the tail.
CURVE = (0.0, 10.0, 25.0, 50.0, 60.0, 70.0, 75.0, 80.0, 85.0, 90.0, 92.5, 95.0, 96.5, 98.0, 99.0, 99.25, 99.5, 99.75, 99.9, 99.95, 99.99)


def new_histogram() -> HdrHistogram:
    """An empty histogram for 1 us to 10 min with three significant digits."""
    return HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)


@dataclass(frozen=True)
class Interval:
    """The requests of one kind that finished in one second (epoch)."""

    second: int
    outcome: str
    name: str
    histogram: HdrHistogram


def read_hlog(path: Path) -> Iterator[Interval]:
    """The intervals of an HdrHistogram log. Raises ValueError at a line that was cut short."""
    with path.open() as lines:
        for line in lines:
            if line.startswith("#"):
                continue
            fields = line.rstrip("\n").split(",")
            if len(fields) != 5 or not line.endswith("\n"):
                raise ValueError(f"{path}: a line was cut short")
            outcome, _, name = fields[0].removeprefix("Tag=").partition(":")
            yield Interval(int(float(fields[1])), outcome, name, HdrHistogram.decode(fields[4].encode()))


def microseconds(milliseconds: float) -> int:
    """A duration as a histogram value (four significant digits, at least 1 us): one digit more than the histogram keeps."""
    value = max(1, int(milliseconds * 1000))
    step = int(10 ** max(0, len(str(value)) - 4))
    return value // step * step


def hlog_line(tag: str, second: int, histogram: HdrHistogram) -> str:
    """An interval of one second as a line of an HdrHistogram log (times in s, maximum in ms)."""
    safe_tag = tag.replace(",", "_").replace(" ", "_")
    return f"Tag={safe_tag},{second},1.000,{histogram.get_max_value() / 1000:.3f},{histogram.encode().decode()}"


def merged(histograms: Iterable[HdrHistogram]) -> HdrHistogram:
    """The sum of histograms; its percentiles are exactly those of all samples together."""
    total = new_histogram()
    for histogram in histograms:
        total.add(histogram)
    return total


def latency_ms(histogram: HdrHistogram) -> dict[str, float | None] | None:
    """p50, p95, p99, p99_9 (None if there are too few samples) and max in milliseconds; None if there are no samples."""
    count = histogram.get_total_count()
    if not count:
        return None
    return {name: None if name == "p99_9" and count < TAIL_SAMPLES else at(histogram, percentile) for name, percentile in REPORTED.items()}


def at(histogram: HdrHistogram, percentile: float) -> float:
    """The value in milliseconds below which ``percentile`` per cent of the samples lie."""
    return round(float(histogram.get_value_at_percentile(percentile)) / 1000, 3)


def curve_ms(histogram: HdrHistogram) -> list[list[float]]:
    """``[[percentile, milliseconds], ...]`` up to the last percentile with at least ten samples beyond it."""
    count = histogram.get_total_count()
    reach = [p for p in CURVE if count * (1 - p / 100) >= 10 or p <= 50]
    return [[p, at(histogram, p)] for p in reach] if count else []


def per_second(intervals: Iterable[Interval], first: int, last: int) -> dict[str, list[float | None]]:
    """Series from second ``first`` to ``last`` (exclusive): ``ok`` and ``failed`` per second, ``p50`` and ``p99`` in ms (None if no request succeeded)."""
    counts: dict[str, dict[int, int]] = {"ok": defaultdict(int), "failed": defaultdict(int)}
    latencies: dict[int, list[HdrHistogram]] = defaultdict(list)
    for interval in intervals:
        if interval.outcome in counts:
            counts[interval.outcome][interval.second] += interval.histogram.get_total_count()
        if interval.outcome == "ok":
            latencies[interval.second].append(interval.histogram)
    seconds = range(first, last)
    totals = [merged(latencies[second]) if second in latencies else None for second in seconds]
    return {
        "ok": [counts["ok"][second] for second in seconds],
        "failed": [counts["failed"][second] for second in seconds],
        "p50": [at(total, 50) if total else None for total in totals],
        "p99": [at(total, 99) if total else None for total in totals],
    }
