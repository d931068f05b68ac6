"""Fixtures of the tests of backups, which need restic and redis-server."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from sites import Site
from support.configurations import configuration
from support.programs import end_forks
from topologies import Node


def _missing() -> str:
    for program in ("restic", "redis-server", "setpriv"):
        if not shutil.which(program):
            return f"no {program} here"
    said = subprocess.run(["restic", "version"], capture_output=True, text=True, check=True).stdout
    found = re.match(r"restic (\d+)\.(\d+)", said)
    # Before 0.17, exit codes do not tell what is wrong.
    return "" if found and (int(found[1]), int(found[2])) >= (0, 17) else f"too old: {said.strip()}"


MISSING = _missing()


@pytest.fixture(autouse=True)
def _programs() -> None:
    if MISSING:
        pytest.skip(MISSING)


@pytest.fixture(scope="session", autouse=True)
def _configuration(tmp_path_factory: pytest.TempPathFactory) -> None:
    Node.configuration = partial(configuration, tmp_path_factory)


@pytest.fixture(scope="session", autouse=True)
def _forks() -> Iterator[None]:
    yield
    end_forks()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def site(tmp_path: Path, stack: ExitStack) -> Site:
    """Return a standalone Redis without counters, with a repository whose key takes little time to open."""
    return Site(tmp_path / "site", "standalone", stack)


@pytest.fixture
def new_site(tmp_path: Path, stack: ExitStack) -> Site:
    """Return one whose first run makes the repository, with a key that takes its usual time to open."""
    return Site(tmp_path / "site", "standalone", stack, repository=str(tmp_path / "repository"))
