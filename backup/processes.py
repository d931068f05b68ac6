"""Programs that this one runs: each bounded in time, and ended when this one ends, even by SIGKILL."""

from __future__ import annotations

import fcntl
import math
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STOP_SECONDS = 20.0
"""How long a program may take to end after SIGTERM: restic removes its lock, a run ends its own programs."""
POLL_SECONDS = 0.1
TIMED_OUT = -1


@dataclass(frozen=True, slots=True)
class Done:
    """How a program ended, and what it wrote to its two outputs.

    ``status``: its exit status, less than zero if a signal ended it, or ``TIMED_OUT``.
    """

    status: int
    printed: str
    said: str


@contextmanager
def locked(path: Path, *, seconds: float = math.inf) -> Iterator[None]:
    """Hold a lock among the processes and threads of this host; raises BlockingIOError if it takes longer."""
    deadline = time.monotonic() + seconds
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise
            time.sleep(POLL_SECONDS)
        yield


def bound(command: Sequence[str]) -> list[str]:
    """Return a command that gets SIGTERM when this process ends."""
    return ["setpriv", "--pdeathsig", "TERM", *command]


def ended(status: int) -> str:
    """Return how a program ended, and what helps if the kernel ended it for want of memory."""
    return f"ended with {status}{' (raise backup_memory)' if status == -signal.SIGKILL else ''}"


def run(
    command: Sequence[str], seconds: float, environ: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Done:
    """Run a program to its end, or end it after so many seconds."""
    pipe = subprocess.PIPE
    with subprocess.Popen(bound(command), stdout=pipe, stderr=pipe, text=True, env=environ, cwd=cwd) as process:
        try:
            printed, said = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.terminate()
            try:
                printed, said = process.communicate(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                printed, said = process.communicate()
            return Done(TIMED_OUT, printed, said)
        except BaseException:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
    return Done(process.returncode, printed, said)
