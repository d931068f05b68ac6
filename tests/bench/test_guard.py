"""The guard acts when the playbook is gone before its time, and only then."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.guard import FINISHED, VARIABLES
from support.ansible import ROOT


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
    deadline = time.monotonic() + 20
    while not (run / "guard.log").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    yield process
    (run / FINISHED).touch()
    process.kill()
    process.wait()


def appears(path: Path, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if path.exists():
            return True
        time.sleep(0.1)
    return False


def vanishes(path: Path) -> bool:
    deadline = time.monotonic() + 20
    while path.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    return not path.exists()


def test_interrupted_playbook_is_cleaned_up_behind(playbook: subprocess.Popen[bytes], tmp_path: Path) -> None:
    arm = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "bench"])
    (tmp_path / "run/arm.pid").write_text(str(arm.pid))
    playbook.kill()
    playbook.wait()
    assert appears(tmp_path / "put-back", 20)
    assert arm.wait(timeout=20) < 0
    assert appears(tmp_path / "run" / FINISHED, 40)
    assert vanishes(tmp_path / "run" / VARIABLES)


def test_finished_run_is_left_alone(playbook: subprocess.Popen[bytes], tmp_path: Path) -> None:
    assert (tmp_path / "run" / VARIABLES).exists()
    (tmp_path / "run" / FINISHED).touch()
    assert vanishes(tmp_path / "run" / VARIABLES)
    playbook.kill()
    playbook.wait()
    assert not appears(tmp_path / "put-back", 2)


def test_process_that_is_no_arm_is_never_stopped(playbook: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """A process id can have been given to somebody else meanwhile."""
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        (tmp_path / "run/arm.pid").write_text(str(stranger.pid))
        playbook.kill()
        playbook.wait()
        assert appears(tmp_path / "put-back", 20)
        assert stranger.poll() is None
        assert os.getpgid(stranger.pid)
    finally:
        stranger.kill()
        stranger.wait()
