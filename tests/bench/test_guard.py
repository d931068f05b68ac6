"""The guard acts when the playbook is gone before its time, and only then."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.guard import FINISHED
from support.ansible import ROOT
from support.waiting import wait_until

VARIABLES = "put-back.vars.json"


@pytest.fixture
def playbook(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process named ansible-playbook that starts the guard as the role does, and then waits."""
    run = tmp_path / "run"
    run.mkdir()
    (run / VARIABLES).touch()
    script = tmp_path / "ansible-playbook"
    guard = [sys.executable, "-m", "bench", "guard", str(run), "--", "touch", str(tmp_path / "put-back")]
    script.write_text(f"import subprocess, time\nsubprocess.run({guard!r}, check=True, cwd={str(ROOT)!r})\ntime.sleep(60)\n")
    process = subprocess.Popen([sys.executable, str(script)])
    wait_until("the guard to start", (run / "guard.log").exists)
    yield process
    (run / FINISHED).touch()
    process.kill()
    process.wait()


def test_interrupted_playbook_is_cleaned_up_behind(playbook: subprocess.Popen[bytes], tmp_path: Path) -> None:
    arm = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "bench"])
    (tmp_path / "run/arm.pid").write_text(str(arm.pid))
    playbook.kill()
    playbook.wait()
    wait_until("the command to run", (tmp_path / "put-back").exists)
    assert arm.wait(timeout=20) < 0
    wait_until("the run to be finished", (tmp_path / "run" / FINISHED).exists)
    wait_until("the variables to be removed", lambda: not (tmp_path / "run" / VARIABLES).exists())


def test_the_command_waits_for_what_a_comparison_is_doing(playbook: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """It goes on in a session of its own, and may not have taken its lock yet."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "ansible-playbook", f"@{tmp_path}/run/a.vars.json"])
    try:
        playbook.kill()
        playbook.wait()
        wait_until("the guard to notice", lambda: "so this is next" in (tmp_path / "run/guard.log").read_text())
        time.sleep(2)
        assert not (tmp_path / "put-back").exists()
    finally:
        child.kill()
        child.wait()
    wait_until("the command to run", (tmp_path / "put-back").exists)


def test_finished_run_is_left_alone(playbook: subprocess.Popen[bytes], tmp_path: Path) -> None:
    assert (tmp_path / "run" / VARIABLES).exists()
    (tmp_path / "run" / FINISHED).touch()
    wait_until("the variables to be removed", lambda: not (tmp_path / "run" / VARIABLES).exists())
    playbook.kill()
    playbook.wait()
    time.sleep(2)
    assert not (tmp_path / "put-back").exists()


def test_process_that_is_no_arm_is_never_stopped(playbook: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """A process id can have been given to somebody else meanwhile."""
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        (tmp_path / "run/arm.pid").write_text(str(stranger.pid))
        playbook.kill()
        playbook.wait()
        wait_until("the command to run", (tmp_path / "put-back").exists)
        assert stranger.poll() is None
        assert os.getpgid(stranger.pid)
    finally:
        stranger.kill()
        stranger.wait()
