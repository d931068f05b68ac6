"""Fixtures that several test files share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from flask.testing import FlaskClient
from support.browsing import browser, chromium
from support.configurations import configuration
from support.processes import Gunicorn, RedisServer, running
from topologies import Node, SentinelSet

from counter import lifecycle
from counter.application import create_app
from counter.config import Config

__all__ = ["browser", "chromium"]

# A busy machine is slow, not wrong. Only a run that asks for more examples leaves them to chance.
hypothesis.settings.register_profile(
    "app",
    deadline=None,
    print_blob=True,
    derandomize="COUNTER_SEARCH_EXAMPLES" not in os.environ,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("app")


@pytest.fixture(scope="session", autouse=True)
def _configuration(tmp_path_factory: pytest.TempPathFactory) -> None:
    Node.configuration = partial(configuration, tmp_path_factory)


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """One empty redis-server that fsyncs before it replies."""
    server = RedisServer(tmp_path, "appendonly yes", "appendfsync always")
    with running(server):
        yield server.up()


@pytest.fixture
def three_servers(tmp_path: Path) -> Iterator[list[RedisServer]]:
    """Three redis-servers that know nothing of each other."""
    servers = [RedisServer(tmp_path) for _ in range(3)]
    with running(*servers):
        yield [server.up() for server in servers]


@pytest.fixture
def redis_set(tmp_path: Path) -> Iterator[SentinelSet]:
    """One primary, two replicas and three Sentinels."""
    found = SentinelSet(tmp_path)
    with running(*found.processes):
        yield found.up()


@pytest.fixture
def client_of() -> Iterator[Callable[..., FlaskClient]]:
    """Build an application from ``COUNTER_*`` (without the prefix) and return its test client."""

    def build(**environ: Any) -> FlaskClient:
        return create_app(
            Config.from_env({f"COUNTER_{key}": str(value) for key, value in environ.items()})
        ).test_client()

    yield build
    lifecycle._reset()  # noqa: SLF001


@pytest.fixture
def gunicorn(tmp_path: Path, redis_server: RedisServer) -> Iterator[Gunicorn]:
    """Start the application under gunicorn, in front of ``redis_server``."""
    server = Gunicorn(tmp_path, REDIS_NODES=redis_server.address, DRAIN_SECONDS="1")
    with running(server):
        yield server.up()
