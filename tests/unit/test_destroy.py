"""What destroy refuses before it removes anything."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, run, stand_in_for_the_engine

PLAY = [{"hosts": "managers", "gather_facts": False, "tasks": [{"ansible.builtin.include_role": {"name": "destroy"}}]}]


def destroy(site: Path, labels: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    """Run the role on the first manager of a swarm whose one node has these labels."""
    node = {"ID": "id-1", "Spec": {"Labels": dict.fromkeys(labels, "here")}, "Description": {"Hostname": "host"}}
    swarm = {"host_info": {"Swarm": {"ControlAvailable": True}}, "networks": []}
    engine = stand_in_for_the_engine(
        site,
        docker_host_info=swarm,
        docker_swarm_info={"services": [], "nodes": [node]},
        docker_node_info={"nodes": [node]},
        docker_node={},
        docker_stack={},
    )
    (site / "group_vars").symlink_to(ROOT / "inventory/group_vars")
    (site / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": {"host": {"ansible_connection": "local"}}}}))
    (site / "play.yml").write_text(yaml.safe_dump(PLAY))
    command = ("ansible-playbook", "-i", site / "hosts.yml", site / "play.yml", "-e", json.dumps(options))
    return run(*command, ANSIBLE_ROLES_PATH=str(ROOT / "roles"), **engine)


@pytest.mark.parametrize(
    ("options", "works"),
    [
        ({}, "-e stack_name=counter -e purge=true -e confirm=counter -e leave_swarm=true"),
        ({"stack_name": "second"}, "-e stack_name=counter -e purge=true -e confirm=counter"),
        ({"stack_name": "second", "purge": True, "confirm": "second"}, "leave_swarm=true: the data of counter is kept"),
    ],
)
def test_a_swarm_that_knows_where_data_is_is_not_left(tmp_path: Path, options: dict[str, object], works: str) -> None:
    labels = ["counter.host", "counter.redis-1", "counter.sentinel-3"]
    done = destroy(tmp_path, labels, leave_swarm=True, **options)
    assert done.returncode != 0
    # Ansible breaks long lines.
    said = " ".join(done.stdout.split())
    assert works in said
    # With the data of another stack that would be refused again.
    assert ("-e leave_swarm=true" in said) == (not options)
    assert "docker_stack" not in (tmp_path / "calls").read_text().split()


@pytest.mark.parametrize("options", [{}, {"leave_swarm": True, "purge": True, "confirm": "counter"}])
def test_what_nobody_misses_is_removed(tmp_path: Path, options: dict[str, object]) -> None:
    done = destroy(tmp_path, ["counter.host", "counter.redis-1"], **options)
    assert done.returncode == 0, done.stdout
    assert "docker_stack" in (tmp_path / "calls").read_text().split()
