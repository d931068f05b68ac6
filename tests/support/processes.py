"""Real processes for tests and benchmarks: redis-server, gunicorn. All on 127.0.0.1, all bounded, all killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from support.ports import free_port, listens
from support.waiting import SLOWNESS, wait_until

APP_DIR = Path(__file__).resolve().parents[2] / "app"


class Process:
    """A child process with a log file, killed at the end and after ``lifetime`` at the latest."""

    lifetime = 600
    """Seconds. No process outlives this, whatever happens to the test run."""

    def __init__(self, command: list[str], log: Path, environ: Mapping[str, str] | None = None) -> None:
        """Remember the command; ``start`` runs it."""
        self.command = command
        self.log = log
        self.environ = dict(environ or os.environ)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["timeout", "--foreground", "-k", "5", str(self.lifetime * SLOWNESS), *self.command],
                stdout=log,
                stderr=log,
                env=self.environ,
                cwd=self.log.parent,
            )

    @property
    def pid(self) -> int:
        """The process itself, once it has begun."""
        return wait_until("the process to start", self.child)

    def child(self) -> int:
        """Return ``timeout``'s child, or 0 before there is one."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0]) if children else 0

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """``kill -9``, and wait until it is gone."""
        if self.process and self.process.poll() is None:
            self._kill_child()
            # ``timeout`` ends when its child has ended; killed before that, it would leave a port in use.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
            self._kill_child()  # if it began only now
            self.process.kill()
            self.process.wait(10)

    def _kill_child(self) -> None:
        with contextlib.suppress(OSError):
            if child := self.child():
                os.kill(child, signal.SIGCONT)
                os.kill(child, signal.SIGKILL)

    def wait(self, seconds: float) -> int:
        assert self.process is not None
        return self.process.wait(seconds)


class RedisServer(Process):
    """One redis-server (or Sentinel) on a free port, with a data directory of its own."""

    def __init__(self, directory: Path, *options: str, sentinel: bool = False) -> None:
        """Take the parent directory and extra ``--option value`` arguments."""
        self.port = free_port()
        self.directory = directory / str(self.port)
        self.directory.mkdir()
        config = self.directory / "redis.conf"
        config.write_text(
            f"bind 127.0.0.1\nport {self.port}\ndir {self.directory}\n" + "".join(f"{o}\n" for o in options)
        )
        command = ["redis-server", str(config)] + (["--sentinel"] if sentinel else [])
        super().__init__(command, directory / f"redis-{self.port}.log")

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def client(self, **options: object) -> Redis:
        return Redis(port=self.port, decode_responses=True, socket_timeout=5, retry=Retry(NoBackoff(), 0), **options)  # type: ignore[arg-type]

    def up(self) -> RedisServer:
        self.start()
        wait_until(f"redis-server {self.address} (log {self.log})", lambda: self.client().ping())
        return self

    def wipe(self) -> None:
        """Lose the volume: everything but the configuration."""
        for entry in self.directory.iterdir():
            if entry.name != "redis.conf":
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


@contextlib.contextmanager
def running(*processes: Process) -> Iterator[None]:
    """Kill the processes at the end."""
    try:
        yield
    finally:
        for process in processes:
            process.kill()


class Gunicorn(Process):
    """The application as deployed: gunicorn with the project's settings."""

    def __init__(self, directory: Path, name: str = "1", **environ: str) -> None:
        """Take ``COUNTER_*`` without their prefix as keyword arguments."""
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        settings = {f"COUNTER_{key}": value for key, value in environ.items()}
        settings |= {"COUNTER_BIND": f"127.0.0.1:{self.port}", "COUNTER_REPLICA": name, "PYTHONPATH": str(APP_DIR)}
        clean = {key: value for key, value in os.environ.items() if not key.startswith("COUNTER_")}
        super().__init__(
            [sys.executable, "-m", "gunicorn", "-c", "python:counter.gunicorn_conf", "counter.wsgi:app"],
            directory / f"gunicorn-{self.port}.log",
            clean | settings,
        )

    def up(self) -> Gunicorn:
        self.start()
        wait_until(f"gunicorn {self.url} (log {self.log})", self.listening, 120)
        return self

    def listening(self) -> bool:
        return listens(self.port)

    def kill(self) -> None:
        """``kill -9`` of the workers too: gunicorn's own would go on without their master for a moment."""
        if self.process and self.process.poll() is None:
            with contextlib.suppress(OSError):
                master = self.child()
                workers = Path(f"/proc/{master}/task/{master}/children").read_text().split()
                for worker in workers:
                    os.kill(int(worker), signal.SIGKILL)
        super().kill()
