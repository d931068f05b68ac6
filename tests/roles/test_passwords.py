"""Passwords reach hosts and servers, but neither what Ansible prints nor what its modules write to the journal."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import yaml
from support.ansible import PLAYBOOKS, ROOT, play, results_by_host, run, stand_in_for_the_engine
from support.passwords import INTERNAL_PASSWORD, logins

PLAY = play(
    {"ansible.builtin.import_role": {"name": "deployed", "tasks_from": "read"}},
    {"ansible.builtin.include_role": {"name": "redis", "tasks_from": "credentials/passwords"}},
    {"ansible.builtin.debug": {"msg": "{{ redis_credentials_passwords }}"}},
)
# What the role stack says of a server that runs.
LOOKS = {
    "results": [
        {
            "services": [
                {
                    "name": "counter-redis_redis-1",
                    "running": 1,
                    "tasks": [{"desired": "running", "state": "running", "id": "task", "node_id": "id-of-one"}],
                }
            ]
        }
    ]
}
# Runs a command in the container of a server that loads its files, but does not use other passwords.
EXEC = """
import json, os
from ansible.module_utils.basic import AnsibleModule
options = {"container": {"type": "str"}, "argv": {"type": "list", "elements": "str"}, "stdin": {"type": "str"}}
module = AnsibleModule(argument_spec=options)
use = module.params["argv"][1] == "-c"
with open(os.environ["CALLS"], "a") as calls:
    print(module.params["container"], "uses" if use else "loads", file=calls)
module.exit_json(changed=True, rc=int(use), stdout="", stderr="No such file" if use else "")
"""
as_root = pytest.mark.skipif(os.getuid() != 0, reason="gives files to the group of Redis")


def bring(site: Path, topology: str, logins_file: str = "", *labels: str) -> CompletedProcess[str]:
    """Bring passwords to the hosts and servers, with all that Ansible says; a host has ``logins_file`` already."""
    secrets, look = site / "redis-secrets", site / "roles/stack/tasks/look.yml"
    for made in (secrets, look.parent):
        made.mkdir(parents=True)
    look.write_text(yaml.safe_dump([{"name": "Look", "ansible.builtin.set_fact": {"stack_looks": LOOKS}}]))
    if logins_file:
        (secrets / "logins").write_text(logins_file)
    one = {
        "ansible_connection": "local",
        "redis_topology": topology,
        "swarm_node": {"host_info": {"Name": "one", "Swarm": {"NodeID": "id-of-one"}}},
        "swarm_nodes": {"nodes": [{"ID": "id-of-one", "Spec": {"Labels": dict.fromkeys(labels, "here")}}]},
    }
    (site / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": {"one": one}}}))
    engine = stand_in_for_the_engine(site, docker_container_exec={})
    [module] = (site / "collections").rglob("docker_container_exec.py")
    module.write_text(EXEC)
    return run(
        *("ansible-playbook", "-i", site / "hosts.yml", "-e", f"state_dir={site}", "-vvv", PLAYBOOKS / "rollout.yml"),
        ANSIBLE_ROLES_PATH=f"{site / 'roles'}:{ROOT / 'roles'}",
        ANSIBLE_INJECT_INVOCATION="true",
        **engine,
    )


@as_root
def test_a_server_that_does_not_take_its_password_is_named_without_it(tmp_path: Path) -> None:
    done = bring(tmp_path, "sentinel")
    assert done.returncode != 0
    said = "counter-redis_redis-1 does not use its new passwords: No such file."
    assert said in re.sub(r"\s+", " ", done.stdout), done.stdout
    for password in logins(INTERNAL_PASSWORD).values():
        assert password not in done.stdout + done.stderr


@as_root
def test_a_server_that_needs_none_is_not_told(tmp_path: Path) -> None:
    done = bring(tmp_path, "standalone")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "operator " in (tmp_path / "redis-secrets/logins").read_text()
    assert (tmp_path / "calls").read_text() == "counter-redis_redis-1.1.task loads\n"


def test_passwords_that_nobody_keeps_are_not_taken_from_the_nodes(tmp_path: Path) -> None:
    lost = logins("of-another-manager")["operator"]
    done = bring(tmp_path, "sentinel", f"# 0\noperator {lost}\n", "counter.redis-1")
    assert done.returncode != 0
    said = re.sub(r"\s+", " ", done.stdout)
    assert (
        "No password was changed. The Redis nodes of counter on one use passwords that one, the first manager" in said
    )
    assert "Create the directory" not in done.stdout
    assert lost not in done.stdout + done.stderr


@pytest.mark.parametrize("kept", ["internal", "internal-before"])
def test_passwords_of_a_rotation_that_broke_off_are_known(tmp_path: Path, kept: str) -> None:
    done = bring(tmp_path, "sentinel", f"# 0\noperator {logins(kept)['operator']}\n", "counter.redis-1")
    assert "Create the directory of users" in done.stdout


@pytest.mark.parametrize("labels", [(), ("counter.redis-9",)])
def test_passwords_of_former_nodes_are_replaced(tmp_path: Path, labels: tuple[str, ...]) -> None:
    """The host has none of the nodes; it kept the file of an earlier topology, or of another stack of the same name.

    Earlier versions left the label of a node that had left.
    """
    done = bring(tmp_path, "sentinel", "# 0\noperator of-a-former-node\n", *labels)
    assert "Create the directory of users" in done.stdout
    assert "No password was changed" not in done.stdout


def test_a_password_is_used_as_it_is_kept(tmp_path: Path) -> None:
    """What is used is what the next deployment finds: otherwise that would be another one, again and again."""
    given = {"file": "given\n", "digits": 12345, "empty": ""}
    hosts = {}
    for name, password in given.items():
        (kept := tmp_path / name / "redis").mkdir(parents=True)
        (kept / "passwords").write_text("before\n")
        (kept / "internal").write_text("internal\n")
        hosts[name] = {"ansible_connection": "local", "redis_password": password}
    hosts["new"] = {"ansible_connection": "local"}
    # Each host has a state directory of its own.
    place = json.dumps({"state_dir": f"{tmp_path}/{{{{ inventory_hostname }}}}"})
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": hosts}}))
    (tmp_path / "play.yml").write_text(yaml.safe_dump(PLAY))
    results = results_by_host(tmp_path / "play.yml", tmp_path / "hosts.yml", "-e", place)
    made = {name: result["msg"] for name, result in results.items()}
    new = made.pop("new")
    assert {name: each["app"] for name, each in made.items()} == {
        "file": ["given", "before"],
        "digits": ["12345", "before"],
        "empty": ["before"],
    }
    # The secret of the nodes must not be one that the app knows.
    secrets = {each["internal"][0] for each in (new, made["file"], made["digits"])}
    assert len({new["app"][0], *secrets, "internal"}) == 5
    assert made["empty"]["internal"] == ["internal"]
