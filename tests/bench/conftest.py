"""Recorded runs, and the real application on loopback for tests that run Locust themselves."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from locations import RECORDED, ROOT

sys.path.insert(0, str(ROOT))

from bench.summary import summarise


def pytest_configure(config: pytest.Config) -> None:
    # A busy machine is slow, not wrong.
    hypothesis.settings.register_profile("bench", deadline=None)
    hypothesis.settings.load_profile("bench")
    config.addinivalue_line("markers", "live: runs real Locust for some seconds (about a minute for all of them)")


@pytest.fixture(scope="session")
def recorded() -> Callable[[str], dict[str, Any]]:
    """Summary of a recorded run, by its name."""
    cache: dict[str, dict[str, Any]] = {}

    def load(name: str) -> dict[str, Any]:
        if name not in cache:
            cache[name] = summarise(RECORDED / name)
        return cache[name]

    return load


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[str], Path]:
    """A recorded run in a directory of its own, to be changed."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(RECORDED / name, tmp_path / name))

    return copy


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def start_counter(tmp_path: Path) -> Iterator[Callable[[int], str]]:
    """Starts the real application over N unsynchronised (or one) redis-server processes; returns its address."""
    redis_server = shutil.which("redis-server")
    if not redis_server:
        pytest.fail("needs redis-server: apt-get install redis-server")
    with ExitStack() as running:

        def run(command: list[str], log: str, **more: Any) -> None:
            output = running.enter_context((tmp_path / log).open("w"))
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, **more)
            running.callback(process.wait)
            running.callback(process.kill)

        def start(nodes: int = 1) -> str:
            ports = [free_port() for _ in range(nodes)]
            for port in ports:
                run([redis_server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)], f"redis-{port}.log")
            port = free_port()
            environment = {
                **os.environ,
                "COUNTER_TOPOLOGY": "standalone" if nodes == 1 else "independent",
                "COUNTER_REDIS_NODES": ",".join(f"127.0.0.1:{p}" for p in ports),
                "COUNTER_REPLICA": "1",
            }
            command = [sys.executable, "-m", "gunicorn", "-c", "python:counter.gunicorn_conf", "-b", f"127.0.0.1:{port}", "counter.wsgi:app"]
            run(command, "gunicorn.log", env=environment, cwd=ROOT / "app")
            address = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                try:
                    urllib.request.urlopen(f"{address}/readyz", timeout=2).close()
                except (OSError, urllib.error.URLError):
                    time.sleep(0.1)
                else:
                    return address
            pytest.fail(f"the application did not get ready:\n{(tmp_path / 'gunicorn.log').read_text()[-2000:]}")

        yield start
