"""Ratios, the scalability law and capacity."""

import math

import numpy as np
import pytest
from bench.scaling import TooFewPoints, efficiency, fit_usl, ratio, replicas_for, usl
from hypothesis import given, settings
from hypothesis import strategies as st

POSITIVE = st.floats(1, 1e5)
PAIRS = st.lists(st.tuples(POSITIVE, POSITIVE), min_size=1, max_size=8)


@given(PAIRS)
def test_ratio_lies_in_its_interval_and_among_its_pairs(pairs: list[tuple[float, float]]) -> None:
    result = ratio(pairs)
    assert result.low <= result.value <= result.high
    assert min(result.pairs) <= result.value * (1 + 1e-9)
    assert result.value <= max(result.pairs) * (1 + 1e-9)


@given(PAIRS, st.floats(0.01, 100))
def test_ratio_knows_no_unit(pairs: list[tuple[float, float]], scale: float) -> None:
    assert math.isclose(ratio(pairs).value, ratio([(a * scale, b * scale) for a, b in pairs]).value, rel_tol=1e-9)


@given(PAIRS)
def test_swapped_arms_give_the_inverse(pairs: list[tuple[float, float]]) -> None:
    assert math.isclose(ratio(pairs).value * ratio([(b, a) for a, b in pairs]).value, 1, rel_tol=1e-9)


def test_interval_is_named_by_the_number_of_pairs() -> None:
    pairs = [(100, 380), (100, 390), (100, 370), (100, 385)]
    assert ratio(pairs[:1]).interval == "one pair: no interval"
    assert ratio(pairs[:2]).interval == "range of 2 pairs"
    assert (ratio(pairs[:2]).low, ratio(pairs[:2]).high) == (3.8, 3.9)
    assert ratio(pairs).interval == "95% interval over 4 pairs"


@pytest.mark.parametrize("pairs", [4, 6])
def test_interval_covers_the_truth_of_aa_runs(pairs: int) -> None:
    """Of simulated runs of a count against itself with 3 % noise, the interval contains 1 in as many as it says."""
    generator = np.random.default_rng(1)
    runs = [generator.lognormal(0, 0.03, (pairs, 2)) * 1000 for _ in range(2000)]
    found = [ratio([tuple(pair) for pair in run]) for run in runs]
    covered = sum(one.low <= 1 <= one.high for one in found)
    assert 0.94 <= covered / len(runs) <= 0.96


@given(st.floats(0.1, 8), st.integers(1, 8), st.integers(1, 64))
def test_perfect_scaling_has_efficiency_one(scale: float, base: int, replicas: int) -> None:
    assert math.isclose(efficiency(replicas / base, base, replicas), 1)
    assert efficiency(scale, base, replicas) >= 0


@settings(max_examples=15, deadline=None)
@given(st.floats(50, 5000), st.floats(0, 0.3), st.floats(0, 0.01))
def test_fit_finds_the_law_that_made_the_points(single: float, contention: float, coherence: float) -> None:
    points = [(n, float(usl(n, single, contention, coherence))) for n in (1, 2, 4, 8, 16)]
    fit = fit_usl(points)
    for n, throughput in points:
        assert math.isclose(float(usl(n, fit.single, fit.contention, fit.coherence)), throughput, rel_tol=0.01)


@pytest.mark.parametrize("points", [[], [(1, 100.0)], [(1, 100.0), (4, 380.0)], [(1, 100.0), (1, 101.0), (2, 190.0), (4, 380.0)]])
def test_fewer_than_four_counts_are_refused(points: list[tuple[int, float]]) -> None:
    with pytest.raises(TooFewPoints, match="needs 4"):
        fit_usl(points)


@pytest.mark.parametrize("throughput", [(500, 505, 470, 481), (500, 480, 470, 430), (500, 400, 200, 100), (100, 200, 400, 800)])
def test_throughput_that_does_not_grow_or_grows_perfectly_can_be_fitted(throughput: tuple[float, ...]) -> None:
    """Then a parameter is at its bound."""
    points = list(zip((1, 2, 4, 8), throughput, strict=True))
    fit = fit_usl(points)
    for n, measured in points:
        low, high = fit.interval(n)
        assert low <= high
        assert math.isclose(float(usl(n, fit.single, fit.contention, fit.coherence)), measured, rel_tol=0.25)


def test_a_law_that_is_far_from_the_measured_predicts_nothing() -> None:
    """It has no throughput that grows faster than the replicas."""
    with pytest.raises(TooFewPoints, match=r"differs from the measured throughput by up to \d+%"):
        fit_usl([(1, 301.0), (2, 800.0), (4, 1950.0), (8, 4100.0)])


def test_no_throughput_is_refused() -> None:
    with pytest.raises(TooFewPoints, match="no request succeeded"):
        fit_usl([(n, 0.0) for n in (1, 2, 4, 8)])


def measured() -> list[tuple[int, float]]:
    generator = np.random.default_rng(2)
    return [(n, float(usl(n, 250, 0.03, 0.0005)) * generator.normal(1, 0.02)) for n in (1, 2, 4, 8) for _ in range(2)]


def test_capacity_has_an_uncertainty_around_its_estimate() -> None:
    capacity = replicas_for(fit_usl(measured()), 1000)
    assert capacity.low <= capacity.replicas <= (capacity.high or math.inf)
    assert capacity.replicas in (4, 5, 6)


def test_more_load_never_needs_fewer_replicas() -> None:
    fit = fit_usl(measured())
    needed = [replicas_for(fit, wanted).replicas for wanted in range(100, 2000, 100)]
    assert needed == sorted(needed)


def test_capacity_far_beyond_the_measured_is_refused() -> None:
    with pytest.raises(TooFewPoints, match="Measure larger counts"):
        replicas_for(fit_usl(measured()), 50_000)
