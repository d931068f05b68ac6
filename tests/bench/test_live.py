"""Real Locust against the real application: what must be exact, what must FAIL, what must be INCONCLUSIVE, and what dies.

Short runs; nothing here is judged by how fast it is.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from bench.arm import run_arm
from bench.generator import GeneratorFailed, LocustRun, run
from bench.ledger import client_requests
from bench.percentiles import read_hlog
from bench.plan import SETTLE_SECONDS, Settings, arms
from bench.summary import summarise
from bench.warmup import NotAllAnswered, warm_up
from support.ansible import ROOT
from support.ports import free_port, listens
from support.serving import Handler, serving
from support.waiting import wait_until

pytestmark = pytest.mark.live

LOCUSTFILE = ROOT / "bench/locustfile.py"
ENVIRONMENT = {"cpu": "-", "cores": 1, "kernel": "-", "docker": "-", "locust": "-", "nodes": [], "images": []}


def write_manifest(directory: Path, settings: Settings) -> None:
    directory.mkdir(exist_ok=True)
    manifest = {"run": {"id": "live", "started": "-", "finished": None}, "settings": settings.as_dict(), "environment": ENVIRONMENT, "ceiling": None}
    (directory / "manifest.json").write_text(json.dumps(manifest))


def settings_for(target: str, **more: object) -> Settings:
    values = {"replicas": [1], "users": 20, "spawn_rate": 20, "duration": 8, "latency_duration": 8, "warmup": 1, "target": target}
    return Settings.from_mapping({**values, **more})


def failed_rules(directory: Path) -> tuple[str, set[str]]:
    verdict = summarise(directory)["verdict"]
    return verdict["result"], {check["rule"] for check in verdict["checks"] if check["passed"] is False}


def test_one_redis_counts_exactly_and_the_page_is_counted_too(start_counter: Callable[[int], str], tmp_path: Path) -> None:
    settings = settings_for(start_counter(1))
    write_manifest(tmp_path / "run", settings)
    arm = arms(settings)[0]
    run_arm(arm, settings, tmp_path / "run", "live", 0.0, LOCUSTFILE)
    summary = summarise(tmp_path / "run")
    (measured,) = summary["arms"]
    assert [entry["state"] for entry in measured["ledger"]] == ["exact", "exact"]
    assert min(entry["gain"] for entry in measured["ledger"]) > 0
    assert {row["request"] for row in measured["by_request"]} == {"page", "increment", "read"}


def test_independent_nodes_fail_on_the_ledger(start_counter: Callable[[int], str], tmp_path: Path) -> None:
    """Negative control: nodes that do not replicate each hold a part of the count."""
    settings = settings_for(start_counter(3))
    write_manifest(tmp_path / "run", settings)
    run_arm(arms(settings)[0], settings, tmp_path / "run", "live", 0.0, LOCUSTFILE)
    result, rules = failed_rules(tmp_path / "run")
    assert result == "FAIL"
    assert "ledger" in rules


class Slow(Handler):
    """Counts each increment, and answers some seconds later."""

    counted: list[str]

    def reply(self) -> None:
        self.counted.append(self.path)
        time.sleep(2.5)
        self.answer()


@pytest.fixture
def slow_server() -> Iterator[tuple[str, list[str]]]:
    """A server and what it counted."""
    handler = type("Counting", (Slow,), {"counted": []})
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), handler)) as server:
        yield f"http://127.0.0.1:{server.server_port}", handler.counted


@pytest.fixture
def start_worker() -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    workers = []

    def start() -> subprocess.Popen[bytes]:
        files = ",".join(str(ROOT / "bench" / name) for name in ("recorder.py", "pacing.py", "locustfile.py"))
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "BENCH_RECORD": "worker"}
        command = [sys.executable, "-m", "locust", "--worker", "--master-host", "127.0.0.1", "--locustfile", files]
        workers.append(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        return workers[-1]

    yield start
    for worker in workers:
        worker.kill()
        worker.wait()


@pytest.mark.slow
def test_workers_report_what_was_answered_after_the_end(
    slow_server: tuple[str, list[str]], start_worker: Callable[[], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    target, counted = slow_server
    start_worker()
    run(LocustRun(target, "c", 20, 20.0, 6, 0.0, (0, 1, 0), LOCUSTFILE, workers=1), tmp_path)
    assert client_requests(tmp_path / "locust.json") == {"increment": (len(counted), 0)}
    recorded = [interval.histogram.get_total_count() for interval in read_hlog(tmp_path / "latency.hlog") if interval.outcome == "ok"]
    assert sum(recorded) == len(counted) > 20


@pytest.mark.slow
def test_a_worker_that_dies_fails_the_run_not_the_counter(
    slow_server: tuple[str, list[str]], start_worker: Callable[[], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """What it had sent was counted and never reported: that must not look like increments too many."""
    target, counted = slow_server
    worker, _ = start_worker(), start_worker()

    def kill() -> None:
        while len(counted) < 20:
            time.sleep(0.1)
        time.sleep(3)  # a report
        worker.kill()

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    with pytest.raises(GeneratorFailed, match=r"no last report from .*: did it run out of memory"):
        run(LocustRun(target, "c", 20, 20.0, 8, 0.0, (0, 1, 0), LOCUSTFILE, workers=2), tmp_path)
    thread.join()


@contextmanager
def responder() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A trivial server: its address and its process."""
    port = free_port()
    process = subprocess.Popen([sys.executable, str(ROOT / "bench/responder.py"), str(port), "60"])
    try:
        wait_until("the server", lambda: listens(port))
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def static_server() -> Iterator[str]:
    with responder() as (url, _):
        yield url


def throttled(load: LocustRun, directory: Path, share: float) -> None:
    """Run Locust while it may use only a ``share`` of its time, stopped and continued ten times a second as cpulimit does."""
    done = threading.Event()

    def throttle(pid_file: Path) -> None:
        while not done.wait(0.02) and not pid_file.exists():
            pass
        time.sleep(1.0)
        while not done.is_set():
            pid = int(pid_file.read_text())
            try:
                os.kill(pid, signal.SIGSTOP)
                done.wait(0.1 * (1 - share))
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                return
            done.wait(0.1 * share)

    pid_file = directory / "pid"
    directory.mkdir(parents=True)
    thread = threading.Thread(target=throttle, args=(pid_file,))
    thread.start()
    try:
        run(load, directory, wrapper=["sh", "-c", f'echo $$ > {pid_file}.new && mv {pid_file}.new {pid_file} && exec "$@"', "sh"])
    finally:
        done.set()
        thread.join()


def finish(directory: Path, name: str, arm: dict[str, object], entries: Sequence[object] = ()) -> None:
    (directory / "arms" / name / "arm.json").write_text(json.dumps(arm))
    (directory / "arms" / name / "ledger.json").write_text(json.dumps(list(entries)))


@pytest.mark.slow
def test_throttled_generator_is_inconclusive(static_server: str, tmp_path: Path) -> None:
    """A generator that cannot send what is due must not be taken for a slow server."""
    settings = settings_for(static_server, users=50, spawn_rate=50)
    write_manifest(tmp_path / "run", settings)
    arm = next(arm for arm in arms(settings) if arm.phase == "L")
    load = LocustRun(static_server, "c", 50, 50.0, 12, 4000.0, (1, 3, 1), LOCUSTFILE)
    throttled(load, tmp_path / "run/arms" / arm.name, share=0.1)
    about = {"name": arm.name, "phase": "L", "replicas": 1, "index": 1, "column": 0, "position": 0, "load": 0.7, "rate": load.rate, "counter": "c"}
    finish(tmp_path / "run", arm.name, about)
    result, rules = failed_rules(tmp_path / "run")
    assert result == "INCONCLUSIVE"
    assert "offered rate" in rules


@pytest.mark.slow
def test_late_answers_count_from_the_intended_start(tmp_path: Path) -> None:
    """A server that stops for a second: service times hide most of the wait, corrected times show it."""
    with responder() as (url, server):
        settings = settings_for(url)
        write_manifest(tmp_path / "run", settings)
        arm = next(arm for arm in arms(settings) if arm.phase == "L")
        directory = tmp_path / "run/arms" / arm.name

        def pause() -> None:
            wait_until("all users", lambda: '"spawned"' in (directory / "events.jsonl").read_text())
            time.sleep(SETTLE_SECONDS + 1)  # until the measured window has begun
            os.kill(server.pid, signal.SIGSTOP)
            time.sleep(1.5)
            os.kill(server.pid, signal.SIGCONT)

        with ThreadPoolExecutor(1) as pool:
            paused = pool.submit(pause)
            run(LocustRun(url, "c", 20, 20.0, 12, 200.0, (1, 3, 1), LOCUSTFILE), directory)
        paused.result()
    finish(tmp_path / "run", arm.name, {"name": arm.name, "phase": "L", "replicas": 1, "index": 1, "column": 0, "position": 0, "load": 0.7, "rate": 200.0})
    (measured,) = summarise(tmp_path / "run")["arms"]
    assert measured["corrected_ms"]["p95"] > 5 * measured["latency_ms"]["p95"]


def test_locust_that_dies_is_named_with_its_last_words(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise RuntimeError('no such visitor')\n")
    with pytest.raises(GeneratorFailed, match="no such visitor"):
        run(LocustRun("http://127.0.0.1:9", "c", 1, 1.0, 1, 0.0, (1, 1, 1), broken), tmp_path / "arm")


MINE = """
from locust import FastHttpUser, task
class Mine(FastHttpUser):
    @task
    def increment(self):
        answer = self.client.post('/api/counters/x/increment', name='increment')
"""


@pytest.mark.slow
def test_an_error_of_a_users_own_locustfile_is_counted(static_server: str, tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(f"{MINE}        assert answer.status_code == 0, 'another answer'\n")
    run(LocustRun(static_server, "c", 2, 2.0, 3, 20.0, (1, 1, 1), mine), tmp_path / "arm")
    events = [json.loads(line) for line in (tmp_path / "arm/events.jsonl").read_text().splitlines()]
    errors = {(event["request"], event["error"]) for event in events if "error" in event}
    assert errors == {("task", "AssertionError: another answer")}


@pytest.mark.slow
def test_a_users_own_locustfile_is_recorded_and_paced(static_server: str, tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(MINE)
    run(LocustRun(static_server, "c", 10, 10.0, 5, 50.0, (1, 1, 1), mine), tmp_path / "arm")
    ok, failed = client_requests(tmp_path / "arm/locust.json")["increment"]
    assert failed == 0
    assert ok <= 50 * 10  # without a pace, these would be thousands
    assert "corrected:increment" in (tmp_path / "arm/latency.hlog").read_text()


def test_missing_replicas_are_noticed_before_the_run(static_server: str) -> None:
    with pytest.raises(NotAllAnswered, match=r"1 of 4 replicas answered .* \(ceiling\)"):
        warm_up(static_server, replicas=4, seconds=0.1, patience=5)
