"""What a restore takes from a backup, and what it leaves to the command line and to the deployment."""

from __future__ import annotations

import json
import re
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from support.ansible import PLAYBOOKS, ROOT, play, results_by_host, run, stand_in_for_the_engine

from plugins.filter.deployed import deployed_state, with_content

HTTPS = {"edge_tls": "own", "edge_domains": ["counter.example"]}
SETTINGS = HTTPS | {"redis_topology": "cluster", "redis_replicas": 8, "http_port": 8080, "app_threads": 7, "gone": "x"}
SITE = {"backup_repository": "/mnt/gone", "image_registry": "192.0.2.1:5000", "docker_host_manage": False}
"""Where things were at the site that is lost: a new one says that itself."""
DEPLOYED = {"format": 2, "settings": SETTINGS | SITE}
RELEASES = {"format": 1, "releases": [{"number": 3, "verdict": "serving", "replicas": 6}]}
FILES = {
    "deployed.json": json.dumps(DEPLOYED),
    "releases.json": json.dumps(RELEASES),
    "redis/passwords": "secret\n",
    "redis/internal": "internal\n",
    "redis/certificates.json": "{}",
    "redis/move.json": "{}",
    "redis/stack.yml": "services: {}\n",
    "counter/redis_password": "secret\n",
    "acme/account.pem": "key\n",
    "backup/passwords": "password\n",
    "backup/backup.json": "{}",
    "site": "0123456789abcdef0123456789abcdef\n",
}
GIVEN = {"backup_password": "a secret"}
COMES_BACK = {
    *("redis/passwords", "redis/internal", "redis/certificates.json"),
    *("acme/account.pem", "backup/passwords", "releases.json", "site"),
}


def said(
    site: Path, hosts: dict[str, dict[str, Any]], files: dict[str, str] = FILES, /, **given: Any
) -> dict[str, Any]:
    """Return what is said of each host, which has its own variables, with these extra variables."""
    source = site / "source.json"
    source.write_text(json.dumps({"backup": {"stack": "counter"}, "manifest": {}, "files": files}))
    inventory = site / "hosts.yml"
    managers = {"hosts": hosts, "vars": {"ansible_connection": "local"}}
    inventory.write_text(yaml.safe_dump({"managers": managers}))
    options = ("-e", json.dumps(given))
    found = results_by_host(PLAYBOOKS / "restore.yml", inventory, *options, BACKUP_SOURCE=str(source))
    return {host: result["msg"] for host, result in found.items()}


def adopted(site: Path, **given: Any) -> dict[str, Any]:
    """Return what is said of a host with these extra variables."""
    found: dict[str, Any] = said(site, {"host": {}}, **given)["host"]
    return found


def test_new_hosts_get_the_settings_of_the_backup(tmp_path: Path) -> None:
    found = adopted(tmp_path, backup="latest", http_port=8081, **GIVEN)
    known = {name: value for name, value in SETTINGS.items() if name not in ("gone", "http_port")}
    assert found["settings"] == known | {"replicas": 6}
    assert found["odd"] == []
    assert set(found["files"]) == COMES_BACK
    # By this file, a host has a state, so an interrupted restore repeats the rest.
    assert found["order"][-1] == "redis/internal"
    assert found["command"] == "./counter restore -e backup=latest -e http_port=8081 -e @file-with-backup_password"


def test_a_repository_with_copies_that_is_restored_from_has_no_more_copies(tmp_path: Path) -> None:
    files = FILES | {
        "deployed.json": json.dumps({"format": 2, "settings": SETTINGS | {"backup_copy_repository": "/c"}})
    }
    hosts = {name: {"backup": "latest", "backup_repository": name} for name in ("/c", "/b")}
    found = said(tmp_path, hosts, files, **GIVEN)
    assert ["backup_copy_repository" in found[name]["settings"] for name in hosts] == [False, True]


def test_settings_that_could_add_lines_to_a_stack_file_are_found(tmp_path: Path) -> None:
    changed = DEPLOYED | {"settings": SETTINGS | {"edge_memory": "128M}\n  other:", "redis_memory": "1G"}}
    found = said(tmp_path, {"host": {}}, FILES | {"deployed.json": json.dumps(changed)}, backup="latest")
    assert found["host"]["odd"] == ["edge_memory"]


def test_another_stack_in_another_topology(tmp_path: Path) -> None:
    found = adopted(
        tmp_path, backup="latest", stack_name="beside", redis_topology="standalone", replicas=2, confirm="beside"
    )
    assert found["settings"] == HTTPS | {"http_port": 8080, "app_threads": 7}
    assert set(found["files"]) == COMES_BACK - {"releases.json", "site"}
    assert found["command"].endswith(" -e stack_name=beside -e redis_topology=standalone -e replicas=2")


def test_without_https_the_new_site_uses_no_certificates_or_domains(tmp_path: Path) -> None:
    pair = {"certificate": "/nowhere.pem", "key": "/nowhere.key"}
    found = adopted(tmp_path, backup="latest", edge_tls="none", edge_certificates=[pair], **GIVEN)
    assert found["certificates"] == []
    assert "edge_domains" not in found["settings"]


LATEST: list[tuple[dict[str, str], str]] = [
    ({"backup": "latest"}, "latest"),
    ({"backup": "counter/latest"}, "counter/latest"),
    ({"to": "latest"}, "log"),
    ({"to": "counter/latest"}, "counter/log"),
]
OTHERS: list[tuple[dict[str, str], str]] = [
    ({"backup": "20261127T030000Z"}, "20261127T030000Z"),
    ({"backup": "other/latest"}, "other/latest"),
]


def test_the_latest_backup_stays_the_same_until_the_restore_has_ended(tmp_path: Path) -> None:
    """The restore itself has made a later one, of what it replaces."""
    hosts: dict[str, dict[str, Any]] = {}
    expected: dict[str, str] = {}
    # An earlier version recorded only the id.
    recorded = ("", "counter/20261126T030000Z", "20261126T030000Z", "counter/2026-11-26T10:00:05Z")
    for (asked, wanted), chosen in product(LATEST + OTHERS, recorded):
        host = f"host-{len(hosts)}"
        begun = {"unfinished": {"backup": chosen, "before": "20261126T040000Z"}} if chosen else {}
        hosts[host] = {**asked, **begun}
        is_same_kind = (":" in chosen) == ("to" in asked)
        expected[host] = chosen if chosen and is_same_kind and (asked, wanted) in LATEST else wanted
    assert {host: found["wanted"] for host, found in said(tmp_path, hosts, **GIVEN).items()} == expected


def test_what_is_replaced_is_backed_up_once_unless_it_is_given_up(tmp_path: Path) -> None:
    placed = {"placed": [{"ID": "id-1", "Spec": {"Labels": {"counter.redis-1": "here"}}}]}
    hosts: dict[str, dict[str, Any]] = {
        "new": {},
        "same": placed,
        "given_up": placed | {"safety": "false"},
        "repeated": placed | {"unfinished": {"backup": "counter/20261126T030000Z", "before": "20261126T040000Z"}},
    }
    found = said(tmp_path, {name: host | {"backup": "latest"} for name, host in hosts.items()}, **GIVEN)
    assert [name for name in hosts if found[name]["safety"]] == ["same"]


def test_a_restore_that_is_cut_off_is_known_before_anything_is_adopted(tmp_path: Path) -> None:
    """On new hosts, where the files cannot be written here, and in the same stack, where the id cannot."""
    engine = stand_in_for_the_engine(
        tmp_path,
        docker_host_info={"containers": [{"Id": "0123"}]},
        docker_container_exec={"rc": 0, "stdout": json.dumps({"id": "20261126T040000Z"})},
    )
    for stub in ("counter/tasks/stop.yml", "site/tasks/main.yml"):
        (path := tmp_path / "stubs" / stub).parent.mkdir(parents=True)
        path.write_text("[]\n")
    (tmp_path / "new").mkdir()
    (tmp_path / "new/redis").touch()
    (tmp_path / "same/site").mkdir(parents=True)
    tasks: list[dict[str, Any]] = []
    for case, files, step in (("new", {}, "adopt"), ("same", FILES, "replace")):
        nodes = [{"ID": "id-1", "Spec": {"Labels": {"counter.redis-1": "here"} if files else {}}}]
        stored = with_content(files)
        facts = {
            "deployed_store": {"files": stored},
            "deployed": deployed_state(stored),
            "swarm_nodes": {"nodes": nodes},
        }
        restored = {"backup": {"stack": "counter", "id": "20261126T030000Z"}, "files": FILES | {"site": "another\n"}}
        cut_off = {"ansible.builtin.include_role": {"name": "backup", "tasks_from": step}}
        tasks += [
            {"ansible.builtin.set_fact": facts | {"backup_source": restored}},
            {
                "block": [cut_off],
                "rescue": [{"ansible.builtin.debug": {"msg": "{{ ansible_failed_task.name }}"}}],
                "vars": {"state_dir": str(tmp_path / case)},
            },
        ]
    (tmp_path / "play.yml").write_text(yaml.safe_dump(play(*tasks)))
    hosts = {"host": {"ansible_connection": "local", "docker_host_engine": {"host_info": {"ServerVersion": "26.1.5"}}}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": hosts}}))
    given = {"backup_repository": "/srv/backups", "edge_tls": "none", "backup": "latest"}
    done = run(
        *("ansible-playbook", "-i", tmp_path / "hosts.yml", tmp_path / "play.yml", "-e", json.dumps(given)),
        ANSIBLE_ROLES_PATH=f"{tmp_path / 'stubs'}:{ROOT / 'roles'}",
        **engine,
    )
    for case in ("new", "same"):
        record = tmp_path / case / "restore.json"
        assert record.exists(), done.stdout + done.stderr
        assert json.loads(record.read_text())["backup"] == "counter/20261126T030000Z"
        assert not (tmp_path / case / "releases.json").exists()


# Answers as the program does of each thing to restore.
PROGRAM = """
import json
from ansible.module_utils.basic import AnsibleModule
names = "name image pull command env mounts tmpfs read_only cap_drop detach log_driver cleanup recreate"
module = AnsibleModule(dict.fromkeys(names.split(), {{"type": "raw"}}))
assert json.loads(module.params["env"]["BACKUP_PLAN"])["environment_files"].keys() == {{"RESTIC_CACERT"}}
answer = json.loads({answer!r}) | {{"until": module.params["command"][-1]}}
module.exit_json(changed=False, status=0, container={{"Output": json.dumps(answer)}})
"""


def test_hosts_do_not_become_a_stack_that_still_runs_elsewhere(tmp_path: Path) -> None:
    engine = stand_in_for_the_engine(tmp_path)
    saved = {"stack": "counter", "id": "20261126T030000Z", "counters": 12, "sum": 345}
    answer = {"backup": saved, "manifest": {"topology": "cluster", "began": "2026-11-26T03:00:00Z"}, "files": FILES}
    modules = tmp_path / "collections/ansible_collections/community/docker/plugins/modules"
    (modules / "docker_container.py").write_text(PROGRAM.format(answer=json.dumps(answer)))
    (stub := tmp_path / "stubs/images/tasks/make.yml").parent.mkdir(parents=True)
    stub.write_text("[]\n")
    # That is the answer, too: until when the stack has recorded changes.
    soon, once = "2999-11-26T10:00:05Z", "2020-11-26T10:00:05Z"
    cases: dict[str, dict[str, Any]] = {
        "runs": {"backup": soon},
        "off": {"backup": soon, "confirm": "counter"},
        "stopped": {"backup": once},
        "without_log": {"backup": ""},
        "same": {"backup": soon, "site": FILES["site"].strip()},
    }
    state = deployed_state({})
    hosts = {name: case | {"deployed": state | {"site": case.get("site", "")}} for name, case in cases.items()}
    every = {
        "ansible_connection": "local",
        "backup_repository": "/srv/backups",
        "backup_password": "a password",
        "backup_environment_files": {"RESTIC_CACERT": __file__},
        "deployed_store": {"files": {}},
        "docker_host_engine": {"images": []},
    }
    images = {"ansible.builtin.set_fact": {"images": {"backup": "counter-backup:1"}}}
    fetch = {"ansible.builtin.include_role": {"name": "backup", "tasks_from": "fetch"}}
    go_on = {"ansible.builtin.debug": {"msg": "{{ inventory_hostname }} GOES ON"}}
    (tmp_path / "play.yml").write_text(yaml.safe_dump(play(images, fetch, go_on)))
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": hosts, "vars": every}}))
    done = run(
        *("ansible-playbook", "-i", tmp_path / "hosts.yml", tmp_path / "play.yml"),
        ANSIBLE_ROLES_PATH=f"{tmp_path / 'stubs'}:{ROOT / 'roles'}",
        ANSIBLE_ANY_ERRORS_FATAL="false",
        ANSIBLE_CALLBACK_RESULT_FORMAT="json",
        **engine,
    )
    assert set(re.findall(r"(\w+) GOES ON", done.stdout)) == set(cases) - {"runs"}, done.stdout + done.stderr
    assert f"recorded changes in /srv/backups until {soon}, so it may still run elsewhere" in done.stdout
    assert "./counter restore -e confirm=counter" in done.stdout


def test_hosts_are_checked_with_the_settings_of_the_backup(tmp_path: Path) -> None:
    """A later play than the one that checks everything does so, and knows no more than the hosts."""
    state: dict[str, Any] = {"time": 1, "architecture": "x86_64", "cpus": 2, "memory_mb": 1024, "disk_gb": 9}
    state["os_release"] = {"ID": "debian", "VERSION_ID": "13"}
    hosts = {
        name: {
            "ansible_connection": "local",
            "docker_host_state": state | {"address": address},
            "docker_host_engine": {"host_info": {"Swarm": {}}, "containers": [], "networks": []},
            # Of ports, another test is.
            "counter_ports": {},
            "app_cpus": cpus,
        }
        for name, address, cpus in (("fits", "192.0.2.1", 1), ("few", "192.0.2.2", 4))
    }
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": hosts}}))
    needs = {"ansible.builtin.import_role": {"name": "preflight", "tasks_from": "needs"}}
    [playing] = play(needs)
    plays = yaml.safe_load((ROOT / "playbooks/restore.yml").read_text())
    [files] = [each["vars_files"] for each in plays if "vars_files" in each]
    playing["vars_files"] = [str(ROOT / "playbooks" / path) for path in files]
    (tmp_path / "play.yml").write_text(yaml.safe_dump([playing]))
    environ = {"ANSIBLE_ROLES_PATH": str(ROOT / "roles"), "ANSIBLE_ANY_ERRORS_FATAL": "false"}
    done = run("ansible-playbook", "-i", tmp_path / "hosts.yml", tmp_path / "play.yml", **environ)
    said = re.sub(r"\s+", " ", done.stdout)
    assert re.findall(r"fatal: \[(\w+)\]", said) == ["few"], done.stdout
    assert "few: has 2 cores, so no replica can start there with app_cpus=4.0" in said
