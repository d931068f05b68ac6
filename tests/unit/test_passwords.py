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

FIRST = "Let the servers use them"


def tell(site: Path, topology: str) -> CompletedProcess[str]:
    """Tell the servers of their passwords, with all that Ansible can say; ``site`` is an empty directory."""
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
        FIRST,
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
