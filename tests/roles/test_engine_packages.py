"""The engine that a host has is not taken away for the packages of another one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.ansible import PLAYBOOKS, project_environment, run

# Everything that is asked for is installed, but for the other engine.
DPKG_QUERY = """#!/bin/sh
shift 2
for package; do
  [ "$package" = {other} ] || echo "installed $package"
done
"""


@pytest.mark.parametrize(("there", "other"), [("docker.io", "docker-ce"), ("docker-ce", "docker.io")])
def test_docker_ce_stays_and_docker_io_is_installed_only_without_it(tmp_path: Path, there: str, other: str) -> None:
    dpkg_query = tmp_path / "dpkg-query"
    dpkg_query.write_text(DPKG_QUERY.format(other=other))
    dpkg_query.chmod(0o755)
    done = run(
        *("ansible-playbook", "--check", PLAYBOOKS / "engine_packages.yml"),
        PATH=f"{tmp_path}:{project_environment()['PATH']}",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    packages = re.findall(r"^ *- (\S+)$", done.stdout, re.MULTILINE)
    assert there in packages
    assert other not in packages
    assert "python3-docker" in packages
    assert ("has docker-ce, which is not replaced" in done.stdout) == (there == "docker-ce")
