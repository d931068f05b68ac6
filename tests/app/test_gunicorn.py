"""The application as deployed: drain at SIGTERM, logs, slow clients."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from gunicorn.config import Config
from support.processes import Gunicorn, RedisServer, running
from support.waiting import wait_until

from counter import worker
from counter.store.client import SHOWN_COUNTERS
from counter.store.keys import COUNTERS


def get(url: str, seconds: float = 5) -> int:
    """Return the status of the answer; 0 without one in this time."""
    try:
        with urllib.request.urlopen(url, timeout=seconds) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except TimeoutError:
        return 0


@pytest.mark.parametrize(("path", "header", "status"), [("x" * 4094, "", 414), ("", "x" * 8190, 431)])
def test_requests_that_are_too_long_are_refused(gunicorn: Gunicorn, path: str, header: str, status: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", gunicorn.port, timeout=20)
    connection.request("GET", f"/{path}", headers={"X-Long": header})
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("X-Counter-Replica")) == (status, None)
    connection.close()


@pytest.fixture
def draining_long(tmp_path: Path, redis_server: RedisServer) -> Iterator[Gunicorn]:
    """Start the application, which drains until the second SIGTERM."""
    server = Gunicorn(tmp_path, REDIS_NODES=redis_server.address, DRAIN_SECONDS="600")
    with running(server):
        yield server.up()


def test_sigterm_drains_before_it_stops_and_loses_nothing(draining_long: Gunicorn, redis_server: RedisServer) -> None:
    stop = threading.Event()
    counted: list[int] = []
    failed: list[object] = []

    def closed_loop() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", draining_long.port, timeout=60)
        while not stop.is_set():
            try:
                connection.request("POST", "/api/counters/a/increment")
                answer = connection.getresponse()
                counted.append(json.load(answer)["value"])
            except (OSError, http.client.HTTPException, KeyError, ValueError) as error:
                failed.append(error)
                connection.close()

    clients = [threading.Thread(target=closed_loop) for _ in range(8)]
    for client in clients:
        client.start()
    wait_until("some load", lambda: len(counted) > 50)
    draining_long.signal(signal.SIGTERM)
    wait_until("readiness to go", lambda: get(f"{draining_long.url}/readyz") == 503)
    assert get(f"{draining_long.url}/healthz") == 200
    before = len(counted)
    wait_until("increments while draining", lambda: len(counted) > before + 50)
    # An edge has noticed by now and sends no more; every client moves away before the listener closes.
    stop.set()
    for client in clients:
        client.join(60)
    assert not failed
    draining_long.signal(signal.SIGTERM)
    assert draining_long.wait(20) == 0
    assert sorted(counted) == list(range(1, len(counted) + 1))
    assert redis_server.client().get("{a}:value") == str(len(counted))


def test_a_kept_alive_connection_is_told_to_close_while_draining(draining_long: Gunicorn) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", draining_long.port, timeout=60)
    connection.request("GET", "/healthz")
    answer = connection.getresponse()
    answer.read()
    assert answer.headers["Connection"] == "keep-alive"
    draining_long.signal(signal.SIGTERM)
    wait_until("readiness to go", lambda: get(f"{draining_long.url}/readyz") == 503)
    connection.request("POST", "/api/counters/a/increment")
    answer = connection.getresponse()
    answer.read()
    assert (answer.status, answer.headers["Connection"]) == (200, "close")


def test_logs_are_one_json_object_per_line_and_requests_are_not_logged(gunicorn: Gunicorn) -> None:
    get(f"{gunicorn.url}/api/counters/a")
    # Ends after it has drained for one second.
    gunicorn.signal(signal.SIGTERM)
    assert gunicorn.wait(20) == 0
    events = [json.loads(line) for line in gunicorn.log.read_text().splitlines()]
    assert any("Listening at" in event["event"] for event in events)
    assert all({"time", "level", "event"} <= set(event) for event in events)
    assert not any("/api/counters" in event["event"] for event in events)


BEGINNINGS = {
    "half a request": b"POST /api/counters/a/increment HT",
    "half a header": b"GET /healthz HTTP/1.1\r\nHo",
    "no body": b"POST /api/counters/a/increment HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("beginning", BEGINNINGS.values(), ids=BEGINNINGS.keys())
def test_slow_clients_do_not_stop_a_replica(tmp_path: Path, redis_server: RedisServer, beginning: bytes) -> None:
    server = Gunicorn(tmp_path, REDIS_NODES=redis_server.address, THREADS="8")
    with running(server), ExitStack() as slow:
        server.up()
        for _ in range(32):
            slow.enter_context(socket.create_connection(("127.0.0.1", server.port))).sendall(beginning)
        # In spite of 32 that came before, with eight threads.
        wait_until("an answer", lambda: get(f"{server.url}/healthz", 30) == 200, 30)
        assert get(f"{server.url}/api/counters/a", 30) == 200
        assert "Traceback" not in server.log.read_text()
    assert "WORKER TIMEOUT" not in server.log.read_text()


def test_clients_that_do_not_read_their_answers_do_not_stop_a_replica(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    redis_server.client().sadd(COUNTERS, *(f"{number:064}" for number in range(SHOWN_COUNTERS)))
    server = Gunicorn(tmp_path, REDIS_NODES=redis_server.address, THREADS="8")
    with running(server), ExitStack() as slow:
        server.up()

        def all_are_busy() -> bool:
            """Add a client. It gets a short answer if too many already wait for the long one."""
            client = slow.enter_context(socket.socket())
            # The kernel takes little of an answer for a client with small packets and a small window.
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", server.port))
            client.sendall(b"GET /api/store HTTP/1.1\r\nHost: a\r\n\r\n")
            return get(f"{server.url}/healthz", 1) == 0

        wait_until("all threads to be busy", all_are_busy)
        wait_until("an answer", lambda: get(f"{server.url}/healthz", 30) == 200, 30)
        assert "Traceback" not in server.log.read_text()


def test_with_redis_hanging_health_answers_and_every_request_ends(tmp_path: Path, redis_server: RedisServer) -> None:
    server = Gunicorn(tmp_path, REDIS_NODES=redis_server.address, THREADS="8", DEADLINE_SECONDS="2")
    stop = threading.Event()
    answers: list[int] = []

    def closed_loop() -> None:
        while not stop.is_set():
            request = urllib.request.Request(f"{server.url}/api/counters/a/increment", method="POST")
            try:
                with urllib.request.urlopen(request, timeout=20) as answer:
                    answers.append(answer.status)
            except urllib.error.HTTPError as error:
                answers.append(error.code)

    clients = [threading.Thread(target=closed_loop) for _ in range(32)]
    with running(server):
        server.up()
        for client in clients:
            client.start()
        wait_until("some load", lambda: answers.count(200) > 50)
        redis_server.signal(signal.SIGSTOP)
        wait_until("refusals", lambda: answers.count(503) > 50)
        # All clients of four replicas' worth of threads wait or are refused, yet:
        assert [get(f"{server.url}/healthz") for _ in range(10)] == [200] * 10
        assert get(f"{server.url}/readyz") == 503
        before = answers.count(200)
        redis_server.signal(signal.SIGCONT)
        wait_until("recovery", lambda: answers.count(200) > before + 50)
        stop.set()
        for client in clients:
            client.join(25)
            assert not client.is_alive()
    assert set(answers) == {200, 503}
    value = int(redis_server.client().get("{a}:value") or 0)
    assert answers.count(200) <= value <= len(answers)


def test_after_a_standstill_no_request_that_was_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be complete, although nothing more arrives."""
    now = time.monotonic()
    monkeypatch.setattr(worker, "time", SimpleNamespace(monotonic=lambda: now))
    bounded = worker.BoundedWorker(0, 0, [], None, 30, Config(), None)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(0)
        conn: Any = Mock(sock=ours)
        bounded._arriving[conn] = now  # noqa: SLF001
        for passed in (0.5, 5, 1):  # the second one is the standstill
            now += passed
            bounded.murder_pending()
            with pytest.raises(BlockingIOError):
                theirs.recv(1)
        for _ in range(2):
            now += 1
            bounded.murder_pending()
        assert theirs.recv(1) == b""
