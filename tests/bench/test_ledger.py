"""The ledger, by its definition and on recorded runs."""

from pathlib import Path

import pytest
from bench.arm import load_recording
from bench.ledger import Entry, client_requests, entries
from hypothesis import given
from hypothesis import strategies as st
from support.recordings import RUNS, unpacked

ARMS = [directory for run in RUNS for directory in sorted(unpacked(run).glob("arms/*"))]
COUNT = st.integers(0, 10**9)


@given(COUNT, COUNT, COUNT, COUNT, st.booleans())
def test_exact_is_acknowledged_to_acknowledged_plus_indeterminate(before: int, gain: int, ok: int, failed: int, shared: bool) -> None:
    entry = Entry("c", "increment", before, before + gain, ok, failed, shared)
    assert (entry.state == "exact") == (ok <= gain <= ok + failed)
    assert not (entry.lost and entry.surplus)
    assert (entry.state == "lost") == (gain < ok)


@given(COUNT, COUNT)
def test_without_failures_only_equality_is_exact(gain: int, ok: int) -> None:
    assert (Entry("c", "increment", 0, gain, ok, 0).state == "exact") == (gain == ok)


def test_surplus_on_a_shared_counter_may_be_somebody_elses() -> None:
    assert Entry("visits", "page", 0, 11, 10, 0, shared=True).state == "disturbed"
    assert Entry("own", "increment", 0, 11, 10, 0).state == "surplus"


def test_requests_go_to_the_counter_that_they_count_on() -> None:
    own, visits = entries({"c": 1, "visits": 5}, {"c": 4, "visits": 6}, "c", {"increment": (3, 0), "page": (1, 0), "read": (9, 0)})
    assert (own.counter, own.gain, own.state) == ("c", 3, "exact")
    assert (visits.counter, visits.gain, visits.state) == ("visits", 1, "exact")


@pytest.mark.parametrize("directory", ARMS, ids=lambda path: f"{path.parent.parent.name}/{path.name}")
def test_recorder_and_locust_counted_the_same(directory: Path) -> None:
    """Both saw every request, the ramp and the last ones included: otherwise the ledger would compare with a wrong number."""
    recording = load_recording(directory)
    seen: dict[str, tuple[int, int]] = {}
    for interval in recording.intervals:
        if interval.outcome != "corrected":
            ok, failed = seen.get(interval.name, (0, 0))
            count = interval.histogram.get_total_count()
            seen[interval.name] = (ok + count, failed) if interval.outcome == "ok" else (ok, failed + count)
    assert client_requests(directory / "locust.json") == seen
