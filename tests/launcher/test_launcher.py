"""The launcher: what it lists, passes on and refuses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.ansible import ROOT, run

VERBS = sorted(path.stem for path in ROOT.glob("*.yml"))
TOOLS = ["bash", "env", "dirname", "readlink", "sed", "id", "cmp", "cp", "cat", "rm"]
NOBODY = 65534
# Keeps every Python of the machine from starting.
NO_PYTHON = {"PYTHONHOME": "/nonexistent"}


@pytest.fixture
def checkout() -> Iterator[Path]:
    """Return a copy of what the launcher needs, without its virtual environment, that every user can read."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    shutil.copy(ROOT / "counter", directory)
    shutil.copy(ROOT / "deploy.yml", directory)
    shutil.copytree(ROOT / "requirements", directory / "requirements")
    (directory / "bin").mkdir()
    provide(directory, *TOOLS)
    yield directory
    shutil.rmtree(directory)


def provide(checkout: Path, *tools: str) -> None:
    """Put programs of this machine on the PATH of ``bare``."""
    for tool in tools:
        found = shutil.which(tool)
        assert found, tool
        (checkout / "bin" / tool).symlink_to(Path(found).resolve())


def bare(
    checkout: Path, *arguments: str, user: int | None = None, environ: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run the launcher of a checkout with nothing on PATH but what was provided."""
    return subprocess.run(
        [str(checkout / "counter"), *arguments],
        env={"PATH": str(checkout / "bin"), "HOME": str(checkout)} | environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        user=user,
    )


def test_without_a_verb_it_lists_them_one_line_each() -> None:
    done = run("./counter")
    assert done.returncode == 0
    listed = dict(line.split(None, 1) for line in done.stdout.splitlines() if line.startswith("  "))
    assert sorted(listed) == sorted([*VERBS, "test"])
    assert all(len(description) > 20 for description in listed.values())


@pytest.mark.parametrize("verb", ["fly", "../deploy", "playbooks/deploy", "Deploy"])
def test_an_unknown_verb_is_refused_in_one_line(verb: str) -> None:
    done = run("./counter", verb)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"counter: no verb '{verb}'; ./counter lists the verbs\n"


@pytest.mark.parametrize("through_link", [False, True])
def test_it_works_from_another_directory_and_through_a_link(tmp_path: Path, *, through_link: bool) -> None:
    command = ROOT / "counter"
    if through_link:
        command = tmp_path / "counter"
        command.symlink_to(ROOT / "counter")
    done = run("env", f"--chdir={tmp_path}", command, "deploy", "--syntax-check", "-e", "stack_name=two words")
    assert done.returncode == 0, done.stderr
    # The command that is run can be typed as it is printed.
    assert "+ .venv/bin/ansible-playbook deploy.yml --syntax-check -e stack_name=two\\ words\n" in done.stdout
    assert "playbook: deploy.yml" in done.stdout


def test_a_failed_play_is_a_failed_command() -> None:
    assert run("./counter", "deploy", "--no-such-option").returncode != 0


def test_a_wrong_kind_of_test_is_refused() -> None:
    done = run("tests/run", "slow")
    assert (done.returncode, done.stderr) == (2, "Usage: ./counter test [quick|platforms|full]\n")


def test_without_python_and_apt_it_says_what_is_needed(checkout: Path) -> None:
    done = bare(checkout, "deploy", environ=NO_PYTHON)
    assert done.returncode == 1
    assert done.stderr.startswith("counter: needs Python >= 3.12 with venv, and this system has no apt-get")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody who may nothing")
def test_without_privilege_it_says_what_needs_root(checkout: Path) -> None:
    provide(checkout, "apt-get")
    done = bare(checkout, "deploy", user=NOBODY, environ=NO_PYTHON)
    assert done.returncode == 1
    assert "counter: needs root to run: apt-get update" in done.stderr
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize("installer", ["uv", "pip", "pip, which an interrupted run did not come to"])
def test_without_a_network_it_says_so_and_deploys_nothing(checkout: Path, installer: str) -> None:
    nowhere = "http://127.0.0.1:9"
    dead = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "https_proxy", "http_proxy"), nowhere) | {
        "PIP_INDEX_URL": f"{nowhere}/simple",
        "PIP_RETRIES": "0",
        "PIP_NO_CACHE_DIR": "1",
        "UV_DEFAULT_INDEX": f"{nowhere}/simple",
        "UV_NO_CACHE": "1",
        "UV_HTTP_RETRIES": "0",
    }
    if installer == "uv":
        if not shutil.which("uv"):
            pytest.skip("no uv here")
        dead["PATH"] = os.environ["PATH"]
    else:
        # The interpreter of these tests, as the system's: it has venv, and it is new enough.
        (checkout / "bin/python3").symlink_to(Path(sys.executable).resolve())
    if installer not in ("uv", "pip"):
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", checkout / ".venv"], check=True)
    done = bare(checkout, "deploy", environ=dead)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("counter: could not install requirements/control.txt: check the network")
    assert "ansible-playbook" not in done.stdout
    assert "No module named" not in done.stderr
