"""Passwords reach hosts and servers, but neither what Ansible prints nor what its modules write to the journal."""

from __future__ import annotations

import os
import re
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import yaml
from conftest import ROOT, run
from passwords import INTERNAL_PASSWORD, logins

ASK = "Read what the nodes log in with"
TELL = "Let the servers use them"


def tell(site: Path, topology: str, first: str = TELL) -> CompletedProcess[str]:
    """Tell the servers of their passwords, from one task on, with all that Ansible says; in an own directory."""
    (site / "group_vars").symlink_to(ROOT / "inventory/group_vars")
    one = {
        "ansible_connection": "local",
        "redis_topology": topology,
        "swarm_node": {"host_info": {"Name": "one", "Swarm": {"NodeID": "id-of-one"}}},
    }
    (site / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": {"one": one}}}))
    options: list[str | Path] = [
        "-i",
        site / "hosts.yml",
        "-e",
        f"redis_secrets_dir={site}",
        "-vvv",
        "--start-at-task",
        first,
    ]
    command = ["ansible-playbook", *options, Path(__file__).with_name("tell.yml")]
    return run(*command, DOCKER_HOST="unix:///nonexistent", ANSIBLE_INJECT_INVOCATION="true")


def test_a_server_that_does_not_take_its_password_is_named_without_it(tmp_path: Path) -> None:
    done = tell(tmp_path, "sentinel")
    assert done.returncode != 0
    assert re.search(r"counter-redis_redis-1 does not use its new passwords: Error .*No such file", done.stdout), (
        done.stdout
    )
    for password in logins(INTERNAL_PASSWORD).values():
        assert password not in done.stdout + done.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="gives files to the group of Redis")
def test_a_server_that_needs_none_is_not_told(tmp_path: Path) -> None:
    done = tell(tmp_path, "standalone")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "operator " in (tmp_path / "logins").read_text()


def test_passwords_that_nobody_keeps_are_not_taken_from_the_nodes(tmp_path: Path) -> None:
    lost = logins("of-another-manager")["operator"]
    (tmp_path / "logins").write_text(f"# 0\noperator {lost}\n")
    done = tell(tmp_path, "sentinel", ASK)
    assert done.returncode != 0
    said = re.sub(r"\s+", " ", done.stdout)
    assert "Nothing was changed. The Redis nodes of counter on one use passwords that one, the first manager" in said
    assert "Make the directory" not in done.stdout
    assert lost not in done.stdout + done.stderr


@pytest.mark.parametrize("kept", ["internal", "internal-before"])
def test_passwords_of_a_rotation_that_broke_off_are_known(tmp_path: Path, kept: str) -> None:
    (tmp_path / "logins").write_text(f"# 0\noperator {logins(kept)['operator']}\n")
    assert "TASK [Make the directory of users" in tell(tmp_path, "sentinel", ASK).stdout
