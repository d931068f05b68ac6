"""What ``./counter promote`` says and does, with programs that stand for the nodes and a host that does not answer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from support.ansible import MANAGERS, ROOT, run, stand_in_for_the_engine

EXEC = """
import os
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule({"container": {}, "argv": {"type": "list"}})
verb = module.params["argv"][-1]
with open(os.environ["CALLS"], "a") as calls:
    print(verb, module.params["container"], file=calls)
rc = int(os.environ.get(verb, "0"))
said = {"holdings": "redis-1: replica, 5 counters", "promote": "redis-1 is the primary"}[verb]
module.exit_json(changed=True, rc=rc, stdout="" if rc else said, stderr="no majority" if rc == 1 else "")
"""
LOCAL = {"ansible_connection": "local"}
AWAY = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}


def promote(site: Path, primary: str = "", **fails: str) -> tuple[int, str, list[str]]:
    """Run the tasks; return the exit status, what is printed in one line, and what the nodes were told.

    ``fails``: a program in a node's container -> its exit status.
    """
    containers = [{"Names": ["/counter-redis_redis-1.1.abc"]}]
    engine = stand_in_for_the_engine(site, docker_host_info={"containers": containers})
    modules = site / "collections/ansible_collections/community/docker/plugins/modules"
    (modules / "docker_container_exec.py").write_text(EXEC)
    (site / "calls").touch()
    hosts = {"away": AWAY, "one": LOCAL}
    (site / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": hosts}}, sort_keys=False))
    tasks = [
        {"ansible.builtin.import_role": {"name": "preflight", "tasks_from": "settings"}},
        {"ansible.builtin.import_role": {"name": "redis", "tasks_from": "promote"}},
    ]
    # As in playbooks/promote.yml.
    play = {"hosts": MANAGERS, "ignore_unreachable": True, "any_errors_fatal": False, "roles": ["settings"]}
    (site / "play.yml").write_text(yaml.safe_dump([play | {"tasks": tasks}]))
    done = run(
        *("ansible-playbook", "-i", site / "hosts.yml", site / "play.yml"),
        *("-e", f"redis_primary={primary} confirm=counter"),
        ANSIBLE_ROLES_PATH=str(ROOT / "roles"),
        **engine,
        **fails,
    )
    calls = [line for line in (site / "calls").read_text().splitlines() if line != "docker_host_info"]
    return done.returncode, re.sub(r"\s+", " ", done.stdout + done.stderr), calls


def test_what_the_nodes_hold_is_shown_where_one_of_them_answers(tmp_path: Path) -> None:
    status, said, calls = promote(tmp_path)
    assert status == 0, said
    assert "redis-1: replica, 5 counters" in said
    assert "A node becomes the primary with: ./counter promote -e redis_primary=NODE -e confirm=counter" in said
    assert calls == ["holdings counter-redis_redis-1.1.abc"]


def test_a_node_becomes_the_primary(tmp_path: Path) -> None:
    status, said, calls = promote(tmp_path, "redis-1")
    assert status == 0, said
    assert "redis-1 is the primary" in said
    assert calls == ["holdings counter-redis_redis-1.1.abc", "promote counter-redis_redis-1.1.abc"]


def test_a_node_that_does_not_run_is_refused(tmp_path: Path) -> None:
    status, said, calls = promote(tmp_path, "redis-2")
    assert status != 0
    assert "Nothing was changed: no container of redis-2 runs on a host that answers" in said
    assert len(calls) == 1


@pytest.mark.parametrize(("exit_status", "why"), [("1", "no majority"), ("137", "the program was killed, perhaps for")])
def test_it_is_told_that_nobody_knows_what_the_nodes_hold(tmp_path: Path, exit_status: str, why: str) -> None:
    status, said, _ = promote(tmp_path, holdings=exit_status)
    assert status != 0
    assert f"one could not read what the nodes hold: {why}" in said
    assert "A node becomes the primary with" not in said


def test_a_chosen_node_is_promoted_though_nobody_knows_what_the_nodes_hold(tmp_path: Path) -> None:
    status, said, calls = promote(tmp_path, "redis-1", holdings="137")
    assert status == 0, said
    assert "WARNING: one could not read what the nodes hold" in said
    assert len(calls) == 2


def test_a_node_that_is_not_promoted_is_a_failure(tmp_path: Path) -> None:
    status, said, _ = promote(tmp_path, "redis-1", promote="1")
    assert status != 0
    says = "redis-1 has not confirmed that it is the primary: no majority. This shows what runs: ./counter status"
    assert says in said
