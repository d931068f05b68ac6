"""Recorded runs, and the real application on loopback for tests that run Locust themselves."""

import os
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from bench.summary import summarise
from support.processes import Gunicorn, RedisServer, running
from support.recordings import unpack, unpacked
from support.waiting import wait_until


def pytest_configure() -> None:
    # A busy machine is slow, not wrong. Without the variable, which `nightly` and `full` set, each run tries the same examples.
    hypothesis.settings.register_profile("bench", deadline=None, derandomize="COUNTER_SEARCH_EXAMPLES" not in os.environ)
    hypothesis.settings.load_profile("bench")


@pytest.fixture(scope="session")
def recorded() -> Callable[[str], dict[str, Any]]:
    """Summary of a recorded run, by its name."""
    return cache(lambda run: summarise(unpacked(run)))


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[str], Path]:
    """A recorded run in a directory of its own, to be changed."""
    return lambda run: unpack(run, tmp_path)


@pytest.fixture
def start_counter(tmp_path: Path) -> Iterator[Callable[[int], str]]:
    """Starts the real application over N unsynchronised (or one) redis-server processes; returns its address."""
    with ExitStack() as started:

        def start(nodes: int = 1) -> str:
            servers = [RedisServer(tmp_path, 'save ""') for _ in range(nodes)]
            topology = "standalone" if nodes == 1 else "independent"
            app = Gunicorn(tmp_path, TOPOLOGY=topology, REDIS_NODES=",".join(server.address for server in servers))
            started.enter_context(running(app, *servers))
            for process in (*servers, app):
                process.up()
            wait_until("readiness", lambda: urllib.request.urlopen(f"{app.url}/readyz", timeout=2).status == HTTPStatus.OK)
            return app.url

        yield start
