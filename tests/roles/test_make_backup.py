"""What `./counter backup` says and records; modules are the engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from support.ansible import play, run, stand_in_for_the_engine

TOLD = {"id": "20261126T030000Z", "counters": 1, "sum": 1, "lower": "a from 5 to 1"}


@pytest.mark.parametrize("less", ["", "20261125T030000Z"])
def test_a_backup_after_a_loss_does_not_hide_what_the_stack_held(tmp_path: Path, less: str) -> None:
    state = tmp_path / "state"
    state.mkdir()
    data = {"nodes": {"generation": 3, "counters": 2, "sum": 345}}
    host = {"ansible_connection": "local", "deployed": {"data": data}, "deployed_store": {"files": {}}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": {"host": host}}}))
    make = {"ansible.builtin.include_role": {"name": "backup", "tasks_from": "make"}}
    (tmp_path / "play.yml").write_text(yaml.safe_dump(play(make)))
    environ = stand_in_for_the_engine(
        tmp_path,
        docker_host_info={"containers": [{"Id": "backup"}]},
        docker_container_exec={"rc": 0, "stdout": json.dumps(TOLD | {"less_than": less})},
    )
    command = ("ansible-playbook", "-i", tmp_path / "hosts.yml", tmp_path / "play.yml", "-e", f"state_dir={state}")
    done = run(*command, ANSIBLE_ROLES_PATH=str(Path(__file__).resolve().parents[2] / "roles"), **environ)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("in backup 20261125T030000Z: a from" in done.stdout) == bool(less)
    assert (state / "data.json").exists() == (not less)
