"""Cumulative counters become rates; what was full is named."""

from dataclasses import replace

import pytest
from bench.arm import load_recording
from bench.resources import OTHERS, Sample, bottleneck, by_service, cpu_series, of_stack, read_samples
from hypothesis import given
from hypothesis import strategies as st
from support.recordings import unpacked

IDLE = {"busiest_cores": 0.1}


def row(second: float, task: str, cpu_s: float, limit: float = 0.5) -> Sample:
    return Sample(second, "n1", "s_app", task, cpu_s, int(second * 10), int(second * 5), second / 2, 2**20, limit, None)


@given(st.lists(st.floats(0, 4), min_size=1, max_size=5), st.integers(2, 30))
def test_cpu_is_the_sum_over_tasks(cores: list[float], seconds: int) -> None:
    samples = [row(t, f"app.{i}", used * t) for i, used in enumerate(cores) for t in range(seconds + 1)]
    (service,) = by_service(samples, 0, seconds + 1)
    assert abs(service["cpu_cores"] - sum(cores)) <= 0.01
    assert service["tasks"] == len(cores)
    assert service["throttled_ratio"] == 0.5
    assert abs(service["load"] - max(cores) / 0.5) <= 0.01


def test_samples_outside_the_window_do_not_count() -> None:
    samples = [row(t, "app.1", 0.0 if t < 10 else (t - 10) * 1.0) for t in range(30)]
    (service,) = by_service(samples, 10, 20)
    assert abs(service["cpu_cores"] - 1.0) < 1e-6


def test_cpu_that_the_hypervisor_takes_is_not_free() -> None:
    used = [Sample(t, "n1", "node", "n1", 1.2 * t, 0, 0, 0.0, 2**20, 2, 0.7 * t) for t in range(21)]
    (node,) = by_service(used, 0, 20)
    assert (node["cpu_cores"], node["load"], node["steal_ratio"]) == (1.2, 0.95, 0.35)
    assert "95% busy or stolen" in bottleneck([node], IDLE)


def test_series_leaves_gaps_where_nothing_was_sampled() -> None:
    series = cpu_series([row(t, "app.1", t * 0.25) for t in (5, 6, 7)], 0, 10)
    assert series == {"s_app": [None] * 6 + [0.25, 0.25, None, None]}


def test_other_stacks_are_one_line_and_never_the_bottleneck() -> None:
    samples = [replace(row(t, "app.1", t * 0.5), service=name) for t in range(5) for name in ("s_app", "x_app", "sx_app")]
    services = by_service(of_stack(samples, "s"), 0, 5)
    assert [service["service"] for service in services] == [OTHERS, "s_app"]
    assert "s_app" in bottleneck(services, IDLE)
    assert bottleneck([service for service in services if service["service"] == OTHERS], IDLE) == "Nothing was saturated: the offered load was the limit."


def used(service: str, node: str, cores: float, limit: float = 0.0) -> list[Sample]:
    return [Sample(t, node, service, service, cores * t, 0, 0, 0.0, 2**20, limit, None) for t in range(21)]


@pytest.mark.parametrize(
    ("service", "cores", "load", "said"),
    [
        ("s_edge", 1.3, 0.163, "Nothing was saturated"),
        ("s_edge", 7.6, 0.95, "The bottleneck was s_edge: its busiest task used 95% of the cores of its node."),
        ("s-redis_redis-1", 0.95, 0.95, "The bottleneck was s-redis_redis-1: its busiest task used 95% of one core."),
    ],
)
def test_without_a_limit_only_the_edge_uses_several_cores(service: str, cores: float, load: float, said: str) -> None:
    """HAProxy has a thread for each core of its own node; one of Redis counts."""
    samples = used("node", "n1", 0.1, 8) + used("node", "n2", 0.1, 1) + used(service, "n1", cores)
    services = by_service(samples, 0, 21)
    assert {row["service"]: row["load"] for row in services}[service] == load
    assert bottleneck(services, IDLE).startswith(said)


def test_recorded_saturated_replica_used_its_limit() -> None:
    samples = of_stack(read_samples((unpacked("busy-machine") / "resources").glob("*.csv")), "bench")
    recording = load_recording(unpacked("busy-machine") / "arms/S-r1-1")
    services = {service["service"]: service for service in by_service(samples, recording.first, recording.last)}
    app = services["bench_app"]
    assert (app["tasks"], app["limit_cores"]) == (1, 0.15)
    assert 0.9 <= app["load"] <= 1.1
    assert app["throttled_ratio"] > 0.9
    assert "bench_app" in bottleneck(services.values(), IDLE)
    assert services["node"]["limit_cores"] == 2
