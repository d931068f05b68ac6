"""Runs one arm (warm-up, ledger before, Locust, ledger after) and reads the files of a finished arm."""

import json
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import ledger
from bench.generator import LocustRun, run
from bench.percentiles import Interval, read_hlog
from bench.plan import SETTLE_SECONDS, Arm, Settings
from bench.warmup import warm_up

# Locust uses no proxy either.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class CounterUnreadable(RuntimeError):
    """The counter's value could not be read through the application."""


def read_counter(target: str, name: str, attempts: int = 20) -> int:
    """The value of a counter, read through the application; 0 if it does not exist yet. Raises CounterUnreadable."""
    error: Exception | None = None
    for _ in range(attempts):
        try:
            with DIRECT.open(f"{target}/api/counters/{name}", timeout=5) as response:
                return int(json.load(response)["value"])
        except urllib.error.HTTPError as answer:
            if answer.code == 404:
                return 0
            error = answer
        except (OSError, ValueError, KeyError) as failure:
            error = failure
        time.sleep(0.5)
    raise CounterUnreadable(f"{target}/api/counters/{name} cannot be read: {error}")


def run_arm(arm: Arm, settings: Settings, run_directory: Path, counter: str, rate: float, locustfile: Path) -> None:
    """Run ``arm`` and write its files to ``run_directory/arms/<name>``. ``rate`` is in requests/s, 0 in phase S.

    Raises GeneratorFailed, NotAllAnswered, CounterUnreadable; files written before the error remain.
    """
    directory = run_directory / "arms" / arm.name
    directory.mkdir(parents=True, exist_ok=True)
    warm_up(settings.target, arm.replicas, settings.warmup)
    before = {name: read_counter(settings.target, name) for name in (counter, ledger.VISITS)}
    load = LocustRun(
        target=settings.target,
        counter=counter,
        users=settings.users,
        spawn_rate=settings.spawn_rate,
        seconds=arm.duration,
        rate=rate,
        weights=settings.weights,
        locustfile=locustfile,
        workers=settings.workers,
    )
    run(load, directory)
    after = {name: read_counter(settings.target, name) for name in (counter, ledger.VISITS)}
    entries = ledger.entries(before, after, counter, ledger.client_requests(directory / "locust.json"))
    _write(directory / "ledger.json", [entry.as_dict() for entry in entries])
    _write(directory / "arm.json", {**asdict(arm), "rate": rate, "counter": counter})


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


@dataclass(frozen=True)
class Recording:
    """The contents of an arm's files. Times are epoch seconds; the measured window is ``[first, last)``."""

    about: Mapping[str, Any]
    intervals: list[Interval]
    replicas: dict[int, Counter[str]]
    generator: list[Mapping[str, Any]]
    events: Mapping[str, float]
    ledger: list[Mapping[str, Any]]
    errors: list[Mapping[str, Any]]

    @property
    def first(self) -> int:
        """First second of the window: after the ramp and the settling time."""
        return int(self.events["spawned"]) + SETTLE_SECONDS + 1

    @property
    def last(self) -> int:
        """The second in which the users began to stop; it is not part of the window."""
        return int(self.events["stopping"])

    @property
    def seconds(self) -> int:
        """Length of the window, in seconds."""
        return self.last - self.first

    @property
    def throughput(self) -> float:
        """Successful requests per second in the window."""
        done = sum(interval.histogram.get_total_count() for interval in self.window if interval.outcome == "ok")
        return float(done / self.seconds)

    @property
    def window(self) -> list[Interval]:
        """The intervals inside the window."""
        return [interval for interval in self.intervals if self.first <= interval.second < self.last]


def load_recording(directory: Path) -> Recording:
    """Read the files that ``run_arm`` wrote. Raises FileNotFoundError, KeyError or ValueError if the arm did not finish, or a file was cut short.

    Figures from a part of a file would pass for those of the whole arm.
    """
    replicas: dict[int, Counter[str]] = {}
    generator: list[Mapping[str, Any]] = []
    errors: Counter[tuple[str, str]] = Counter()
    events: dict[str, float] = {}
    for line in (directory / "events.jsonl").read_text().splitlines():
        record = json.loads(line)
        if "event" in record:
            # The last ramp counts: Locust reports "spawned" again after a late worker makes it rebalance.
            events[record["event"]] = record["time"]
        elif "replica" in record:
            replicas.setdefault(record["second"], Counter())[record["replica"]] += record["count"]
        elif "error" in record:
            errors[record["request"], record["error"]] += record["count"]
        else:
            generator.append(record)
    recording = Recording(
        about=json.loads((directory / "arm.json").read_text()),
        intervals=list(read_hlog(directory / "latency.hlog")),
        replicas=replicas,
        generator=generator,
        events=events,
        ledger=json.loads((directory / "ledger.json").read_text()),
        errors=[{"request": name, "error": error, "count": count} for (name, error), count in errors.most_common()],
    )
    if recording.seconds < 1:
        raise KeyError(f"{directory.name}: the run ended before the measured window began")
    return recording
