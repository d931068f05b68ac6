"""What destroy refuses before it removes anything, and that it leaves nothing of a stack."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from support.ansible import ROOT, play, project_environment, run, stand_in_for_the_engine

PLAY = play(
    {"ansible.builtin.import_role": {"name": "destroy", "tasks_from": "engine"}},
    {"ansible.builtin.import_role": {"name": "destroy", "tasks_from": "stacks"}},
)
# Says what `docker stack rm` says of a stack without services whose network is still in use, that often.
DOCKER = """#!/bin/sh
echo "$*" >> "$CALLS"
if [ "$(grep -c -x "$*" "$CALLS")" -gt {busy} ]; then
  echo "Nothing found in stack: $3" >&2
else
  echo "Removing network $3_front" >&2
  echo "Failed to remove network $3_front: Error response from daemon: network $3_front is in use by task 1" >&2
  exit 1
fi
"""


def destroy(
    site: Path, labels: list[str], options: dict[str, object], busy: int = 1, node_of: str = "host"
) -> subprocess.CompletedProcess[str]:
    """Run the role on the first manager of a swarm whose one node has these labels."""
    (docker := site / "bin/docker").parent.mkdir()
    docker.write_text(DOCKER.format(busy=busy))
    docker.chmod(0o755)
    node = {"ID": "id-1", "Spec": {"Labels": dict.fromkeys(labels, "here")}, "Description": {"Hostname": node_of}}
    swarm = {"host_info": {"Name": "host", "Swarm": {"ControlAvailable": True}}, "networks": []}
    engine = stand_in_for_the_engine(
        site,
        docker_host_info=swarm,
        docker_swarm_info={"services": [], "nodes": [node]},
        docker_node_info={"nodes": [node]},
        docker_node={},
    ) | {"PATH": f"{docker.parent}:{project_environment()['PATH']}"}
    (site / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": {"host": {"ansible_connection": "local"}}}}))
    (site / "play.yml").write_text(yaml.safe_dump(PLAY))
    command = ("ansible-playbook", "-i", site / "hosts.yml", site / "play.yml", "-e", json.dumps(options))
    return run(*command, ANSIBLE_ROLES_PATH=str(ROOT / "roles"), **engine)


@pytest.mark.parametrize(
    ("options", "works"),
    [
        ({}, "-e stack_name=counter -e purge=true -e confirm=counter -e leave_swarm=true"),
        ({"stack_name": "second"}, "-e stack_name=counter -e purge=true -e confirm=counter"),
        ({"stack_name": "second", "purge": True, "confirm": "second"}, "leave_swarm=true: the data of counter remains"),
    ],
)
def test_a_swarm_that_knows_where_data_is_is_not_left(tmp_path: Path, options: dict[str, object], works: str) -> None:
    labels = ["counter.host", "counter.redis-1", "counter.sentinel-3"]
    done = destroy(tmp_path, labels, {"leave_swarm": True} | options)
    assert done.returncode != 0
    # Ansible breaks long lines.
    said = " ".join(done.stdout.split())
    assert works in said
    # With the data of another stack that would be refused again.
    assert ("-e leave_swarm=true" in said) == (not options)
    assert "stack" not in (tmp_path / "calls").read_text()


@pytest.mark.parametrize("label", ["counter.redis-1", "second.redis-1", "counter.host"])
def test_data_on_a_node_that_is_not_in_the_inventory_is_not_forgotten(tmp_path: Path, label: str) -> None:
    done = destroy(tmp_path, [label], {"purge": True, "confirm": "counter"}, node_of="away")
    refused = label == "counter.redis-1"
    assert (done.returncode != 0) == refused, done.stdout
    said = "leave the data of counter on away, which is no host of the inventory"
    assert (said in " ".join(done.stdout.split())) == refused
    assert ("stack" in (tmp_path / "calls").read_text()) == (not refused)


def test_a_swarm_in_which_another_run_goes_on_is_not_left(tmp_path: Path) -> None:
    """A first deployment has neither services nor labels at the beginning, but it has a lock."""
    options = {"leave_swarm": True, "purge": True, "confirm": "counter"}
    done = destroy(tmp_path, ["counter.redis-1"], options | {"run_lock": {"others": ["second"]}})
    assert done.returncode != 0, done.stdout
    assert "the locks of second" in " ".join(done.stdout.split())
    assert "stack" not in (tmp_path / "calls").read_text()


LEAVE = {"leave_swarm": True, "purge": True, "confirm": "counter", "run_lock": {"others": []}}


@pytest.mark.parametrize("options", [{}, LEAVE])
def test_what_nobody_misses_is_removed(tmp_path: Path, options: dict[str, object]) -> None:
    done = destroy(tmp_path, ["counter.host", "counter.redis-1"], options)
    assert done.returncode == 0, done.stdout
    removed = [call for call in (tmp_path / "calls").read_text().splitlines() if call.startswith("stack rm")]
    # Each until nothing is found of it.
    assert removed == [f"stack rm counter{part}" for part in ("-backup", "", "-redis") for _ in range(2)]
    assert "changed=1" in done.stdout


def test_what_is_not_there_is_no_change(tmp_path: Path) -> None:
    done = destroy(tmp_path, [], {}, busy=0)
    assert done.returncode == 0, done.stdout
    assert "changed=0" in done.stdout


def test_a_network_that_stays_is_named(tmp_path: Path) -> None:
    done = destroy(tmp_path, [], {"destroy_timeout": 2}, busy=99)
    assert done.returncode != 0
    assert "network counter_front is in use by task 1" in " ".join(done.stdout.split())
