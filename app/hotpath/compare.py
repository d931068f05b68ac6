"""Compare what an increment costs in two revisions.

``python -m hotpath.compare [REVISION] [OTHER] [--rounds N] [--seconds S]`` in ``app``; needs wrk and redis-server.
Both have three Redis nodes and three Sentinels as this checkout deploys them, and gunicorn as in the image. They run at
once and are measured in turn. Prints the median of each revision, the median of the ratios REVISION / OTHER of each two
rounds, and its confidence interval (95 %). Other processes of the machine change rates more than processor time.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tarfile
import tempfile
import uuid
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from scipy import stats
from support.configurations import rendered
from support.processes import Gunicorn, Process, running
from topologies import Node, SentinelSet

from hotpath import APP
from hotpath.measuring import THREADS, cpu_seconds, worker_of, wrk

IMAGE = {"PYTHONOPTIMIZE": "2", "MALLOC_ARENA_MAX": "2"}
"""What the Dockerfile sets and what changes the costs."""
LEAST_ROUNDS = 6
"""For a confidence interval of 95 %."""
ROUNDS_TOGETHER = 5
"""How many rounds the same processes are measured in."""
LOADS = {"without keys": "", "with keys": "key"}


class Side:
    """One revision: its app, and its Redis."""

    def __init__(self, directory: Path, revision: str) -> None:
        """Take an empty directory."""
        self.revision = revision
        archive = subprocess.run(["git", "archive", revision, "counter"], cwd=APP, check=True, stdout=subprocess.PIPE)
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
            files.extractall(directory / "app", filter="data")
        self.redis = SentinelSet(directory)
        self.app = Gunicorn(directory, THREADS=str(THREADS), **self.redis.environ())
        self.app.environ |= IMAGE | {"PYTHONPATH": str(directory / "app")}

    def begin(self) -> None:
        """Start the app anew and let it warm up: two processes of the same program differ in speed."""
        self.app.kill()
        self.app.up()
        for keys in LOADS.values():
            self.measure(1, keys)

    def measure(self, seconds: int, keys: str) -> dict[str, float]:
        """Return increments per second, and processor time per increment of the app and of Redis, in us."""
        app, redis = [worker_of(self.app)], [node.pid for node in self.redis.processes]
        before = [sum(map(cpu_seconds, pids)) for pids in (app, redis)]
        found = wrk(f"{self.app.url}/api/counters/bench/increment", seconds, f"{keys}{uuid.uuid4()}" if keys else "")
        after = [sum(map(cpu_seconds, pids)) for pids in (app, redis)]
        if found["failed"]:
            raise SystemExit(f"{self.revision}: {found['failed']} of {found['requests']} requests failed")
        used = [(end - begin) * 1e6 / found["requests"] for begin, end in zip(before, after, strict=True)]
        return {
            "increments/s": found["requests"] / found["seconds"],
            "CPU of the app, us": used[0],
            "CPU of Redis, us": used[1],
        }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("revision", nargs="?", default="HEAD")
    parser.add_argument("other", nargs="?", default="74c585b")
    parser.add_argument("--rounds", type=int, default=20, help="of each revision and load")
    parser.add_argument("--seconds", type=int, default=3)
    options = parser.parse_args()
    if options.rounds < LEAST_ROUNDS:
        parser.error(f"--rounds {options.rounds} gives no confidence interval; use {LEAST_ROUNDS} or more")
    Process.lifetime = int(options.rounds * len(LOADS) * 2 * (options.seconds + 3)) + 300
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="counter-compare-")))
        for name in ("site", "this", "other"):
            (directory / name).mkdir()
        texts = rendered(directory / "site", "sentinel")
        Node.configuration = lambda _: texts
        sides = Side(directory / "this", options.revision), Side(directory / "other", options.other)
        for side in sides:
            stack.enter_context(running(*side.redis.processes, side.app))
            side.redis.up()
        pairs: dict[str, list[tuple[dict[str, float], dict[str, float]]]] = {load: [] for load in LOADS}
        for number in range(options.rounds):
            if number % ROUNDS_TOGETHER == 0:
                for side in sides:
                    side.begin()
            for load, keys in LOADS.items():
                order = (0, 1) if number % 2 else (1, 0)
                found = {which: sides[which].measure(options.seconds, keys) for which in order}
                pairs[load].append((found[0], found[1]))
    for load, measured in pairs.items():
        for figure in measured[0][0]:
            this, other = (median(pair[which][figure] for pair in measured) for which in (0, 1))
            ratios = [pair[0][figure] / pair[1][figure] for pair in measured]
            between = stats.quantile_test(ratios).confidence_interval(0.95)
            sys.stdout.write(
                f"{load:13}{figure:19}{this:8.1f}{other:8.1f}   ratio {median(ratios):.3f}"
                f" ({between.low:.3f} to {between.high:.3f})\n"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
