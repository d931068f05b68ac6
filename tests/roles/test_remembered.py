"""What is deployed is what scale, status and bench go by, whatever they are told."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.ansible import PLAYBOOKS, ROOT, run, stand_in_for_the_engine

TEMPLATES = ("counter.stack.yml.j2", "haproxy.cfg.j2")
LEFT_TO_SCALE = {"counter_replicas"}
MADE = {
    *("counter_engine_is_old", "counter_engine_has_start_interval", "counter_secrets", "counter_edge_hash"),
    *("counter_environment", "counter_image", "counter_edge_image"),
}
"""Rendered from what is remembered, from the engine, and from the secrets."""

DEPLOYED = {
    "counter_threads": 7,
    "counter_deadline_seconds": 9,
    "counter_extra_environment": {"COUNTER_HISTORY_LOG": "true"},
    "http_port": 8080,
    "edge": "mesh",
}


class Manager:
    """The first manager, in a directory."""

    def __init__(self, site: Path) -> None:
        self.site, self.memory = site, site / "state/deployed.json"
        look = site / "roles/docker_host/tasks/look.yml"
        look.parent.mkdir(parents=True)
        look.write_text("[]\n")
        (site / "state/counter").mkdir(parents=True)
        (site / "state/counter/redis_password").write_text("secret")
        host = {
            "ansible_connection": "local",
            "docker_host_engine": {"host_info": {"ServerVersion": "26.1.5"}},
            "images_names": {"app": "counter-app:1", "edge": "counter-edge:1", "redis": "counter-redis:1"},
            "redis_password_in_use": "secret",
            "swarm_address": "192.0.2.11",
            "counter_state_dir": str(site / "state/counter"),
            "counter_memory_file": str(self.memory),
        }
        (site / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": {"host": host}}}))
        shutil.copy(PLAYBOOKS / "remembered.yml", site)

    def play(self, tag: str, options: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        return run(
            *("ansible-playbook", "-i", self.site / "hosts.yml", self.site / "remembered.yml", "--tags", tag),
            *("-e", json.dumps(options)),
            ANSIBLE_ROLES_PATH=str(ROOT / "roles"),
            ANSIBLE_STDOUT_CALLBACK="ansible.posix.json",
        )

    def scale(self, **options: Any) -> dict[str, Any]:
        """Return from what the stack would be rendered."""
        done = self.play("scale", options)
        assert done.returncode == 0, done.stdout + done.stderr
        document = json.loads(done.stdout[done.stdout.index("{\n") :])
        found: dict[str, Any] = document["plays"][-1]["tasks"][-1]["hosts"]["host"]["msg"]
        return found


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Manager:
    found = Manager(tmp_path_factory.mktemp("site"))
    done = found.play("deploy", DEPLOYED)
    assert done.returncode == 0, done.stdout + done.stderr
    return found


def test_every_input_of_the_templates_is_remembered() -> None:
    texts = [(ROOT / "templates" / name).read_text(encoding="utf-8") for name in TEMPLATES]
    variables = (ROOT / "roles/counter/vars/main.yml").read_text(encoding="utf-8")
    remembered = set(
        re.findall(r"\w+", re.findall(r"^counter_remembered: \[(.*?)\]", variables, re.DOTALL | re.MULTILINE)[0])
    )
    environment = re.findall(r"^counter_environment:.*?^[^ ]", variables, re.DOTALL | re.MULTILINE)
    used = set(
        re.findall(r"\bcounter_[a-z_]+\b", " ".join(re.findall(r"\{[{%].*?[%}]\}", "\n".join(texts)) + environment))
    )
    assert used - MADE - LEFT_TO_SCALE <= remembered


def test_scale_goes_by_what_was_deployed(manager: Manager) -> None:
    assert DEPLOYED.items() <= manager.scale(replicas=2, counter_timeout=60, edge="mesh").items()


def test_what_scale_would_not_change_is_refused(manager: Manager) -> None:
    done = manager.play("scale", {"edge": "proxy", "counter_threads": 8, "replicas": 2})
    assert done.returncode != 0
    for said in ("edge=proxy: must be omitted, or be the deployed value mesh", "-e counter_threads=8", "./counter deploy -e edge=proxy"):
        assert said in done.stdout, done.stdout
    assert "replicas=" not in done.stdout.replace("redis_replicas=", "")


def test_what_an_earlier_version_remembered_is_enough(manager: Manager, tmp_path: Path) -> None:
    earlier = {name: value for name, value in json.loads(manager.memory.read_text()).items() if "counter_" not in name}
    memory = tmp_path / "deployed.json"
    memory.write_text(json.dumps(earlier | {"counter_addresses": ["192.0.2.11"]}))
    found = manager.scale(counter_memory_file=str(memory))
    assert (found["edge"], found["counter_threads"], found["counter_extra_environment"]) == ("mesh", 32, {})


def test_nobody_is_asked_at_a_node_that_is_gone_down_or_drained(tmp_path: Path) -> None:
    def node(number: int, state: str = "ready", availability: str = "active") -> dict[str, Any]:
        return {"Spec": {"Availability": availability}, "Status": {"State": state, "Addr": f"192.0.2.{number}"}}

    nodes = [node(12), node(13, state="down"), node(14, availability="drain"), node(15, availability="pause")]
    remembered = [f"192.0.2.{number}" for number in range(11, 17)]
    tasks = [
        {"ansible.builtin.set_fact": {"counter_addresses": remembered}},
        {"ansible.builtin.include_role": {"name": "counter", "tasks_from": "present"}},
        {"ansible.builtin.debug": {"msg": "{{ counter_addresses }}"}},
    ]
    (tmp_path / "hosts.yml").write_text(
        yaml.safe_dump({"managers": {"hosts": {"host": {"ansible_connection": "local"}}}})
    )
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "managers", "gather_facts": False, "tasks": tasks}]))
    engine = stand_in_for_the_engine(tmp_path, docker_node_info={"nodes": nodes})
    done = run("ansible-playbook", "-i", tmp_path / "hosts.yml", tmp_path / "play.yml", **engine)
    assert done.returncode == 0, done.stdout + done.stderr
    # The first is the manager that remembers all this, however the swarm calls its address.
    assert re.findall(r"^ +- (192\S+)$", done.stdout, re.MULTILINE) == ["192.0.2.11", "192.0.2.12", "192.0.2.15"]
    assert "no node of the swarm is ready at 192.0.2.13, 192.0.2.14, 192.0.2.16" in " ".join(done.stdout.split())
