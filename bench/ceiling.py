"""The generator's own limit, measured with the same Locust against a trivial server."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.arm import load_recording
from bench.generator import GeneratorFailed, LocustRun, run
from bench.plan import SETTLE_SECONDS, Settings

SECONDS = 4
"""Length of the measured window, after the ramp and the settling time."""
RAMP_SECONDS = 2
RESPONDER_PORT = 5579
"""Port of the trivial server on each load generator, on loopback."""


def measure(settings: Settings, run_directory: Path, locustfile: Path) -> dict[str, Any]:
    """Measure the requests/s that Locust reaches, and return it with the length of the window. Raises GeneratorFailed.

    The server shares the machine's CPU with Locust, so on a small machine the ceiling is too low rather than too high.
    With workers, each load generator runs its own server on RESPONDER_PORT; the role starts it together with the workers.
    """
    directory = run_directory / "ceiling"
    directory.mkdir(parents=True, exist_ok=True)
    port = RESPONDER_PORT if settings.workers else _free_port()
    seconds = RAMP_SECONDS + SETTLE_SECONDS + 1 + SECONDS
    server = None
    if not settings.workers:
        server = subprocess.Popen([sys.executable, Path(__file__).with_name("responder.py"), str(port), str(seconds + 60)])
    try:
        _wait_for(port)
        load = LocustRun(
            target=f"http://127.0.0.1:{port}",
            counter="ceiling",
            users=settings.users,
            spawn_rate=settings.users / RAMP_SECONDS,
            seconds=seconds,
            rate=0.0,
            weights=settings.weights,
            locustfile=locustfile,
            workers=settings.workers,
        )
        run(load, directory)
    finally:
        if server:
            server.kill()
            server.wait()
    for name, content in (("arm.json", {"rate": 0}), ("ledger.json", [])):
        (directory / name).write_text(json.dumps(content))
    recording = load_recording(directory)
    return {"throughput_rps": round(recording.throughput, 1), "seconds": recording.seconds}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, limit: float = 10.0) -> None:
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise GeneratorFailed(f"the trivial server did not listen on 127.0.0.1:{port} within {limit:g} s")
