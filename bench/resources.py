"""The resource usage of services, nodes and the generator in a window, from the samplers' cumulative counters."""

import csv
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

SATURATED = 0.9
"""From this utilisation on, a CPU counts as saturated."""
COVERED_SECONDS = 5
"""How much of a window the samples of a node may lack at its beginning and at its end."""


@dataclass(frozen=True)
class Sample:
    """One row of a sampler: cumulative CPU seconds, periods, throttled time; memory in bytes; limits in cores."""

    time: float
    node: str
    service: str
    task: str
    cpu_s: float
    periods: int
    throttled: int
    throttled_s: float
    memory_b: int
    limit_cores: float
    steal_s: float | None


COLUMNS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("node", "service", "task"), str),
    **dict.fromkeys(("periods", "throttled", "memory_b"), int),
    **dict.fromkeys(("time", "cpu_s", "throttled_s", "limit_cores"), float),
    "steal_s": lambda text: float(text) if text else None,
}


def read_samples(paths: Iterable[Path]) -> list[Sample]:
    """All samples, without rows that are cut short at the end of a file."""
    samples = []
    for path in paths:
        with path.open(newline="") as file:
            # Others are cut short, or written by two samplers.
            rows = [row for row in csv.DictReader(file) if None not in row and None not in row.values() and "\0" not in "".join(row.values())]
        samples += [Sample(**{name: read(row[name]) for name, read in COLUMNS.items()}) for row in rows]
    return samples


OTHERS = "other stacks"


def of_stack(samples: Iterable[Sample], stack: str) -> list[Sample]:
    """The samples, with the services of all other stacks under one name: they disturb the measurement, but are not its subject."""
    mine = (f"{stack}_", f"{stack}-redis_", f"{stack}-backup_")
    return [sample if sample.service == "node" or sample.service.startswith(mine) else replace(sample, service=OTHERS) for sample in samples]


def is_threaded(service: str) -> bool:
    """Whether a task of a service uses several cores: HAProxy has a thread for each, and Redis counts in one."""
    return service.endswith("_edge")


def by_service(samples: Iterable[Sample], first: float, last: float) -> list[dict[str, Any]]:
    """One entry per service (``node`` is the machine itself), summed over its tasks, within ``[first, last)`` epoch seconds.

    ``cpu_cores`` mean, ``limit_cores`` (0 = none; a machine's cores), ``load`` = CPU of the busiest task over its limit (if there is
    none, over 1 core, or over those of the node if it is threaded), of a node including what its hypervisor withheld, since neither is left,
    ``throttled_ratio`` = throttled periods over all, ``throttled`` periods, ``memory_mib`` peak, ``steal_ratio`` for nodes.
    """
    tasks: defaultdict[tuple[str, str], list[Sample]] = defaultdict(list)
    cores_of = {}
    for sample in samples:
        if first <= sample.time < last:
            tasks[sample.service, f"{sample.node}/{sample.task}"].append(sample)
            if sample.service == "node":
                cores_of[sample.node] = sample.limit_cores
    services: defaultdict[str, list[dict[str, float]]] = defaultdict(list)
    for (service, _), rows in tasks.items():
        begin, end = rows[0], rows[-1]
        seconds = end.time - begin.time
        # A task may begin or end within the window. A node whose samples do not cover it is unknown.
        covered = service != "node" or (begin.time <= first + COVERED_SECONDS and end.time >= last - COVERED_SECONDS)
        if seconds > 0 and covered:
            cores, steal = (end.cpu_s - begin.cpu_s) / seconds, ((end.steal_s or 0) - (begin.steal_s or 0)) / seconds
            available = end.limit_cores or (cores_of.get(end.node, 1) if is_threaded(service) else 1)
            services[service].append(
                {
                    "cores": cores,
                    "limit": end.limit_cores,
                    "load": (cores + steal) / available,
                    "periods": end.periods - begin.periods,
                    "throttled": end.throttled - begin.throttled,
                    "memory": max(row.memory_b for row in rows),
                    "steal": steal / available,
                }
            )
    return [_summed(service, services[service]) for service in sorted(services)]


def _summed(service: str, tasks: list[dict[str, float]]) -> dict[str, Any]:
    periods = sum(task["periods"] for task in tasks)
    throttled = int(sum(task["throttled"] for task in tasks))
    return {
        "service": service,
        "tasks": len(tasks),
        "cpu_cores": round(sum(task["cores"] for task in tasks), 3),
        "limit_cores": round(sum(task["limit"] for task in tasks), 3),
        "load": round(max(task["load"] for task in tasks), 3),
        "throttled": throttled,
        "throttled_ratio": round(throttled / periods, 3) if periods else 0.0,
        "memory_mib": round(sum(task["memory"] for task in tasks) / 2**20, 1),
        "steal_ratio": round(max(task["steal"] for task in tasks), 4),
    }


def of_generator(records: Iterable[Mapping[str, Any]], first: float, last: float) -> dict[str, Any]:
    """The generator's mean CPU in the window, in total and of its busiest process (cores), and its memory (MiB, sum of the peaks)."""
    processes: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for record in records:
        if first <= record["time"] < last:
            processes[record["generator"]].append(record)
    means = [sum(record["cpu"] for record in rows) / len(rows) for rows in processes.values()]
    memory = sum(max(record["memory"] for record in rows) for rows in processes.values())
    return {
        "processes": len(processes),
        "cpu_cores": round(sum(means), 3),
        "busiest_cores": round(max(means, default=0.0), 3),
        "memory_mib": round(memory / 2**20, 1),
    }


def cpu_series(samples: Iterable[Sample], first: int, last: int) -> dict[str, list[float | None]]:
    """CPU in cores by service for each second from ``first`` to ``last`` (exclusive); None where there is no sample."""
    tasks: defaultdict[tuple[str, str], list[Sample]] = defaultdict(list)
    for sample in samples:
        if first - 1.5 <= sample.time < last:
            tasks[sample.service, f"{sample.node}/{sample.task}"].append(sample)
    series: dict[str, list[float | None]] = {}
    for (service, _), rows in sorted(tasks.items()):
        values = series.setdefault(service, [None] * (last - first))
        for previous, row in pairwise(rows):
            second = int(row.time) - first
            if row.time > previous.time and 0 <= second < last - first:
                values[second] = round((values[second] or 0.0) + (row.cpu_s - previous.cpu_s) / (row.time - previous.time), 3)
    return series


def bottleneck(services: Iterable[Mapping[str, Any]], generator: Mapping[str, Any]) -> str:
    """One sentence that names what was saturated."""
    tasks = [service for service in services if service["service"] not in ("node", OTHERS)]
    full = sorted((service for service in tasks if service["load"] >= SATURATED), key=lambda service: -service["load"])
    if full:
        worst = full[0]
        limit = "the cores of its node" if is_threaded(worst["service"]) else "one core"
        if worst["limit_cores"]:
            limit = f"its CPU limit of {worst['limit_cores'] / worst['tasks']:g} cores per task"
        return f"The bottleneck was {worst['service']}: its busiest task used {worst['load']:.0%} of {limit}."
    if generator["busiest_cores"] >= SATURATED:
        return f"The bottleneck was the generator: its busiest process used {generator['busiest_cores']:.2f} of one core."
    for node in services:
        if node["service"] == "node" and node["load"] >= SATURATED:
            return f"The bottleneck was the machine: its CPUs were {node['load']:.0%} busy or stolen."
    return "Nothing was saturated: the offered load was the limit."
