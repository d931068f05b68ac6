"""What the benchmarks measure with: wrk, and the processor time of processes."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

from support.processes import Gunicorn
from support.waiting import wait_until

from hotpath import APP

CONNECTIONS = 64
THREADS = 32
"""Of the app's worker."""


def wrk(url: str, seconds: int, keys: str = "") -> dict[str, float]:
    """Send POST requests over kept connections; return what ``report.lua`` reports.

    ``keys``: how the Idempotency-Keys begin, which differ after that; empty: without keys.
    """
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-s", str(APP / "hotpath/report.lua")]
    command += [url, "--", keys] if keys else [url]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 30)
    found: dict[str, float] = json.loads(done.stderr.strip().splitlines()[-1])
    return found


def worker_of(server: Gunicorn) -> int:
    """Return the process id of gunicorn's one worker."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children")
    return int(wait_until("the worker to start", lambda: children.read_text(encoding="ascii").split())[0])


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used, with all its threads."""
    return time.clock_gettime((~pid << 3) | 2)  # as clock_getcpuclockid(3) does; more precise than /proc
