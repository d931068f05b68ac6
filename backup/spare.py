"""A Redis of this program's own, without a network, which holds a copy of the data for some moments."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from backup.errors import BackupError
from backup.processes import bound, ended

LOAD_SECONDS = 300
STOP_SECONDS = 10
POLL_SECONDS = 0.05


@contextmanager
def spare_redis(copy: Path | None = None) -> Iterator[Redis]:
    """Run a Redis that has loaded a dump or an append-only file (``.aof``), or is empty.

    Raises:
        BackupError: it does not start.

    """
    with tempfile.TemporaryDirectory(prefix="spare-") as directory:
        socket, log = Path(directory, "redis.sock"), Path(directory, "log")
        options = ["--port", "0", "--unixsocket", str(socket), "--logfile", str(log), "--save", ""]
        if copy:
            options += ["--dir", str(copy.parent)]
            options += (
                ["--appendonly", "yes", "--appendfilename", copy.name, "--auto-aof-rewrite-percentage", "0"]
                if copy.suffix == ".aof"
                else ["--dbfilename", copy.name]
            )
        process = subprocess.Popen(
            bound(["redis-server", *options]), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield _loaded(process, socket, log)
        finally:
            process.kill()
            process.wait(STOP_SECONDS)


def _loaded(process: subprocess.Popen[bytes], socket: Path, log: Path) -> Redis:
    client = Redis(unix_socket_path=str(socket), decode_responses=True, protocol=2, socket_timeout=LOAD_SECONDS)
    deadline = time.monotonic() + LOAD_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if client.ping():
                return client
        except (RedisError, OSError):
            time.sleep(POLL_SECONDS)
    lines = log.read_text("utf-8", "replace").splitlines() if log.exists() else []
    status = process.poll()
    state = f"did not load the data within {LOAD_SECONDS} s" if status is None else ended(status)
    raise BackupError(f"the Redis for the comparison {state}: {'; '.join(lines[-3:])}")
