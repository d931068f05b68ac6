"""Runs Locust: the command line, the bounded wait, and the error message when it fails."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

STOP_TIMEOUT_SECONDS = 10
"""How long Locust waits for running requests. With 0 it would abort requests whose increments are still counted."""
GRACE_SECONDS = 45
"""Time beyond the run time before Locust is killed: start, waiting for workers, stop time-out, reports."""


class GeneratorFailed(RuntimeError):
    """Locust did not start, or did not finish."""


@dataclass(frozen=True)
class LocustRun:
    """One Locust run. ``rate`` in requests/s over all users, 0 for a closed loop; ``workers`` > 0 makes this process a master."""

    target: str
    counter: str
    users: int
    spawn_rate: float
    seconds: int
    rate: float
    weights: tuple[int, int, int]
    locustfile: Path
    workers: int = 0


def command(load: LocustRun, directory: Path) -> list[str]:
    """Locust's command line; Locust and the recorder write their reports to ``directory``."""
    package = Path(__file__).parent
    plugins = [package / "recorder.py", package / "pacing.py"]
    words: list[object] = [
        sys.executable,
        *("-m", "locust", "--headless", "--loglevel", "WARNING", "--host", load.target),
        *("--locustfile", ",".join(str(path) for path in (*plugins, load.locustfile))),
        *("--users", load.users, "--spawn-rate", load.spawn_rate, "--run-time", f"{load.seconds}s"),
        *("--stop-timeout", STOP_TIMEOUT_SECONDS, "--exit-code-on-error", 0),
        *("--csv", directory / "locust", "--csv-full-history", "--html", directory / "locust.html", "--json-file", directory / "locust"),
        *("--logfile", directory / "locust.log", "--record", directory, "--pace", load.users / load.rate if load.rate else 0),
    ]
    if load.workers:
        words += ["--master", "--expect-workers", load.workers, "--expect-workers-max-wait", 30]
    if load.locustfile == package / "locustfile.py":
        words += [word for action, weight in zip(("page", "increment", "read"), load.weights, strict=True) for word in (f"--weight-{action}", weight)]
    return [str(word) for word in words]


def run(load: LocustRun, directory: Path, wrapper: Sequence[str] = ()) -> None:
    """Run Locust until it ends. ``wrapper`` precedes the command. Raises GeneratorFailed with the last lines of its log."""
    directory.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "BENCH_COUNTER": load.counter}
    limit = load.seconds + STOP_TIMEOUT_SECONDS + GRACE_SECONDS
    with (directory / "locust.out").open("w") as output:
        process = subprocess.Popen([*wrapper, *command(load, directory)], stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True)
        try:
            code = process.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            raise GeneratorFailed(f"Locust did not end within {limit} s; its log: {directory}/locust.log") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if code:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        raise GeneratorFailed(f"Locust {how}: {_last_lines(directory)}")


def _last_lines(directory: Path, count: int = 5) -> str:
    text = "".join(path.read_text(errors="replace") for path in (directory / "locust.log", directory / "locust.out") if path.exists())
    # Locust's tables of statistics do not explain a failure.
    lines = [line.strip() for line in text.splitlines() if line.strip() and "|" not in line]
    return "; ".join(lines[-count:]) or "it printed nothing"
