"""A topology of real processes, its repository, and the program that makes backups of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from support.passwords import BACKUP_PASSWORD
from support.processes import running
from support.programs import Program
from support.waiting import wait_until
from topologies import shown_counters, topology

from backup.plan import Plan
from counter.config import Config
from counter.store import open_store
from counter.store.keys import NEW_KEY, SITE_KEY
from counter.store.site import Mark
from counter.store.store import Store

ROOT = Path(__file__).resolve().parents[2]
most_in_the_full_run = pytest.mark.parametrize(
    "kind", ["sentinel", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("standalone", "cluster"))]
)
"""For a test of each topology: the one with the most roles is enough for a change."""
TICK_SECONDS = 0.005
"""How long a client of a test waits between two increments: the processors are for what is tested."""
RECORDED = Path(__file__).parent / "recorded/repository"
"""An empty repository that ``restic init`` made on a busy machine, with the password ``one``.

Restic measures the machine and chooses a key that takes about half a second to open, at each of its many calls. This
one takes a tenth of that.
"""


DENYING = """#!/bin/sh
case " $* " in
{pattern}) echo 'Load(<data/0123456789>, 0, 0) failed: 403 Access Denied' >&2; exit 1;;
esac
exec {restic} "$@"
"""


def deny(site: Site, directory: Path, pattern: str) -> None:
    """Let restic fail whose arguments match a pattern of the shell, as if the storage refused to be read."""
    program = directory / "restic"
    program.write_text(DENYING.format(pattern=pattern, restic=shutil.which("restic")))
    program.chmod(0o755)
    site.environ["PATH"] = f"{directory}:{os.environ['PATH']}"


def of_site(site: Site, name: str) -> None:
    """Let the managers of a standalone Redis say whose counters it holds, and the Redis too."""
    Path(site.plan["state"], "site").write_text(f"{name * 32}\n")
    site.nodes[0].client().set(SITE_KEY, Mark(name * 32, "counter", 1).text())


def session_of(process: Program) -> list[Path]:
    """Return the directories in /proc of the program and of all that it runs."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int((path / "stat").read_text().rpartition(")")[2].split()[3]) == process.pid:
                found.append(path)
    return found


class Site:
    """A topology, with the app's environment and a plan."""

    def __init__(self, directory: Path, kind: str, stack: ExitStack, **plan: Any) -> None:
        """Start the topology. ``plan``: what differs from a repository and directories below ``directory``."""
        directory.mkdir(exist_ok=True)
        self.directory, self._stack = directory, stack
        # Restic takes all of the CPU at times, and few of the tests want a failover.
        self.found, processes, told = topology(kind, directory, down=4000)
        self.nodes = getattr(self.found, "nodes", processes)
        stack.enter_context(running(*processes))
        self.found.up()
        self.environ = {f"COUNTER_{key}": value for key, value in told.items()} | {"COUNTER_HISTORY_LOG": "1"}
        state = directory / "state"
        (state / "redis").mkdir(parents=True)
        (state / "redis" / "passwords").write_text("secret\n")
        (state / "redis" / "internal").write_text("internal\n")
        (state / "deployed.json").write_text('{"format": 2}\n')
        if "repository" not in plan:
            shutil.copytree(RECORDED, directory / "repository")
        self.plan: dict[str, Any] = {
            "stack": "counter",
            "version": "test",
            "repository": str(directory / "repository"),
            "passwords": ["one"],
            "redis_password": BACKUP_PASSWORD,
            "work": str(directory / "work"),
            "answer_seconds": 30,
            "lock_seconds": 60,
            "state": str(state),
        } | plan

    @property
    def store(self) -> Store:
        return open_store(Config.from_env(self.environ))

    @property
    def counters(self) -> dict[str, int]:
        return shown_counters(self.store)

    def count(self, names: Mapping[str, int]) -> None:
        """Count each name so often, and wait until all are listed."""
        store = self.store
        for name, times in names.items():
            for _ in range(times):
                store.increment(name)
        wait_until("all to be listed", lambda: self.counters.keys() >= names.keys())

    def start(self, *arguments: str) -> Program:
        """Start the program."""
        paths = {"PYTHONPATH": f"{ROOT}:{ROOT / 'app'}"}
        environ = os.environ | self.environ | paths | {"BACKUP_PLAN": json.dumps(self.plan)}
        program = Program("backup", arguments, environ, self.directory)
        self._stack.callback(program.kill)
        return program

    def run(self, *arguments: str) -> Any:
        """Run the program; return what it prints."""
        with self.start(*arguments) as process:
            printed, said = process.communicate(timeout=240)
        assert process.returncode == 0, said
        return json.loads(printed)

    def refused(self, *arguments: str) -> str:
        """Run the program, which has to fail; return the reason."""
        with self.start(*arguments) as process:
            printed, said = process.communicate(timeout=240)
        assert (process.returncode, printed) == (1, ""), said
        return said

    def read_plan(self, **changes: Any) -> Plan:
        """Return the plan as the program reads it, with changes."""
        Path(self.plan["work"]).mkdir(exist_ok=True)
        return Plan.read({"BACKUP_PLAN": json.dumps(self.plan | changes)})

    @property
    def backups(self) -> list[dict[str, Any]]:
        return list(self.run("list")["backups"])

    @property
    def keys(self) -> dict[str, object]:
        """All keys of a standalone Redis with their dumps, but probes, notes, and how many counters were new."""
        client = self.nodes[0].client()
        client.connection_pool.connection_kwargs["decode_responses"] = False
        left_out = (b":proof", NEW_KEY.encode())
        names = sorted(name for name in client.scan_iter(count=1000) if not name.endswith(left_out))
        return {name.decode(): client.dump(name) for name in names}

    def restic(self, *arguments: str) -> str:
        """Run restic on the repository; return what it prints."""
        told = {"RESTIC_REPOSITORY": self.plan["repository"], "RESTIC_PASSWORD": self.plan["passwords"][0]}
        done = subprocess.run(
            ["restic", "--no-cache", *arguments],
            env=os.environ | told | self.plan.get("environment", {}),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return done.stdout
