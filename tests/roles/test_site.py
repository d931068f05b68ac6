"""The id of a stack's counters, on the managers and in a real Redis: other data and older copies are not served."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.ansible import ROOT, play, project_environment, run
from support.processes import APP_DIR, RedisServer, running

KEY = "{.site}:value"
# Runs the program of the image here, with the node's address in the place of its name.
DOCKER = """#!/bin/sh
echo "$*" >> "$CALLS"
while [ "$1" != python ]; do shift; done
cd {app} && sed 's/redis-1:6379/{address}/' | "$@"
"""


class Stack:
    """A stack of one host that uses a Redis."""

    def __init__(self, site: Path, server: RedisServer, **settings: Any) -> None:
        self.site, self.state = site, site / "state"
        self.settings = settings | {"state_dir": str(self.state)}
        self.calls = site / "calls"
        (docker := site / "bin/docker").parent.mkdir(parents=True)
        docker.write_text(DOCKER.format(app=APP_DIR, address=server.address))
        docker.chmod(0o755)
        endpoint = {"COUNTER_TOPOLOGY": settings["redis_topology"], "COUNTER_REDIS_NODES": "redis-1:6379"}
        endpoint |= {"COUNTER_REPLICAS_PER_PRIMARY": 0}  # Ansible makes it a number
        endpoint |= {f"COUNTER_REDIS_{name}_FILE": "/run/secrets/of-the-app" for name in ("PASSWORD", "URL")}
        host = {
            "ansible_connection": "local",
            "docker_host_engine": {"host_info": {"ServerVersion": "20.10.24", "Swarm": {"NodeAddr": "192.0.2.11"}}},
            "swarm_node": {"host_info": {"Swarm": {"NodeID": "id-1", "ControlAvailable": True}}},
            "swarm_nodes": {"nodes": [{"ID": "id-1", "Spec": {"Labels": {"counter.redis-1": "here"}}}]},
            "redis_entry": {"container": "counter-redis_redis-1.1.task", "host": "host"},
            "redis_endpoint": {"environment": endpoint},
            "redis_credentials_passwords": {"app": [""]},
        }
        (site / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": {"host": host}}}))
        tasks: list[dict[str, Any]] = [
            {"ansible.builtin.import_role": {"name": "deployed", "tasks_from": "read"}},
            {"ansible.builtin.set_fact": {"images": {"app": "counter-app:1"}}},
            {"ansible.builtin.import_role": {"name": "site"}},
        ]
        document = play(*tasks)
        document[0]["vars_files"] = [str(ROOT / "roles/redis/vars/main/nodes.yml")]
        (site / "play.yml").write_text(yaml.safe_dump(document))

    def deploy(self, *options: str, **given: Any) -> tuple[bool, str]:
        """Deploy as far as the id goes; return whether it succeeded, and what is printed in one line."""
        done = run(
            *("ansible-playbook", "-i", self.site / "hosts.yml", self.site / "play.yml"),
            *(*options, "-e", json.dumps(self.settings | given)),
            ANSIBLE_ROLES_PATH=str(ROOT / "roles"),
            CALLS=str(self.calls),
            PATH=f"{self.site / 'bin'}:{project_environment()['PATH']}",
        )
        return done.returncode == 0, re.sub(r"\s+", " ", done.stdout + done.stderr)

    @property
    def id(self) -> str:
        return (self.state / "site").read_text().strip()

    @property
    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.state / "data.json").read_text())
        return found


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    node = RedisServer(tmp_path, "appendonly yes")
    with running(node):
        yield node.up()


def mark(server: RedisServer) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(str(server.client().get(KEY)))
    return found


def test_two_stacks_on_one_database_are_told_apart(tmp_path: Path, server: RedisServer) -> None:
    url = {"redis_topology": "external", "redis_url": f"redis://user:secret@{server.address}"}
    server.client().acl_setuser("user", enabled=True, passwords=["+secret"], categories=["+@all"], keys=["*"])
    one, two = Stack(tmp_path / "one", server, **url), Stack(tmp_path / "two", server, stack_name="second", **url)
    succeeded, said = one.deploy("--check")
    assert succeeded, said
    assert not one.state.exists()
    succeeded, said = one.deploy()
    assert succeeded, said
    assert mark(server) == {"site": one.id, "stack": "counter", "generation": 1}
    assert re.fullmatch("[0-9a-f]{32}", one.id)
    assert "--network host" in one.calls.read_text()
    server.client().mset({"{a}:value": 7, "{b}:value": 5})
    server.client().sadd("counters", "a", "b")
    succeeded, said = one.deploy()
    assert "changed=0" in said
    assert one.record["outside"] | {"time": ""} == {"generation": 2, "counters": 2, "sum": 12, "hosts": {}, "time": ""}

    succeeded, said = two.deploy()
    assert not succeeded
    assert f"does not have the counters of second: those of the stack counter (site {one.id})" in said
    assert "It holds 2 counters with the sum 12." in said
    assert "Two stacks cannot share a database of Redis" in said
    assert "secret" not in said
    assert mark(server)["stack"] == "counter"
    succeeded, said = two.deploy(confirm="second")
    assert succeeded, said
    assert mark(server) == {"site": two.id, "stack": "second", "generation": 3}
    assert f"those of the stack second (site {two.id})" in one.deploy()[1]


def test_a_node_that_was_emptied_or_is_older_is_not_served(tmp_path: Path, server: RedisServer) -> None:
    stack = Stack(tmp_path / "one", server, redis_topology="standalone", backup_repository="/srv/backups")
    # Version 1.0.0 deployed it.
    shutil.copytree(ROOT / "tests/roles/deployed/format-1/standalone", stack.state)
    server.client().set("{a}:value", 41)
    server.client().sadd("counters", "a")
    assert stack.deploy()[0]
    assert "--network container:counter-redis_redis-1.1.task counter-app:1 python" in stack.calls.read_text()
    assert stack.record["nodes"]["hosts"] == {"redis-1": "host"}
    assert mark(server)["site"] == stack.id
    older = str(server.client().get(KEY))
    assert stack.deploy()[0]
    assert stack.record["nodes"]["generation"] == 2

    server.client().set(KEY, older)
    succeeded, said = stack.deploy()
    assert not succeeded
    assert "an older copy of them, of generation 1 instead of 2. It holds 1 counters with the sum 41" in said
    assert "./counter restore -e backup=latest -e backup_repository=/srv/backups -e confirm=counter" in said
    assert str(server.client().get(KEY)) == older

    server.client().flushall()
    succeeded, said = stack.deploy()
    assert not succeeded
    assert "no mark of a stack: a volume that was emptied or replaced, or a Redis that was flushed" in said
    assert "It holds 0 counters with the sum 0; counter held 1 counters with the sum 41 on 20" in said
    succeeded, said = stack.deploy(confirm="counter")
    assert succeeded, said
    assert "WARNING: counter serves other data than it held, as confirmed" in said
    assert mark(server)["generation"] == 3
