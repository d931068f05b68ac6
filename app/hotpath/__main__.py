"""Run all arms interleaved on this machine and print their ratios.

``python -m hotpath [--rounds N] [--seconds S] [--out FILE]`` in ``app``; needs wrk and redis-server (Debian packages).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from support.ports import free_port, listens
from support.processes import Gunicorn, Process, RedisServer, running
from support.waiting import wait_until

from hotpath import APP
from hotpath.measuring import CONNECTIONS, THREADS, cpu_seconds, worker_of, wrk

TARGETS = {
    ("durable", "hello"): 1.2,
    ("durable", "bare"): 1.7,
    ("durable", "sample"): 3.0,
}
MOST_ROUND_TRIPS = 0.25


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of wrk against one arm. Latencies in milliseconds."""

    arm: str
    round: int
    rate: float
    failed: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu_us: float | None = None
    """Processor time of the gunicorn worker per request; hardly depends on what else the machine does."""
    round_trips_per_increment: float | None = None


@dataclass(frozen=True, slots=True)
class Arm:
    """A server to be measured."""

    name: str
    url: str
    what: str
    server: Gunicorn | None = None
    counts: bool = False
    """Its metrics tell rounds of the group commit."""


def baseline(directory: Path, name: str, redis: RedisServer) -> Gunicorn:
    """Return a baseline under gunicorn, with the application's own worker settings."""
    server = Gunicorn(directory, name, THREADS=str(THREADS), REDIS_NODES=redis.address)
    server.environ |= {"BENCH_REDIS_PORT": str(redis.port)}
    server.command[-1] = f"hotpath.baselines:{name}()"
    return server


def store_counts(arm: Arm) -> tuple[float, float]:
    """Return (rounds, operations) of the group commit so far."""
    if not (arm.counts and arm.server):
        return 0.0, 0.0
    with urllib.request.urlopen(f"{arm.server.url}/metrics", timeout=5) as answer:  # noqa: S310  # our own server
        lines = answer.read().decode().splitlines()
    found = {line.split()[0]: float(line.split()[1]) for line in lines if line.startswith("counter_store_")}
    return found["counter_store_round_trips_total"], found["counter_store_operations_total"]


def measure(arm: Arm, number: int, seconds: int) -> Sample:
    """Run wrk against one arm."""
    worker = worker_of(arm.server) if arm.server else 0
    before, used = store_counts(arm), cpu_seconds(worker)
    found = wrk(arm.url, seconds)
    after, used = store_counts(arm), cpu_seconds(worker) - used
    return Sample(
        arm.name,
        number,
        found["requests"] / found["seconds"],
        int(found["failed"]),
        found["p50_ms"],
        found["p99_ms"],
        found["max_ms"],
        used * 1e6 / found["requests"] if arm.server else None,
        (after[0] - before[0]) / (after[1] - before[1]) if arm.counts else None,
    )


def run(rounds: int, seconds: int) -> tuple[list[Arm], list[Sample]]:
    """Start everything, warm up, measure each arm once per round, each round in another order."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="counter-hotpath-")))
        plain = RedisServer(directory, "save ''")
        primary = RedisServer(directory, "appendonly yes", "appendfsync always", "repl-diskless-sync-delay 0")
        replica = RedisServer(directory, "appendonly yes", "appendfsync always", f"replicaof 127.0.0.1 {primary.port}")
        ours = Gunicorn(directory, THREADS=str(THREADS), REDIS_NODES=plain.address)
        durable = Gunicorn(directory, THREADS=str(THREADS), REDIS_NODES=primary.address, REPLICAS_PER_PRIMARY="1")
        baselines = {name: baseline(directory, name, plain) for name in ("hello", "bare")}
        sample_port = free_port()
        sample = Process(
            [sys.executable, "-m", "hotpath.baselines"],
            directory / "sample.log",
            os.environ | {"PYTHONPATH": str(APP), "BENCH_REDIS_PORT": str(plain.port), "BENCH_PORT": str(sample_port)},
        )
        stack.enter_context(running(plain, primary, replica, ours, durable, sample, *baselines.values()))
        for redis in (plain, primary, replica):
            redis.up()
        wait_until("the replica", lambda: primary.client().wait(1, 100) == 1)
        for server in (ours, durable, *baselines.values()):
            server.up()
        sample.start()
        wait_until("the sample", lambda: listens(sample_port))
        increment = "/api/counters/bench/increment"
        arms = [
            Arm("hello", baselines["hello"].url, "Flask hello, gunicorn", baselines["hello"]),
            Arm("bare", baselines["bare"].url, "INCR per request, gunicorn, not persistent", baselines["bare"]),
            Arm("sample", f"http://127.0.0.1:{sample_port}", "Docker's sample: development server, INCR + GET"),
            Arm("ours", ours.url + increment, "this project without durability", ours, counts=True),
            Arm("durable", durable.url + increment, "fsync always, replica confirmed, once", durable, counts=True),
        ]
        time.sleep(1)
        for arm in arms:
            measure(arm, 0, 1)
        samples = []
        for number in range(1, rounds + 1):
            order = arms[number % len(arms) :] + arms[: number % len(arms)]
            samples += [measure(arm, number, seconds) for arm in (order if number % 2 else order[::-1])]
        return arms, samples


def summary(arms: list[Arm], samples: list[Sample]) -> dict[str, dict[str, float]]:
    """Return arm -> medians over the rounds."""
    result = {}
    for arm in arms:
        mine = [sample for sample in samples if sample.arm == arm.name]
        figures = {
            "rate": statistics.median(sample.rate for sample in mine),
            "p50_ms": statistics.median(sample.p50_ms for sample in mine),
            "p99_ms": statistics.median(sample.p99_ms for sample in mine),
            "failed": float(sum(sample.failed for sample in mine)),
        }
        for name in ("cpu_us", "round_trips_per_increment"):
            if values := [value for sample in mine if (value := getattr(sample, name)) is not None]:
                figures[name] = statistics.median(values)
        result[arm.name] = figures
    return result


def ratios(samples: list[Sample]) -> dict[str, float]:
    """Return durable / other, the median of the ratios within each round."""
    rates = {(sample.arm, sample.round): sample.rate for sample in samples}
    rounds = sorted({sample.round for sample in samples})
    return {
        f"{arm}/{other}": statistics.median(rates[arm, number] / rates[other, number] for number in rounds)
        for arm, other in TARGETS
    }


def main() -> int:
    """Return 0 when all targets are met, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="hotpath", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write everything as JSON")
    options = parser.parse_args()
    arms, samples = run(options.rounds, options.seconds)
    figures, found = summary(arms, samples), ratios(samples)
    for arm in arms:
        one = figures[arm.name]
        cpu, share = one.get("cpu_us"), one.get("round_trips_per_increment")
        sys.stdout.write(
            f"{arm.name:8}{one['rate']:6.0f} /s   p50 {one['p50_ms']:5.1f} ms   p99 {one['p99_ms']:5.1f} ms   "
            f"{'' if cpu is None else f'{cpu:.0f} us CPU':10}   failed {one['failed']:.0f}   {arm.what}"
            f"{'' if share is None else f'; {share:.3f} round trips per increment'}\n"
        )
    checks = {
        f"{arm}/{other} >= {target}": found[f"{arm}/{other}"] >= target for (arm, other), target in TARGETS.items()
    }
    share = figures["durable"]["round_trips_per_increment"]
    checks[f"round trips / increment <= {MOST_ROUND_TRIPS}"] = share <= MOST_ROUND_TRIPS
    # wrk counts refusals as answers, and they come sooner.
    checks["no request failed"] = not any(one["failed"] for one in figures.values())
    checks["p99 durable <= p99 bare"] = figures["durable"]["p99_ms"] <= figures["bare"]["p99_ms"]
    for name, value in found.items():
        sys.stdout.write(f"{name} = {value:.2f}\n")
    for name, good in checks.items():
        sys.stdout.write(f"{'met   ' if good else 'MISSED'} {name}\n")
    if options.out:
        document = {
            "machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()},
            "load_average": os.getloadavg(),
            "settings": {"connections": CONNECTIONS, "threads": THREADS, "rounds": options.rounds},
            "figures": figures,
            "ratios": found,
            "checks": checks,
            "samples": [asdict(sample) for sample in samples],
        }
        options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
