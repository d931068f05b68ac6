"""PASS, FAIL or INCONCLUSIVE, and why.

A wrong ledger, or more errors than allowed, is a fact regardless of the generator: FAIL. If the generator or the measurement was
the bottleneck, the figures do not describe the application: INCONCLUSIVE. So is a value that has a limit but was not measured, and
an efficiency whose interval contains its limit.
Otherwise the objectives decide. If only the offered rate was not reached, the application was too slow for it: then p99, which
counts from when a request was due, would exceed its limit at the full rate too.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

CEILING_SHARE = 0.6
WORKER_CPU = 0.8
ACHIEVED_SHARE = 0.98
SURPLUS_SHARE = 1.1
"""Above it, each turn of the Locust file sends several requests, and the rate is not the one that the report names."""
NOT_OF_LATENCY = {"offered rate", "efficiency interval"}
"""Guards that leave it certain that a p99 is above its limit."""
QUEUED = 2
"""How many times as long as at the fixed rate the median request takes if the users saturate the replicas."""

Result = Literal["PASS", "FAIL", "INCONCLUSIVE"]
Kind = Literal["fact", "guard", "objective"]


@dataclass(frozen=True)
class Check:
    """One rule applied to ``value`` and ``limit``. ``passed`` is None without a value, or without a limit: nothing is demanded."""

    kind: Kind
    rule: str
    value: float | None
    limit: float | None
    passed: bool | None
    text: str

    @property
    def is_unknown(self) -> bool:
        """Whether there is a limit, but no value."""
        return self.value is None and self.limit is not None


def decide(checks: Sequence[Check]) -> Result:
    """The verdict over all checks; the module's docstring describes the order."""
    failed = {check.kind for check in checks if check.passed is False}
    if "fact" in failed:
        return "FAIL"
    guards = {check.rule for check in checks if check.kind == "guard" and check.passed is False}
    is_too_late = any(check.rule == "p99" and check.passed is False for check in checks)
    if any(check.is_unknown for check in checks) or guards - NOT_OF_LATENCY or (guards and not is_too_late):
        return "INCONCLUSIVE"
    return "FAIL" if "objective" in failed else "PASS"


def worst(results: Iterable[Result]) -> Result:
    """The worst of one or more verdicts."""
    return max(results, key=["PASS", "INCONCLUSIVE", "FAIL"].index)


def exit_code(result: Result, strict: bool) -> int:
    """0 for PASS, 1 for FAIL; for INCONCLUSIVE 2 if ``strict``, otherwise 0."""
    return {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 2 if strict else 0}[result]


def at_most(kind: Kind, rule: str, value: float | None, limit: float | None, text: str) -> Check:
    """A check that holds when ``value <= limit``."""
    return Check(kind, rule, value, limit, None if value is None or limit is None else value <= limit, text)


def at_least(kind: Kind, rule: str, value: float | None, limit: float | None, text: str) -> Check:
    """A check that holds when ``value >= limit``."""
    return Check(kind, rule, value, limit, None if value is None or limit is None else value >= limit, text)
