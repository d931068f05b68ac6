"""A deployment neither ends backups by mistake nor uses the repository of another stack; a module is the engine."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.ansible import ROOT, play, results_by_host, run, stand_in_for_the_engine

BACKUP = {"counters": 12, "sum": 345, "id": "20261126T030000Z"}


def said(site: Path, answer: dict[str, Any], **given: Any) -> str:
    """Return what a deployment with these variables says, or nothing if it refuses nothing.

    ``answer``: of the module that runs the program.
    """
    known = {
        "deployed": {"settings": {"backup_repository": "/srv/backups"}},
        "deployed_store": {"files": {"backup/stack.yml": {"content": "services: {}\n", "mtime": 0}}},
        "docker_host_engine": {"images": []},
    }
    images = {"ansible.builtin.set_fact": {"images": {"backup": "counter-backup:0123456789ab"}}}
    hosts = {"host": {"ansible_connection": "local"} | known}
    (site / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": hosts}}))
    refuse = {"ansible.builtin.include_role": {"name": "backup", "tasks_from": "refuse"}}
    (site / "play.yml").write_text(yaml.safe_dump(play(images, refuse)))
    environ = stand_in_for_the_engine(site, docker_container=answer)
    command = ("ansible-playbook", "-i", site / "hosts.yml", site / "play.yml", "-e", json.dumps(given))
    done = run(*command, ANSIBLE_ROLES_PATH=str(ROOT / "roles"), **environ)
    found = re.search(r"Nothing was deployed[^\n\"]*", done.stdout)
    assert bool(found) == (done.returncode != 0), done.stdout + done.stderr
    return found[0] if found else ""


REST = "rest:https://backup.example/"
OPENED = {"backup_repository": REST, "backup_password": "a password"}
COPIED = {"settings": {"backup_repository": "/srv/backups", "backup_copy_repository": "/mnt/copies"}}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    # What the repository has of another stack, what the command line gives, and what is said.
    "forgotten": (
        {},
        {"stack_name": "shop"},
        [
            "shop makes backups in /srv/backups",
            "-e backup_repository=/srv/backups",
            "To end the backups: ./counter deploy -e stack_name=shop -e backup_repository=",
        ],
    ),
    "ended": ({}, {"backup_repository": ""}, []),
    "copies forgotten": (
        {},
        {"backup_repository": "/srv/backups", "deployed": COPIED},
        ["are copied to /mnt/copies", "-e backup_copy_repository=/mnt/copies", "-e backup_copy_repository="],
    ),
    "copies ended": (
        {},
        {"backup_repository": "/srv/backups", "deployed": COPIED, "backup_copy_repository": ""},
        [],
    ),
    "unused": ({}, {"backup_repository": REST}, []),
    "of another stack": (
        {"newest": "20261126T040000Z", "backup": BACKUP},
        {"backup_repository": REST, "stack_name": "shop"},
        [
            f"{REST} has backups of another stack named shop: 12 counters with the sum 345",
            f"./counter restore -e backup_repository={REST} -e stack_name=shop -e backup=latest, or -e to=latest",
            "another stack_name",
        ],
    ),
    "copies of another stack": (
        {"newest": "20261126T040000Z", "backup": BACKUP},
        {"backup_repository": "/srv/backups", "backup_copy_repository": REST},
        [
            f"{REST} has backups of another stack named counter: 12 counters with the sum 345",
            f"./counter restore -e backup_repository={REST} -e backup_copy_repository= -e backup=latest",
        ],
    ),
    "only a log": (
        {"newest": "2026-11-26T03:00:00Z", "backup": {}},
        {"backup_repository": REST},
        ["another stack named counter; its newest data is of 2026-11-26T03:00:00Z"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_refused(tmp_path: Path, name: str) -> None:
    stranger, given, reasons = CASES[name]
    told = {"status": 0, "container": {"Output": json.dumps(stranger)}}
    found = said(tmp_path, told, **given)
    assert [reason for reason in reasons if reason not in found] == [], found
    assert bool(found) == bool(reasons)


def test_a_repository_that_cannot_be_used_is_found_at_once(tmp_path: Path) -> None:
    failed = {"failed": True, "status": 1, "container": {"Output": "the password does not open the repository\n"}}
    found = said(tmp_path, failed, **OPENED)
    assert "cannot be used: the password does not open the repository" in found


# Runs the program here instead of in a container.
PROGRAM = """
import json, os, subprocess
from ansible.module_utils.basic import AnsibleModule
names = "name image pull command env mounts tmpfs read_only cap_drop detach log_driver cleanup recreate"
module = AnsibleModule(dict.fromkeys(names.split(), {"type": "raw"}))
plan = json.loads(module.params["env"]["BACKUP_PLAN"]) | {"work": os.environ["WORK"], "state": os.environ["WORK"]}
done = subprocess.run(module.params["command"], env=os.environ | {"BACKUP_PLAN": json.dumps(plan)},
                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
module.exit_json(changed=False, status=done.returncode, container={"Output": done.stdout})
"""


@pytest.mark.skipif(not shutil.which("restic"), reason="no restic here")
def test_a_first_deployment_makes_the_password_of_a_new_repository_only(tmp_path: Path) -> None:
    new, used = tmp_path / "new", tmp_path / "used"
    new.mkdir()
    shutil.copytree(ROOT / "tests/backup/recorded/repository", used)
    known = {
        "ansible_connection": "local",
        "deployed": {"settings": {}},
        "deployed_store": {"files": {}},
        "docker_host_engine": {"images": []},
    }
    hosts = {path.name: known | {"backup_repository": str(path)} for path in (new, used)}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": hosts}}))
    images = {"ansible.builtin.set_fact": {"images": {"backup": "counter-backup:0123456789ab"}}}
    refuse = {"ansible.builtin.include_role": {"name": "backup", "tasks_from": "refuse"}}
    (tmp_path / "play.yml").write_text(yaml.safe_dump(play(images, refuse)))
    engine = stand_in_for_the_engine(tmp_path)
    (tmp_path / "collections/ansible_collections/community/docker/plugins/modules/docker_container.py").write_text(
        PROGRAM
    )
    done = run(
        *("ansible-playbook", "-i", tmp_path / "hosts.yml", tmp_path / "play.yml"),
        ANSIBLE_ROLES_PATH=str(ROOT / "roles"),
        ANSIBLE_CALLBACK_RESULT_FORMAT="json",
        PYTHONPATH=f"{ROOT}:{ROOT / 'app'}",
        WORK=str(tmp_path / "work"),
        **engine,
    )
    refusals = dict(
        re.findall(r"\[(\w+)\]: FAILED[^\n]*?(Nothing was deployed[^\n\"]*)", done.stdout.replace("\n    ", " "))
    )
    assert set(refusals) == {"used"}, done.stdout + done.stderr
    assert f"These hosts do not have the password of {used}" in refusals["used"]
    assert "./counter deploy -e @password.yml" in refusals["used"]
    assert not list(new.iterdir())


def test_a_repository_on_the_disk_of_the_data_is_noticed(tmp_path: Path) -> None:
    for volumes in ("docker/volumes/counter-redis_redis-1", "bare/volumes/other-redis_redis-1", "backups", "copies"):
        (tmp_path / volumes).mkdir(parents=True)
    here, elsewhere = str(tmp_path / "backups"), "/dev/shm"  # noqa: S108  # another disk than any temporary directory
    cases = {
        "same": {"backup_repository": here},
        "both": {"backup_repository": here, "backup_copy_repository": str(tmp_path / "copies")},
        "another": {"backup_repository": elsewhere},
        "copied": {"backup_repository": here, "backup_copy_repository": REST},
        "away": {"backup_repository": f"{here}/not-mounted"},
        "bare": {"backup_repository": here},
    }
    hosts = {
        name: {"docker_host_engine": {"host_info": {"DockerRootDir": str(tmp_path / root)}}} | case
        for name, case in cases.items()
        for root in ["bare" if name == "bare" else "docker"]
    }
    inventory = {"managers": {"hosts": hosts, "vars": {"ansible_connection": "local"}}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
    look = {"ansible.builtin.import_role": {"name": "backup", "tasks_from": "disk"}}
    show = {"ansible.builtin.debug": {"msg": "{{ backup_disk_note }}"}}
    (tmp_path / "play.yml").write_text(yaml.safe_dump(play(look, show)))
    found = results_by_host(tmp_path / "play.yml", tmp_path / "hosts.yml")
    notes = {name: result["msg"] for name, result in found.items()}
    assert {name for name, note in notes.items() if note} == {"same", "both"}
    assert notes["same"].startswith(f"{here} is on the same disk of same as the data of its Redis nodes")
