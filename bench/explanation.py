"""Why replicas served more than their number suggests: what a request cost, from the CPU samples of the saturated arms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Cost:
    """What the replicas of one count used: cores in total, milliseconds of CPU per request, share of the periods in which the limit stopped them."""

    cores: float
    request_ms: float
    throttled: float | None


def explain(row: Mapping[str, Any], base: int, measured: Sequence[Mapping[str, Any]], users: int) -> str | None:
    """A paragraph for a replica count whose efficiency is above 1, with what the run does not show; None for others.

    The speed-up is the ratio of the CPU used, times the ratio of the requests that each second of CPU answered.
    """
    if not row["speedup"] or row["efficiency"] <= 1:
        return None
    replicas, speed = row["replicas"], row["speedup"]
    begin = f"{speed['value']:.2f} times the throughput is more than {replicas / base:g}, the ratio of the replicas"
    few, many = (_cost([arm for arm in measured if arm["phase"] == "S" and arm["column"] == column]) for column in (0, row["column"]))
    if not few or not many:
        return f"{begin}. This run cannot say why: it has no CPU samples of the replicas in all saturated arms."
    used, cheaper = many.cores / few.cores, few.request_ms / many.request_ms
    cause = "a request cost less CPU" if cheaper >= used * base / replicas else f"{base} did not use the CPU that it had"
    noise = " The interval includes that ratio, so this may be noise." if speed["low"] <= replicas / base else ""
    return (
        f"{begin}, because {cause}.{noise} A request took {many.request_ms:.2f} ms of a replica's CPU with {replicas}, and {few.request_ms:.2f} ms with {base},"
        f" so each second of CPU answered {cheaper:.2f} times as many. The replicas used {many.cores:.2f} cores instead of {few.cores:.2f},"
        f" {used:.2f} times as much; {used:.2f} times {cheaper:.2f} is {used * cheaper:.2f}. {_limits(few, many, base, replicas)} Each replica"
        f" had {users / replicas:g} users with {replicas}, and {users / base:g} with {base}. Not recorded: the connections from the edge to each"
        " replica, and what a replica spends its CPU on; so the run does not show why a request costs less when fewer users share a replica."
    )


def _cost(arms: Sequence[Mapping[str, Any]]) -> Cost | None:
    apps = [(arm, service) for arm in arms for service in arm["services"] if service["service"].endswith("_app")]
    requests = sum(arm["requests"] + arm["failed"] for arm in arms)
    cpu_seconds = sum(service["cpu_cores"] * arm["seconds"] for arm, service in apps)
    if len(apps) != len(arms) or not requests or not cpu_seconds:
        return None
    limited = all(service["limit_cores"] for _, service in apps)
    throttled = sum(service["throttled_ratio"] for _, service in apps) / len(apps)
    return Cost(cpu_seconds / sum(arm["seconds"] for arm in arms), cpu_seconds / requests * 1000, throttled if limited else None)


def _limits(few: Cost, many: Cost, base: int, replicas: int) -> str:
    if few.throttled is None or many.throttled is None:
        return "The replicas had no CPU limit."
    return f"The CPU limit stopped them in {many.throttled:.0%} of the periods with {replicas}, and in {few.throttled:.0%} with {base}."
