"""What decides, and in which order."""

import pytest
from bench.verdict import Check, Kind, at_least, at_most, decide, exit_code
from hypothesis import given
from hypothesis import strategies as st

CHECKS = st.lists(
    st.builds(
        Check,
        kind=st.sampled_from(["fact", "guard", "objective"]),
        rule=st.just("r"),
        value=st.none(),
        limit=st.none(),
        passed=st.sampled_from([True, False, None]),
        text=st.just(""),
    )
)


@given(CHECKS)
def test_facts_then_guards_then_objectives(checks: list[Check]) -> None:
    failed = {check.kind for check in checks if check.passed is False}
    expected = "FAIL" if "fact" in failed else "INCONCLUSIVE" if "guard" in failed else "FAIL" if failed else "PASS"
    assert decide(checks) == expected


@given(CHECKS)
def test_what_was_not_asked_decides_nothing(checks: list[Check]) -> None:
    assert decide(checks) == decide([check for check in checks if check.passed is not None])


@pytest.mark.parametrize("kind", ["guard", "objective"])
def test_what_was_asked_but_not_measured_is_inconclusive(kind: Kind) -> None:
    assert decide([at_most(kind, "r", 0.5, 0.6, ""), at_most(kind, "r", None, 0.6, "")]) == "INCONCLUSIVE"
    assert decide([at_most(kind, "r", None, None, "")]) == "PASS"
    assert decide([at_most("fact", "r", 1, 0, ""), at_most(kind, "r", None, 0.6, "")]) == "FAIL"


@pytest.mark.parametrize(
    ("rate", "p99", "cpu", "verdict"),
    [
        (1.0, 100, 0.5, "PASS"),
        (1.0, 300, 0.5, "FAIL"),
        (0.9, 100, 0.5, "INCONCLUSIVE"),
        (0.9, 300, 0.5, "FAIL"),
        (0.9, 300, 0.9, "INCONCLUSIVE"),
        (0.9, 300, None, "INCONCLUSIVE"),
    ],
)
def test_an_application_too_slow_for_the_rate_misses_its_p99(rate: float, p99: float, cpu: float | None, verdict: str) -> None:
    """Unless the generator may have been the cause."""
    rate_check, p99_check = at_least("guard", "offered rate", rate, 0.98, ""), at_most("objective", "p99", p99, 200, "")
    assert decide([rate_check, at_most("guard", "generator CPU", cpu, 0.8, ""), p99_check]) == verdict


@pytest.mark.parametrize(("result", "strict", "code"), [("PASS", True, 0), ("FAIL", False, 1), ("INCONCLUSIVE", False, 0), ("INCONCLUSIVE", True, 2)])
def test_exit(result: str, strict: bool, code: int) -> None:
    assert exit_code(result, strict) == code  # type: ignore[arg-type]


def test_limits_are_inclusive_and_none_is_not_judged() -> None:
    assert at_most("guard", "r", 0.6, 0.6, "").passed is True
    assert at_most("guard", "r", 0.61, 0.6, "").passed is False
    assert at_least("guard", "r", 0.98, 0.98, "").passed is True
    assert at_least("guard", "r", 0.97, 0.98, "").passed is False
    assert at_most("objective", "r", 5.0, None, "").passed is None
    assert at_most("guard", "r", None, 0.6, "").passed is None
