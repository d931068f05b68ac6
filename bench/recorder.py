"""Locust plugin: records one HDR histogram per second and request name, and which replica answered.

Locust's statistics are sums since the start, from which the ramp cannot be removed; these histograms can be cut at any second.
The master or single process writes two files to the directory ``--record``; workers send their data with their reports:

``latency.hlog``   HdrHistogram log, version 1.2, values in microseconds. Tags: ``ok:NAME`` and ``failed:NAME`` are service times,
                   ``corrected:NAME`` are times of both from the intended start (see pacing).
``events.jsonl``   one object per line: ``{"event": "spawned", "time": epoch seconds}``, ``{"replica": ..., "second": ..., "count": ...}``,
                   ``{"error": ..., "request": ..., "second": ..., "count": ...}``,
                   ``{"generator": worker, "time": ..., "cpu": cores, "memory": bytes, "users": n}``.
"""

import json
import logging
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import gevent
import psutil
from locust import events
from locust.runners import MasterRunner, WorkerRunner

from bench.percentiles import hlog_line, microseconds, new_histogram

QUIT_SECONDS = 20
"""How long a worker may take to quit after its last request."""


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    """Add the option for the directory of the recording."""
    parser.add_argument("--record", default="", env_var="BENCH_RECORD", help="Directory for latency.hlog and events.jsonl; on a worker, any text")


@events.init.add_listener
def start(environment: Any, **_: Any) -> None:
    """Record this process: to files, or on a worker to the master."""
    if environment.parsed_options.record:
        Recorder(environment)


class Recorder:
    """Collects the requests of one Locust process, second by second."""

    def __init__(self, environment: Any) -> None:
        self.environment = environment
        self.latencies: defaultdict[tuple[int, str], Counter[int]] = defaultdict(Counter)
        self.replicas: Counter[tuple[int, str]] = Counter()
        self.errors: Counter[tuple[int, str, str]] = Counter()
        self.outbox: dict[str, list[str]] = {"latency": [], "events": []}
        self.unfinished: set[str] = set()
        self.is_stopped = False
        self.is_worker = isinstance(environment.runner, WorkerRunner)
        self.process = psutil.Process()
        self.name = environment.runner.client_id if self.is_worker else "locust"
        hooks = environment.events
        if self.is_worker:
            hooks.report_to_master.add_listener(self.on_report_to_master)
            hooks.test_stop.add_listener(self.on_worker_stop)
        else:
            directory = Path(environment.parsed_options.record)
            directory.mkdir(parents=True, exist_ok=True)
            self.files = {"latency": (directory / "latency.hlog").open("w"), "events": (directory / "events.jsonl").open("w")}
            self.files["latency"].write("#[Histogram log format version 1.2]\n#[StartTime: 0 (seconds since epoch)]\n")
            hooks.worker_report.add_listener(self.on_worker_report)
            if isinstance(environment.runner, MasterRunner):
                hooks.test_stop.add_listener(self.on_master_stop)
            hooks.test_start.add_listener(lambda **_: self.mark("started"))
            hooks.spawning_complete.add_listener(lambda **_: self.mark("spawned"))
            hooks.test_stopping.add_listener(lambda **_: self.mark("stopping"))
            hooks.quit.add_listener(lambda **_: self.write())
        if not isinstance(environment.runner, MasterRunner):
            hooks.request.add_listener(self.on_request)
            hooks.user_error.add_listener(self.on_user_error)
        gevent.spawn(self.every_second)

    def on_request(self, name: str, response_time: float, start_time: float, exception: Any, response: Any, context: dict[str, float], **_: Any) -> None:
        """Count one finished request in the second in which it finished."""
        finished = start_time + response_time / 1000
        second = int(finished)
        if exception is None:
            self.latencies[second, f"ok:{name}"][microseconds(response_time)] += 1
        else:
            self.latencies[second, f"failed:{name}"][microseconds(response_time)] += 1
            self.errors[second, name, str(exception)[:200]] += 1
        intended = context.get("intended")
        if intended is not None:
            self.latencies[second, f"corrected:{name}"][microseconds((finished - intended) * 1000)] += 1
        if response is not None and response.headers is not None:
            replica = response.headers.get("X-Counter-Replica")
            if replica:
                self.replicas[second, replica] += 1

    def on_user_error(self, exception: BaseException, **_: Any) -> None:
        """Count an error of a Locust file: its request may have ended well, and what it checked not."""
        self.errors[int(time.time()), "task", f"{type(exception).__name__}: {exception}"[:200]] += 1

    def mark(self, event: str) -> None:
        """Record an event of the test with its time."""
        self.put("events", {"event": event, "time": time.time()})

    def put(self, kind: str, record: dict[str, Any]) -> None:
        """Add a line to the outbox."""
        self.outbox[kind].append(json.dumps(record))

    def every_second(self) -> None:
        """Once a second, hand over the completed seconds and the resource usage of this process."""
        self.process.cpu_percent()
        while True:
            gevent.sleep(1)
            self.put(
                "events",
                {
                    "generator": self.name,
                    "time": time.time(),
                    "cpu": self.process.cpu_percent() / 100,
                    "memory": self.process.memory_info().rss,
                    "users": self.environment.runner.user_count,
                },
            )
            self.collect(before=int(time.time()) - 1)
            if not self.is_worker:
                self.write(final=False)

    def collect(self, before: float) -> None:
        """Move the seconds before ``before`` to the outbox."""
        for key in [key for key in self.latencies if key[0] < before]:
            second, tag = key
            histogram = new_histogram()
            for value, count in self.latencies.pop(key).items():
                histogram.record_value(value, count)
            self.outbox["latency"].append(hlog_line(tag, second, histogram))
        for key in [key for key in self.replicas if key[0] < before]:
            self.put("events", {"replica": key[1], "second": key[0], "count": self.replicas.pop(key)})
        for second, name, error in [key for key in self.errors if key[0] < before]:
            count = self.errors.pop((second, name, error))
            self.put("events", {"error": error, "request": name, "second": second, "count": count})

    def on_report_to_master(self, data: dict[str, Any], **_: Any) -> None:
        """Send the outbox with the worker's regular report."""
        data["recorder"] = {**self.taken(), "is_last": self.is_stopped}

    def on_worker_stop(self, **_: Any) -> None:
        """Prepare the last report, which the worker sends when it quits."""
        self.collect(before=float("inf"))
        self.is_stopped = True

    def on_master_stop(self, **_: Any) -> None:
        """Wait until each worker has ended its requests, reported them and quit. Without a worker's last report, the run fails.

        Locust waits only half a second for the last reports, which would lack the requests that take longer.
        """
        runner = self.environment.runner
        runner.send_message("quit")
        with gevent.Timeout(self.environment.stop_timeout + QUIT_SECONDS, exception=False):
            while runner.worker_count:
                gevent.sleep(0.1)
        if self.unfinished:
            logging.getLogger(__name__).error(
                "no last report from %s, so it is not known what was answered: did it run out of memory?", ", ".join(sorted(self.unfinished))
            )
            self.environment.process_exit_code = 1

    def taken(self) -> dict[str, list[str]]:
        """Return the outbox, and replace it by an empty one."""
        taken, self.outbox = self.outbox, {"latency": [], "events": []}
        return taken

    def on_worker_report(self, client_id: str, data: dict[str, Any], **_: Any) -> None:
        """Add a worker's outbox to this one."""
        report = data["recorder"]
        for kind in self.outbox:
            self.outbox[kind].extend(report[kind])
        if report["is_last"]:
            self.unfinished.discard(client_id)
        else:
            self.unfinished.add(client_id)

    def write(self, final: bool = True) -> None:
        """Write the outbox; if ``final``, also the seconds that are still open."""
        if final:
            self.collect(before=float("inf"))
        for kind, file in self.files.items():
            file.writelines(line + "\n" for line in self.outbox[kind])
            self.outbox[kind].clear()
            file.flush()
