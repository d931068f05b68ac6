"""Cleans up when the playbook is interrupted, since Ansible does not run ``always`` after Ctrl-C.

A process in a separate session watches the ansible-playbook that started it. If ansible-playbook ends before the run is marked
as finished, the guard stops the arm that runs on this machine and runs a command: it restores the replicas found before the
benchmark, or removes the stack of a comparison. An arm on a load generator ends by itself, after its time: its process id is
there, and so is the manifest, without which there is no report.
"""

import os
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import psutil

FINISHED = "finished"
VARIABLES = "*.vars.json"
"""Files of variables for the command, and for the commands of a comparison; they may contain passwords."""
POLL_SECONDS = 0.5
CHILD_SECONDS = 8000
"""More than a command of a comparison may take (roles/bench/tasks/variant.yml)."""
PUT_BACK_SECONDS = 4200
"""More than the command waits for the lock (roles/bench/tasks/guard.yml)."""


def ancestor(name: str) -> psutil.Process:
    """The outermost ancestor whose command line contains ``name``. Raises LookupError."""
    found = [one for one in psutil.Process().parents() if any(Path(word).name == name for word in _command(one))]
    if not found:
        raise LookupError(f"no ancestor of process {os.getpid()} is {name}")
    return found[-1]


def start(run: Path, command: Sequence[str]) -> int:
    """Start a process that watches as long as ansible-playbook runs; return its id."""
    watched = ancestor("ansible-playbook")
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        log = os.open(run / "guard.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for descriptor, target in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
            os.dup2(target, descriptor)
        # Ansible waits until every process has closed its pipes.
        os.closerange(3, 1024)
        watch(run, watched, command)
    except Exception:  # noqa: BLE001  # this process ends here, and nothing else would show it
        traceback.print_exc()
    finally:
        for file in run.glob(VARIABLES):
            file.unlink()
        os._exit(0)


def watch(run: Path, watched: psutil.Process, command: Sequence[str]) -> None:
    """Wait until the run is finished; if the watched process ends first, clean up."""
    while _runs(watched):
        if (run / FINISHED).exists():
            return
        time.sleep(POLL_SECONDS)
    # The playbook may have finished between the two checks.
    if (run / FINISHED).exists():
        return
    print(f"guard: process {watched.pid} ended before the run was finished, so this is next: {' '.join(command)}", flush=True)
    stop_arm(run)
    wait_for_children(run)
    subprocess.run(command, check=False, stdin=subprocess.DEVNULL, timeout=PUT_BACK_SECONDS)
    if (run / "manifest.json").exists():
        subprocess.run([sys.executable, "-m", "bench", "report", str(run)], check=False, stdin=subprocess.DEVNULL, timeout=120)
    (run / FINISHED).touch()


def wait_for_children(run: Path) -> None:
    """Wait for the command of a comparison that still runs: it may not have taken its lock yet."""
    deadline = time.monotonic() + CHILD_SECONDS
    while time.monotonic() < deadline:
        others = [words for process in psutil.process_iter() if "guard" not in (words := _command(process))]
        if not any(str(run) in line and "ansible-playbook" in line for line in map(" ".join, others)):
            return
        time.sleep(POLL_SECONDS)


def stop_arm(run: Path) -> None:
    """Stop the arm whose process id is in the run's directory, and Locust with it."""
    try:
        arm = psutil.Process(int((run / "arm.pid").read_text()))
        if "bench" in _command(arm):
            arm.terminate()
    except (OSError, ValueError, psutil.NoSuchProcess):
        return


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _runs(process: psutil.Process) -> bool:
    """Whether it runs; a later process with the same id does not count."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
