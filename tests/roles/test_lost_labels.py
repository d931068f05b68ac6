"""A node whose label is gone starts where its volume is, with modules that stand for the engines of two hosts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.ansible import ROOT, run, stand_in_for_the_engine

HOST_INFO = """
import json, os
from pathlib import Path
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule({"volumes": {"type": "bool"}, "volumes_filters": {"type": "dict"}})
# Each host has a directory of its own for temporary files.
volumes = json.loads(os.environ["VOLUMES"])[Path(module._remote_tmp).name]
prefix = module.params["volumes_filters"]["name"]
module.exit_json(changed=False, volumes=[{"Name": name} for name in volumes if prefix in name])
"""
LABEL = """
import os
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule({"hostname": {}, "labels": {"type": "dict"}})
with open(os.environ["CALLS"], "a") as calls:
    print("label", module.params["hostname"], *module.params["labels"], file=calls)
module.exit_json(changed=True)
"""
STACK = {"services": {"redis-1": {"volumes": ["redis-1:/data"]}}}
VOLUME = "counter-redis_redis-1"


def nodes(*labels: str) -> list[dict[str, Any]]:
    """Return the nodes of the swarm; the second one has the labels."""
    own: list[dict[str, str]] = [{}, dict.fromkeys(labels, "here")]
    return [{"ID": f"id-{name}", "Spec": {"Labels": of}} for name, of in zip(("one", "two"), own, strict=True)]


def deploy(site: Path, volumes: dict[str, list[str]], *labels: str, deployed: bool = True) -> tuple[str, list[str]]:
    """Run the tasks before Redis is deployed; return what is printed in one line, and which nodes were labelled."""
    engine = stand_in_for_the_engine(site, docker_node_info={"nodes": nodes("counter.redis-1")})
    modules = site / "collections/ansible_collections/community/docker/plugins/modules"
    (modules / "docker_host_info.py").write_text(HOST_INFO)
    (modules / "docker_node.py").write_text(LABEL)
    (site / "calls").touch()
    hosts = {
        name: {
            "ansible_connection": "local",
            "ansible_remote_tmp": str(site / name),
            "swarm_node": {"host_info": {"Swarm": {"NodeID": f"id-{name}", "ControlAvailable": name == "one"}}},
        }
        for name in volumes
    }
    groups = {"managers": {"hosts": {"one": hosts["one"]}}, "workers": {"hosts": {"two": hosts["two"]}}}
    (site / "hosts.yml").write_text(yaml.safe_dump(groups))
    facts = {
        "swarm_nodes": {"nodes": nodes(*labels)},
        "deployed_store": {"files": {"redis/stack.yml": {"content": yaml.safe_dump(STACK)}} if deployed else {}},
        "deployed": {"move": {}, "redis": {"topology": "standalone", "nodes": 1, "tls": False} if deployed else {}},
    }
    tasks = [
        {"ansible.builtin.import_role": {"name": "preflight", "tasks_from": "settings"}},
        {"ansible.builtin.set_fact": facts},
        {"ansible.builtin.import_role": {"name": "redis", "tasks_from": "refuse"}},
        {"ansible.builtin.debug": {"msg": "PLACES {{ redis_places | to_json }}"}},
    ]
    play = {"hosts": "managers", "roles": ["settings"], "vars_files": [str(ROOT / "roles/redis/vars/main.yml")]}
    (site / "play.yml").write_text(yaml.safe_dump([play | {"tasks": tasks}]))
    done = run(
        *("ansible-playbook", "-i", site / "hosts.yml", site / "play.yml"),
        ANSIBLE_ROLES_PATH=str(ROOT / "roles"),
        VOLUMES=json.dumps(volumes),
        ANSIBLE_CALLBACK_RESULT_FORMAT="json",
        **engine,
    )
    calls = [line for line in (site / "calls").read_text().splitlines() if line.startswith("label")]
    return re.sub(r"\s+", " ", done.stdout + done.stderr), calls


def places(said: str) -> str:
    found = re.search(r'PLACES (\{.*?\})"', said)
    assert found, said
    return found[1].replace("\\", "")


@pytest.mark.parametrize("labels", [(), ("counter.sentinel-1",)], ids=["none", "other"])
def test_the_host_with_the_volume_gets_its_label_back(tmp_path: Path, labels: tuple[str, ...]) -> None:
    said, calls = deploy(tmp_path, {"one": ["other-redis_redis-1", f"{VOLUME}0"], "two": [VOLUME]}, *labels)
    assert calls == ["label id-two counter.redis-1"]
    assert "NOTE: the swarm had lost the label that says where the data of redis-1 is. two has its volume" in said
    assert places(said) == '{"redis-1": "id-two"}'


def test_of_two_volumes_somebody_has_to_choose_one(tmp_path: Path) -> None:
    said, calls = deploy(tmp_path, {"one": [VOLUME], "two": [VOLUME]})
    assert "several hosts have a volume of it: one, two. Nothing was deployed." in said
    assert "docker node update --label-add counter.redis-1=here HOST" in said
    assert "PLACES" not in said
    assert not calls


def test_a_node_whose_data_is_gone_gets_any_host(tmp_path: Path) -> None:
    said, calls = deploy(tmp_path, {"one": [], "two": []})
    assert places(said) == '{"redis-1": "id-one"}'
    assert not calls


def test_a_first_deployment_and_one_with_labels_look_for_nothing(tmp_path: Path) -> None:
    for name, deployed, labels in (("first", False, ()), ("labelled", True, ("counter.redis-1",))):
        (site := tmp_path / name).mkdir()
        said, calls = deploy(site, {"one": [VOLUME], "two": []}, *labels, deployed=deployed)
        assert "Look for the volumes" not in said
        assert not calls
        assert places(said) == ('{"redis-1": "id-two"}' if labels else '{"redis-1": "id-one"}')
