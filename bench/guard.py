"""Puts things back when the playbook is interrupted: Ansible runs no ``always`` after Ctrl-C.

A process of its own session watches the ansible-playbook that started it. When that is gone before the run was marked as
finished, it stops the arm that still runs, and runs the command that puts back what the benchmark had found.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

FINISHED = "finished"
VARIABLES = "put-back.json"
"""What the command reads; it may hold passwords."""
POLL_SECONDS = 0.5


def ancestor(name: str) -> int:
    """The outermost ancestor of this process whose command line names ``name``. Raises LookupError."""
    found, pid = 0, os.getpid()
    while pid > 1:
        if any(Path(word).name == name for word in _command(pid)):
            found = pid
        pid = _parent(pid)
    if not found:
        raise LookupError(f"no ancestor of process {os.getpid()} is {name}")
    return found


def start(run: Path, limit: float, command: Sequence[str]) -> int:
    """Watch from a process of its own, at most ``limit`` seconds; returns its id."""
    watched = ancestor("ansible-playbook")
    born = _born(watched)
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        log = os.open(run / "guard.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for descriptor, target in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
            os.dup2(target, descriptor)
        # Ansible waits for whoever holds its pipes.
        os.closerange(3, 1024)
        watch(run, watched, born, limit, command)
    finally:
        (run / VARIABLES).unlink(missing_ok=True)
        os._exit(0)


def watch(run: Path, watched: int, born: str, limit: float, command: Sequence[str]) -> None:
    """Wait until the run is finished, or the watched process is gone: then clean up behind it."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        if (run / FINISHED).exists():
            return
        if _born(watched) != born:
            break
        time.sleep(POLL_SECONDS)
    # The playbook may have ended between the two looks.
    if (run / FINISHED).exists():
        return
    print(f"guard: process {watched} is gone, and the run is not finished: putting back what was found", flush=True)
    stop_arm(run)
    subprocess.run(command, check=False, stdin=subprocess.DEVNULL, timeout=600)
    subprocess.run([sys.executable, "-m", "bench", "report", str(run)], check=False, stdin=subprocess.DEVNULL, timeout=120)
    (run / FINISHED).touch()


def stop_arm(run: Path) -> None:
    """End the arm that left its process id in the run's directory, and Locust with it."""
    try:
        pid = int((run / "arm.pid").read_text())
    except (OSError, ValueError):
        return
    if "bench" in _command(pid):
        os.kill(pid, signal.SIGTERM)


def _command(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []


def _stat(pid: int) -> list[str]:
    # The name in brackets may hold spaces.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _parent(pid: int) -> int:
    return int(_stat(pid)[1])


def _born(pid: int) -> str:
    """When a process started; empty when it is gone. Tells it from a later one with the same number."""
    try:
        state, *rest = _stat(pid)
    except OSError:
        return ""
    return "" if state == "Z" else rest[18]
