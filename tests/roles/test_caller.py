"""The commands that a benchmark runs itself are given what its own command was given."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml
from support.ansible import PLAYBOOKS, last_task, run


@pytest.fixture
def site(tmp_path: Path) -> Path:
    host = {"ansible_connection": "local", "swarm_address": "192.0.2.11"}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": {"host": host}}}))
    (tmp_path / "password").write_text("become")
    return tmp_path


def bench(site: Path, *options: str, **environ: str) -> subprocess.CompletedProcess[str]:
    playbook = PLAYBOOKS / "caller.yml"
    command: list[str | Path] = ["ansible-playbook", "-i", site / "hosts.yml", playbook, *options]
    return run(*command, ANSIBLE_STDOUT_CALLBACK="ansible.posix.json", **environ)


def test_variables_and_passwords_are_handed_on(site: Path) -> None:
    """From a manager that also runs Locust."""
    groups = yaml.safe_load((site / "hosts.yml").read_text())
    (site / "hosts.yml").write_text(yaml.safe_dump(groups | {"loadgen": {"hosts": {"host": None}}}))
    (site / "settings.yml").write_text("app_threads: 7\nbench_users: 5\n")
    done = bench(
        site,
        *("-e", f"@{site / 'settings.yml'}", "-e", "docker_host_manage=false bench_topologies=[standalone]"),
        *("--become-password-file", str(site / "password"), "--become-method", "su", "--user", "admin", "-c", "local"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    printed = last_task(done)["host"]["msg"]
    given = {"app_threads": 7, "docker_host_manage": "false", "bench_users": 5, "bench_topologies": "[standalone]"}
    assert printed["variables"] == given
    assert printed["command"][1:] == [
        f"--inventory={site / 'hosts.yml'}",
        "--user=admin",
        "--connection=local",
        "--become-method=su",
        f"--become-password-file={site / 'password'}",
    ]
    assert printed["shares_host"]


def test_the_report_says_how_to_run_it_again(site: Path) -> None:
    """With the address that was measured, unless it is the stack's own."""
    host = {"ansible_connection": "local", "swarm_address": "192.0.2.11", "bench_users": 5}
    hosts = {"usual": host, "other": host | {"bench_target": "http://192.0.2.99:8080"}}
    (site / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": hosts}}))
    asked = {name: result["msg"]["asked"] for name, result in last_task(bench(site)).items()}
    assert asked == {
        "usual": {"bench_users": 5},
        "other": {"bench_users": 5, "bench_target": "http://192.0.2.99:8080"},
    }


def test_a_password_that_was_typed_is_refused_before_anything_is_measured(site: Path) -> None:
    done = bench(site, ANSIBLE_BECOME_ASK_PASS="true")  # noqa: S106  # as --ask-become-pass
    assert done.returncode != 0
    assert "This works: ./counter bench --become-password-file=FILE" in done.stdout
