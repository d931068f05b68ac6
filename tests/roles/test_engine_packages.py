"""The engine that a host has is not taken away for the packages of another one."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from engines import engine, serve
from support.ansible import PLAYBOOKS, project_environment, run, run_alone

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


@pytest.mark.skipif(not shutil.which("dockerd"), reason="no engine here, whose service a check asks for")
def test_the_role_needs_no_other_role_of_the_project(tmp_path: Path) -> None:
    """A check, since the role would change this machine; its engine is a stand-in, and all packages are there.

    The engine's settings are others than those of this machine, so that there is something to do.
    """
    dpkg_query = tmp_path / "dpkg-query"
    dpkg_query.write_text(DPKG_QUERY.format(other="docker-ce"))
    dpkg_query.chmod(0o755)
    host = {"ansible_connection": "local", "ansible_python_interpreter": str(tmp_path / "one.python")}
    hosts = tmp_path / "hosts.yml"
    hosts.write_text(yaml.safe_dump({"all": {"hosts": {"one": host}}}))
    given = {
        "docker_host_platform": "Debian 13",
        "docker_host_synchronise_clock": False,
        "docker_host_daemon_settings": {"mtu": 1400},
    }
    options = ["--check", "-e", json.dumps(given)]
    with serve(tmp_path, "one", engine()):
        done = run_alone(tmp_path, "docker_host", hosts, *options, PATH=f"{tmp_path}:{project_environment()['PATH']}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "TASK [docker_host : Start the engine, now and at boot]" in done.stdout
