"""What `./counter backup` asks for, says and records; modules are the engine."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.ansible import ROOT, play, run, stand_in_for_the_engine
from support.json_result import SCHEMA

from backup.saved import Log, Saved

TOLD = {"id": "20261126T030000Z", "counters": 1, "sum": 1, "lower": "a from 5 to 1"}


@pytest.mark.parametrize("less", ["", "20261125T030000Z"])
def test_a_backup_after_a_loss_does_not_hide_what_the_stack_held(tmp_path: Path, less: str) -> None:
    state = tmp_path / "state"
    state.mkdir()
    data = {"nodes": {"generation": 3, "counters": 2, "sum": 345}}
    host = {"ansible_connection": "local", "deployed": {"data": data}, "deployed_store": {"files": {}}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": {"host": host}}}))
    request = {"ansible.builtin.include_role": {"name": "backup", "tasks_from": "request"}}
    (tmp_path / "play.yml").write_text(yaml.safe_dump(play(request)))
    environ = stand_in_for_the_engine(
        tmp_path,
        docker_host_info={"containers": [{"Id": "backup"}]},
        docker_container_exec={"rc": 0, "stdout": json.dumps(TOLD | {"less_than": less})},
    )
    command = ("ansible-playbook", "-i", tmp_path / "hosts.yml", tmp_path / "play.yml", "-e", f"state_dir={state}")
    done = run(*command, ANSIBLE_ROLES_PATH=str(ROOT / "roles"), **environ)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("in backup 20261125T030000Z: a from" in done.stdout) == bool(less)
    assert (state / "data.json").exists() == (not less)


# Answers as the program does, and notes what it got.
PROGRAM = """
import json, os
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule({"container": {}, "argv": {"type": "list", "elements": "str"}})
argv = module.params["argv"][3:]
with open(os.environ["CALLS"], "a") as calls:
    print(*argv, file=calls)
answers = {"list": {"backups": [], "logs": []}, "verify": [{}, {}], "change": {"not_freed": "no answer"}}
module.exit_json(changed=False, rc=0, stdout=json.dumps(answers[argv[0]]))
"""
ID = "20261126T030000Z"
CHANGED = f"Backup {ID} of counter"
ASKED = {
    ("list", True): ("list", None, None),
    ("verify", "all"): ("verify all", "All 2 backups of counter are proved.", "A check proves no backup."),
    ("verify", ID): (f"verify {ID}", f"Backup {ID} is proved.", "A check proves no backup."),
    ("hold", ID): (
        f"change hold {ID}",
        f"{CHANGED} stays until it is released: ./counter backup -e unhold={ID}.",
        "A check changes no backup.",
    ),
    ("unhold", ID): (f"change unhold {ID}", f"{CHANGED} is not held any more.", "A check changes no backup."),
    ("delete", ID): (f"change delete {ID}", f"{CHANGED} was removed.", "A check changes no backup."),
}


def test_the_schema_of_the_json_knows_a_list_of_backups() -> None:
    for name, kind in (("backups", Saved), ("logs", Log)):
        known = SCHEMA["properties"][name]["items"]
        assert set(known["required"]) <= set(known["properties"]) <= {each.name for each in fields(kind)}


@pytest.mark.parametrize("check", [False, True])
def test_what_the_options_ask_for(tmp_path: Path, check: bool) -> None:  # noqa: FBT001
    environ = stand_in_for_the_engine(tmp_path, docker_host_info={"containers": [{"Id": "backup"}]})
    modules = tmp_path / "collections/ansible_collections/community/docker/plugins/modules"
    (modules / "docker_container_exec.py").write_text(PROGRAM)
    every = {"ansible_connection": "local", "deployed": {"data": {}}, "deployed_store": {"files": {}}}
    hosts: dict[str, dict[str, Any]]
    hosts = {f"host{number}": {"asked": dict([option])} for number, option in enumerate(ASKED)}
    for host in hosts.values():
        if host["asked"].keys() & {"delete", "repair"}:
            host["confirm"] = "counter"
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": hosts, "vars": every}}))
    ask = {"ansible.builtin.set_fact": {"desired": "{{ desired | combine(asked) }}"}}
    request = {"ansible.builtin.include_role": {"name": "backup", "tasks_from": "request"}}
    (tmp_path / "play.yml").write_text(yaml.safe_dump(play(ask, request)))
    environ |= {"ANSIBLE_ROLES_PATH": str(ROOT / "roles"), "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"}
    command = ("ansible-playbook", "-i", tmp_path / "hosts.yml", tmp_path / "play.yml")
    done = run(*command, *(("--check",) if check else ()), **environ)
    assert done.returncode == 0, done.stdout + done.stderr
    calls = [call for call in Path(environ["CALLS"]).read_text().splitlines() if call != "docker_host_info"]
    assert sorted(calls) == (["list"] if check else sorted(argv for argv, *_ in ASKED.values()))
    assert "The repository has no backups." in done.stdout
    # The sentence of the last host follows.
    document, _ = json.JSONDecoder().raw_decode(done.stdout, done.stdout.index("{\n"))
    tasks = document["plays"][-1]["tasks"]
    (hosts,) = [task["hosts"] for task in tasks if "Report the result" in task["task"]["name"]]
    said = [result.get("ansible_stats", {"data": {"closing_sentence": None}})["data"] for result in hosts.values()]
    wanted = [in_check if check else sentence for _, sentence, in_check in ASKED.values()]
    assert [data["closing_sentence"] for data in said] == wanted
    assert ("WARNING: Old backups still take room: no answer." in done.stdout) != check
