"""How many requests wait while Redis does not confirm."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask.testing import FlaskClient
from support.processes import RedisServer
from support.waiting import wait_until

from counter.store import store

THREADS, CLIENTS = 4, 24


@pytest.mark.fault
@pytest.mark.parametrize(
    ("change_seconds", "refused"),
    [pytest.param(60, 0, id="a change of the primary"), pytest.param(2, CLIENTS - THREADS // 2, id="a failure")],
)
def test_all_wait_for_a_change_and_half_of_the_threads_for_longer(
    client_of: Callable[..., FlaskClient],
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    change_seconds: float,
    refused: int,
) -> None:
    monkeypatch.setattr(store, "CHANGE_SECONDS", change_seconds)
    client = client_of(REDIS_NODES=redis_server.address, THREADS=THREADS, DEADLINE_SECONDS=60)
    path = "/api/counters/a/increment"
    assert client.post(path).status_code == 200
    began = time.monotonic()
    redis_server.client().client_pause(60_000, all=False)
    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = [pool.submit(client.application.test_client().post, path) for _ in range(CLIENTS)]
        try:
            wait_until(
                "those to be refused that do not wait",
                lambda: time.monotonic() - began > 2.5 and sum(answer.done() for answer in answers) == refused,
                30,
            )
        finally:
            redis_server.client().client_unpause()
    codes = [answer.result().status_code for answer in answers]
    assert (codes.count(200), codes.count(503)) == (CLIENTS - refused, refused)


@pytest.mark.fault
def test_half_of_the_threads_wait_while_redis_is_full(
    client_of: Callable[..., FlaskClient], redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on answering reads, which need the others."""
    # So that a machine of any speed shows who waits.
    monkeypatch.setattr(store, "CHANGE_SECONDS", 60)
    client = client_of(REDIS_NODES=redis_server.address, THREADS=THREADS, DEADLINE_SECONDS=60)
    path = "/api/counters/a/increment"
    assert client.post(path).status_code == 200
    server = redis_server.client()
    server.config_set("maxmemory", 1)
    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = [pool.submit(client.application.test_client().post, path) for _ in range(CLIENTS)]
        try:
            refused = CLIENTS - THREADS // 2
            wait_until("the others to be refused", lambda: sum(answer.done() for answer in answers) == refused, 20)
        finally:
            server.config_set("maxmemory", 0)
    codes = [answer.result().status_code for answer in answers]
    assert (codes.count(200), codes.count(503)) == (THREADS // 2, refused)
