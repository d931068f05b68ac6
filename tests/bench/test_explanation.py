"""What a report says of a speed-up above the number of replicas."""

import json
import re
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from bench.explanation import explain
from support.ansible import ROOT


@pytest.fixture
def example() -> dict[str, Any]:
    """The summary of a run in which 4 replicas were 6.30 times as fast as 1."""
    summary: dict[str, Any] = json.loads((ROOT / "docs/example-report/summary.json").read_text())
    return summary


def told(summary: dict[str, Any]) -> str | None:
    return explain(summary["counts"][1], 1, summary["arms"], summary["settings"]["users"])


def test_its_factors_are_those_of_the_arms_and_make_up_the_speed_up(example: dict[str, Any]) -> None:
    text = told(example)
    assert text
    assert text == example["counts"][1]["explanation"]
    assert "because a request cost less CPU" in text
    cost = {}
    for replicas in (1, 4):
        arms = [arm for arm in example["arms"] if arm["phase"] == "S" and arm["replicas"] == replicas]
        cores = [service["cpu_cores"] for arm in arms for service in arm["services"] if service["service"] == "counter_app"]
        cost[replicas] = sum(cores) / sum(arm["throughput_rps"] for arm in arms) * 1000
    assert f"{cost[4]:.2f} ms of a replica's CPU with 4, and {cost[1]:.2f} ms with 1" in text
    used, cheaper, product = map(float, re.findall(r"([\d.]+) times ([\d.]+) is ([\d.]+)\. ", text)[0])
    assert used * cheaper == pytest.approx(product, rel=0.01)
    assert product == pytest.approx(example["counts"][1]["speedup"]["value"], rel=0.02)
    assert "Each replica had 75 users with 4, and 300 with 1. Not recorded: the connections" in text


def test_a_speed_up_as_expected_needs_none(example: dict[str, Any]) -> None:
    example["counts"][1]["efficiency"] = 1.0
    assert told(example) is None
    assert example["counts"][0]["explanation"] is None


def test_what_the_run_does_not_show_is_said(example: dict[str, Any]) -> None:
    unlimited, unsampled, idle, noisy = (deepcopy(example) for _ in range(4))
    for arm in (arm for arm in idle["arms"] if arm["replicas"] == 1):
        arm["requests"] //= 10
        for service in arm["services"]:
            service["cpu_cores"] /= 10
    for service in (service for arm in unlimited["arms"] for service in arm["services"]):
        service["limit_cores"] = 0
    unsampled["arms"][3]["services"] = []
    noisy["counts"][1]["speedup"]["low"] = 3.9
    assert "The replicas had no CPU limit." in str(told(unlimited))
    assert str(told(unsampled)).endswith("This run cannot say why: it has no CPU samples of the replicas in all saturated arms.")
    assert "because 1 did not use the CPU that it had" in str(told(idle))
    assert "this may be noise" in str(told(noisy))


def test_recorded_runs_have_one_where_the_efficiency_is_above_one(recorded: Callable[[str], dict[str, Any]]) -> None:
    for run in ("busy-machine", "same-count"):
        for row in recorded(run)["counts"]:
            assert bool(row["explanation"]) == bool(row["efficiency"] and row["efficiency"] > 1)
