"""Histograms: what is written is read again, sums add up, percentiles are those of the samples."""

from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from bench.arm import load_recording
from bench.percentiles import Interval, at, curve_ms, hlog_line, latency_ms, merged, microseconds, new_histogram, per_second, read_hlog
from hypothesis import given
from hypothesis import strategies as st
from support.recordings import unpacked

VALUES = st.lists(st.integers(1, 60_000_000), min_size=1, max_size=60)


def histogram_of(values: list[int]):  # noqa: ANN201
    histogram = new_histogram()
    for value in values:
        histogram.record_value(value)
    return histogram


@given(VALUES, st.floats(1, 99.99))
def test_percentile_is_that_of_the_sorted_samples(values: list[int], percentile: float) -> None:
    rank = max(1, int(percentile / 100 * len(values) + 0.5))
    exact = sorted(values)[rank - 1] / 1000
    assert abs(at(histogram_of(values), percentile) - exact) <= exact * 0.002 + 0.001


@given(st.lists(VALUES, min_size=1, max_size=4))
def test_merging_is_recording_everything_together(parts: list[list[int]]) -> None:
    together = histogram_of([value for part in parts for value in part])
    assert latency_ms(merged(histogram_of(part) for part in parts)) == latency_ms(together)


@given(VALUES, st.integers(0, 2_000_000_000), st.sampled_from(["ok:page", "failed:read", "corrected:increment"]))
def test_hlog_is_read_as_written(values: list[int], second: int, tag: str) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "latency.hlog"
        path.write_text("#[Histogram log format version 1.2]\n" + hlog_line(tag, second, histogram_of(values)) + "\n")
        (interval,) = read_hlog(path)
    assert (interval.second, f"{interval.outcome}:{interval.name}") == (second, tag)
    assert latency_ms(interval.histogram) == latency_ms(histogram_of(values))


@pytest.mark.parametrize("left", ["", "Ta", "Tag=ok:page,1795604298,1.000,20.015,HISTFA"])
def test_a_log_that_was_cut_short_is_not_read_as_a_whole_one(tmp_path: Path, left: str) -> None:
    whole = (unpacked("busy-machine") / "arms/S-r4-1/latency.hlog").read_text()
    log = tmp_path / "latency.hlog"
    log.write_text(whole + left)
    with pytest.raises(ValueError, match="was cut short") if left else nullcontext():
        assert len(list(read_hlog(log))) == whole.count("Tag=")


@given(st.floats(0.001, 600_000))
def test_quantising_keeps_four_digits(milliseconds: float) -> None:
    value = microseconds(milliseconds)
    assert value >= 1
    assert abs(value - milliseconds * 1000) <= max(1, milliseconds)


def test_a_value_above_a_limit_stays_above() -> None:
    assert at(histogram_of([microseconds(200.9)]), 99) > 200.8


def test_nothing_measured_has_no_percentiles() -> None:
    assert latency_ms(new_histogram()) is None
    assert curve_ms(new_histogram()) == []


@pytest.mark.parametrize(("samples", "is_known"), [(9_999, False), (10_000, True)])
def test_the_last_percentile_has_ten_samples_beyond_it(samples: int, is_known: bool) -> None:
    figures = latency_ms(histogram_of([1000] * samples))
    assert figures
    assert (figures["p99_9"] is not None) == is_known
    assert figures["p99"] == figures["max"]


@given(st.lists(st.tuples(st.integers(0, 9), VALUES), max_size=8))
def test_series_counts_every_request_once(seconds: list[tuple[int, list[int]]]) -> None:
    intervals = [Interval(second, "ok", "page", histogram_of(values)) for second, values in seconds]
    series = per_second(intervals, 0, 10)
    assert sum(count or 0 for count in series["ok"]) == sum(len(values) for _, values in seconds)
    assert [p99 is None for p99 in series["p99"]] == [not count for count in series["ok"]]


def test_ramp_and_stop_are_outside_the_window() -> None:
    """In the recording: nothing in the window finished before all users ran, or after they began to stop."""
    recording = load_recording(unpacked("busy-machine") / "arms/S-r4-1")
    assert recording.first > recording.events["spawned"] + 2
    assert recording.last <= recording.events["stopping"]
    inside = Counter(interval.second for interval in recording.window)
    everything = Counter(interval.second for interval in recording.intervals)
    assert min(inside) >= recording.first
    assert max(inside) < recording.last
    assert sum(everything.values()) > sum(inside.values())
