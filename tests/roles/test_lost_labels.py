"""A Redis node starts where its volume is, or not at all if nobody has its data: with modules for two engines."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.ansible import MANAGERS, ROOT, run, stand_in_for_the_engine

from plugins.filter.deployed import deployed_state, with_content

LABEL = """
import os
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule({"hostname": {}, "labels": {"type": "dict"}})
with open(os.environ["CALLS"], "a") as calls:
    print("label", module.params["hostname"], *module.params["labels"], file=calls)
module.exit_json(changed=True)
"""
VOLUME = "counter-redis_redis-1"
COUNTED = {"counters": 12, "sum": 3456, "time": "2026-11-26T10:00:05Z"}
SERVED = {"format": 1, "releases": [{"number": 1, "verdict": "serving"}]}


def state(topology: str = "standalone", *, hosts: dict[str, str] | None = None, served: bool = True) -> dict[str, str]:
    """Return the files of a stack's state directory; ``hosts``: where its data was, if that was recorded."""
    nodes = {"sentinel": 3, "cluster": 6, "independent": 3}.get(topology, 1)
    suffix = f"-{topology}" if topology in ("sentinel", "cluster") else ""
    names = [f"redis-{number + 1}" for number in range(nodes)]
    services = {name: {"volumes": [f"{name}{suffix}:/data"]} for name in names}
    return (
        {
            "redis/stack.yml": yaml.safe_dump({"services": services}),
            "redis/redis.json": json.dumps({"topology": topology, "tls": False}),
        }
        | ({"releases.json": json.dumps(SERVED)} if served else {})
        | ({"data.json": json.dumps({"nodes": COUNTED | {"generation": 1, "hosts": hosts}})} if hosts else {})
    )


def nodes(*labels: str) -> list[dict[str, Any]]:
    """Return the nodes of the swarm; the second one has the labels."""
    own: list[dict[str, str]] = [{}, dict.fromkeys(labels, "here")]
    return [{"ID": f"id-{name}", "Spec": {"Labels": of}} for name, of in zip(("one", "two"), own, strict=True)]


def deploy(
    site: Path, volumes: dict[str, list[str]], *labels: str, files: dict[str, str] | None = None, **given: Any
) -> tuple[str, list[str]]:
    """Run the tasks before Redis is deployed; return what is printed in one line, and which nodes were labelled.

    ``volumes``: those of each host. ``files``: of the state directory, by default those of a node that has served.
    """
    engine = stand_in_for_the_engine(site, docker_node_info={"nodes": nodes("counter.redis-1")})
    (site / "collections/ansible_collections/community/docker/plugins/modules/docker_node.py").write_text(LABEL)
    (site / "calls").touch()
    hosts = {
        name: {
            "ansible_connection": "local",
            "docker_host_engine": {"volumes": names},
            "swarm_node": {"host_info": {"Swarm": {"NodeID": f"id-{name}", "ControlAvailable": name == "one"}}},
        }
        for name, names in volumes.items()
    }
    groups = {"managers": {"hosts": {"one": hosts["one"]}}, "workers": {"hosts": {"two": hosts["two"]}}}
    (site / "hosts.yml").write_text(yaml.safe_dump(groups))
    stored = with_content(state() if files is None else files)
    facts = {
        "swarm_nodes": {"nodes": nodes(*labels)},
        "deployed_store": {"files": stored},
        "deployed": deployed_state(stored),
    }
    tasks = [
        {"ansible.builtin.import_role": {"name": "preflight", "tasks_from": "settings"}},
        {"ansible.builtin.set_fact": facts},
        {"ansible.builtin.import_role": {"name": "redis", "tasks_from": "refuse"}},
        {"ansible.builtin.debug": {"msg": "PLACES {{ redis_places | to_json }}"}},
    ]
    play = {"hosts": MANAGERS, "roles": ["settings"], "vars_files": [str(ROOT / "roles/redis/vars/main/nodes.yml")]}
    (site / "play.yml").write_text(yaml.safe_dump([play | {"tasks": tasks}]))
    done = run(
        *("ansible-playbook", "-i", site / "hosts.yml", site / "play.yml", "-e", json.dumps(given)),
        ANSIBLE_ROLES_PATH=str(ROOT / "roles"),
        ANSIBLE_CALLBACK_RESULT_FORMAT="json",
        **engine,
    )
    calls = [line for line in (site / "calls").read_text().splitlines() if line.startswith("label")]
    return re.sub(r"\s+", " ", done.stdout + done.stderr), calls


def places(said: str) -> dict[str, str]:
    found = re.search(r'PLACES (\{.*?\})"', said)
    assert found, said
    where: dict[str, str] = json.loads(found[1].replace("\\", ""))
    return where


@pytest.mark.parametrize("labels", [(), ("counter.sentinel-1",)], ids=["none", "other"])
def test_the_host_with_the_volume_gets_its_label_back(tmp_path: Path, labels: tuple[str, ...]) -> None:
    said, calls = deploy(tmp_path, {"one": ["other-redis_redis-1", f"{VOLUME}0"], "two": [VOLUME]}, *labels)
    assert calls == ["label id-two counter.redis-1"]
    assert "NOTE: the swarm had lost the label that says where the data of redis-1 is. two has its volume" in said
    assert places(said) == {"redis-1": "id-two"}


def test_of_two_volumes_somebody_has_to_choose_one(tmp_path: Path) -> None:
    said, calls = deploy(tmp_path, {"one": [VOLUME], "two": [VOLUME]})
    assert "several hosts have a volume of it: one, two. Nothing was deployed." in said
    assert "docker node update --label-add counter.redis-1=here HOST" in said
    assert "PLACES" not in said
    assert not calls


def test_a_first_deployment_and_one_with_data_change_no_label(tmp_path: Path) -> None:
    for name, files, labels in (("first", {}, ()), ("interrupted", state(served=False), ()), ("labelled", None, True)):
        (site := tmp_path / name).mkdir()
        volumes = {"one": [], "two": [VOLUME] if labels else []}
        said, calls = deploy(site, volumes, *(["counter.redis-1"] if labels else []), files=files)
        assert not calls
        assert places(said) == {"redis-1": "id-two" if labels else "id-one"}


RECORDED = state(hosts={"redis-1": "away"})
SENTINEL = state("sentinel", hosts={f"redis-{number}": "away" for number in (1, 2, 3)})
CLUSTER = state("cluster", hosts={f"redis-{number}": "away" for number in range(1, 7)})
PAIR_LOST = [f"counter-redis_redis-{number}-cluster" for number in (2, 3, 5, 6)]
GONE: dict[str, tuple[dict[str, str], dict[str, Any], list[str], tuple[str, ...]]] = {
    "host away": (RECORDED, {}, [], ()),
    "volume pruned": (RECORDED, {}, [], ("counter.redis-1",)),
    "deployed by an earlier version": (state(), {}, [], ()),
    "all replicas": (SENTINEL, {"redis_topology": "sentinel"}, [], ()),
    "a pair": (CLUSTER, {"redis_topology": "cluster", "backup_repository": "/srv/backups"}, PAIR_LOST, ()),
    "one of several": (
        state("independent", hosts={f"redis-{number}": "away" for number in (1, 2, 3)}),
        {"redis_topology": "independent"},
        ["counter-redis_redis-1", "counter-redis_redis-3"],
        (),
    ),
}


@pytest.mark.parametrize("name", GONE)
def test_counters_do_not_start_from_zero(tmp_path: Path, name: str) -> None:
    files, settings, volumes, labels = GONE[name]
    said, _ = deploy(tmp_path, {"one": [], "two": volumes}, *labels, files=files, **settings)
    lost = {"all replicas": "redis-1, redis-2, redis-3", "a pair": "redis-1, redis-4", "one of several": "redis-2"}
    assert f"Nothing was deployed: the data of {lost.get(name, 'redis-1')} of counter is gone." in said
    assert "PLACES" not in said
    if "data.json" in files:
        assert "(it was on away)" in said
        assert "The stack held 12 counters with the sum 3456 on 2026-11-26T10:00:05Z." in said
    else:
        assert "The stack has counted before." in said
    if name == "a pair":
        # The password of the backups may be nowhere else.
        ways = [
            "sudo head -n 1 /etc/counter-deploy/counter/backup/passwords. Then: ./counter destroy",
            "-e purge=true -e confirm=counter. Then return to a backup, with this password as backup_password",
            "./counter restore -e backup=latest -e backup_repository=/srv/backups -e confirm=counter, or with -e to",
        ]
    else:
        ways = ["./counter deploy -e", "-e confirm=counter"]
    assert [way for way in ways if way not in said] == []


def test_the_label_of_a_volume_that_was_moved_has_to_follow_it(tmp_path: Path) -> None:
    said, calls = deploy(tmp_path, {"one": [VOLUME], "two": []}, "counter.redis-1", files=RECORDED)
    assert not calls
    assert "one has a volume of redis-1, but a label of the swarm says that it runs elsewhere." in said
    assert "docker node update --label-rm counter.redis-1 id-two && " in said
    assert "docker node update --label-add counter.redis-1=here id-one" in said


def test_what_is_lost_can_be_given_up(tmp_path: Path) -> None:
    given = {"confirm": "counter", "backup_repository": "/srv/backups"}
    for confirm in ("", "counter"):
        (site := tmp_path / f"confirm-{confirm}").mkdir()
        said, _ = deploy(site, {"one": [], "two": []}, files=RECORDED, **given | {"confirm": confirm})
        assert ("PLACES" in said) == bool(confirm)
        assert ("./counter restore -e backup=latest -e backup_repository=/srv/backups" in said) == (not confirm)
        assert ("or with -e to=latest" in said) == (not confirm)
    assert "WARNING: counter goes on without the counters of redis-1, as confirmed." in said


def test_what_another_node_has_is_copied_from_it(tmp_path: Path) -> None:
    sentinel = ["counter-redis_redis-3-sentinel"]
    pairs = [f"counter-redis_redis-{number}-cluster" for number in (1, 2, 6)]
    for topology, files, volumes in (("sentinel", SENTINEL, sentinel), ("cluster", CLUSTER, pairs)):
        (site := tmp_path / topology).mkdir()
        said, _ = deploy(site, {"one": [], "two": volumes}, files=files, redis_topology=topology)
        missing = {"sentinel": "redis-1, redis-2", "cluster": "redis-3, redis-4, redis-5"}[topology]
        assert f"NOTE: the data of {missing} of counter is gone. Other nodes have it" in said
        assert places(said)


def test_volumes_without_the_state_of_their_stack_are_not_passed_over(tmp_path: Path) -> None:
    """The managers, whose disks had the state, were replaced."""
    volumes = {"one": ["other-redis_redis-1"], "two": ["counter-redis_redis-1-cluster", "counter-redis_sentinel-1"]}
    found = {}
    for case, labels, given in (
        ("refused", (), {"backup_repository": "/srv/backups"}),
        ("given up", (), {"confirm": "counter"}),
        ("served", ("counter.redis-1",), {}),
    ):
        (site := tmp_path / case).mkdir()
        found[case], _ = deploy(site, volumes, *labels, files={}, **given)
    said = found["refused"]
    assert "PLACES" not in said
    assert (
        "No manager has the state of counter, but there are volumes of its Redis nodes: counter-redis_redis-1" in said
    )
    assert "docker node update --label-add counter.redis-1=here HOST" in said
    assert "./counter restore -e backup=latest -e backup_repository=/srv/backups -e confirm=counter" in said
    assert "./counter deploy -e backup_repository=/srv/backups -e confirm=counter" in said
    assert places(found["given up"]) == {"redis-1": "id-one"}
    assert places(found["served"]) == {"redis-1": "id-two"}
