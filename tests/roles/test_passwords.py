"""Passwords reach hosts and servers, but neither what Ansible prints nor what its modules write to the journal."""

from __future__ import annotations

import os
import re
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import yaml
from support.ansible import PLAYBOOKS, ROOT, results_by_host, run
from support.passwords import INTERNAL_PASSWORD, logins

ASK = "Read what the nodes log in with"
TELL = "Let the servers use them"
PLAY = [
    {
        "hosts": "managers",
        "gather_facts": False,
        "tasks": [
            {"ansible.builtin.include_role": {"name": "redis", "tasks_from": "password", "public": True}},
            {"ansible.builtin.debug": {"msg": "{{ redis_passwords }}"}},
        ],
    }
]


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
    command = ["ansible-playbook", *options, PLAYBOOKS / "tell.yml"]
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
    assert "TASK [Create the directory of users" in tell(tmp_path, "sentinel", ASK).stdout


def test_a_password_is_used_as_it_is_kept(tmp_path: Path) -> None:
    """What is used is what the next deployment finds: otherwise that would be another one, again and again."""
    given = {"file": "given\n", "digits": 12345, "empty": "", "none": None}
    hosts = {}
    for name, password in given.items():
        (kept := tmp_path / name).mkdir()
        (kept / "passwords").write_text("before\n")
        (kept / "internal").write_text("internal\n")
        hosts[name] = {"ansible_connection": "local", "redis_state_dir": str(kept), "redis_password": password}
    (tmp_path / "group_vars").symlink_to(ROOT / "inventory/group_vars")
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": hosts}}))
    (tmp_path / "play.yml").write_text(yaml.safe_dump(PLAY))
    results = results_by_host(tmp_path / "play.yml", tmp_path / "hosts.yml")
    assert {name: result["msg"] for name, result in results.items()} == {
        "file": ["given", "before"],
        "digits": ["12345", "before"],
        "empty": ["before"],
        "none": ["before"],
    }
