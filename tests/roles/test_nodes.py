"""Which numbers of Redis nodes, and which changes of TLS, are refused because of what is deployed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.ansible import ROOT, play, run
from support.workers import made_once

from plugins.filter.deployed import deployed_state

PLAY = play(
    {"ansible.builtin.include_role": {"name": "redis", "tasks_from": "refuse"}},
)


def case(topology: str, placed: int, *, runs: bool, **settings: Any) -> dict[str, Any]:
    """Return the variables of a host that manages a stack with so many placed nodes."""
    labels = {f"counter.redis-{number}": "here" for number in range(1, placed + 1)}
    swarm = {"NodeID": "one", "ControlAvailable": True}
    return {
        "ansible_connection": "local",
        "redis_topology": topology,
        "deployed": deployed_state({}) | {"redis": {"topology": topology, "tls": False}},
        "swarm_node": {"host_info": {"Name": "one", "Swarm": swarm}},
        "swarm_nodes": {"nodes": [{"ID": "one", "Spec": {"Labels": labels}}]},
        "looks": {"results": [{"services": [{"name": "counter-redis_redis-1"}] if runs else []}]},
        **settings,
    }


CASES = {
    "the same number": (case("cluster", 6, runs=False), ""),
    "more nodes": (case("sentinel", 3, runs=True, redis_replicas=5), ""),
    "fewer nodes of a cluster that runs": (case("cluster", 8, runs=True), ""),
    "fewer nodes of a cluster that was stopped": (
        case("cluster", 8, runs=False),
        "redis_topology=cluster -e redis_replicas=8",
    ),
    "fewer nodes of a set": (case("sentinel", 5, runs=True), "redis_topology=sentinel -e redis_replicas=5"),
    # Such a number can be deployed.
    "after a growth that was interrupted": (
        case("sentinel", 4, runs=True),
        "redis_topology=sentinel -e redis_replicas=5",
    ),
    "TLS of servers that run": (case("sentinel", 3, runs=True, redis_tls=True), "Keep redis_tls=false"),
    "TLS of servers that were stopped": (case("sentinel", 3, runs=False, redis_tls=True), ""),
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return what is said against each case."""
    return made_once(tmp_path_factory, "nodes", judge)


def judge(site: Path) -> dict[str, str]:
    look = site / "roles/stack/tasks/look.yml"
    look.parent.mkdir(parents=True)
    look.write_text(yaml.safe_dump([{"name": "Look", "ansible.builtin.set_fact": {"stack_looks": "{{ looks }}"}}]))
    hosts = {name.replace(" ", "-"): given for name, (given, _) in CASES.items()}
    (site / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": hosts}}))
    (site / "play.yml").write_text(yaml.safe_dump(PLAY))
    done = run(
        *("ansible-playbook", "-i", site / "hosts.yml", site / "play.yml"),
        ANSIBLE_ROLES_PATH=f"{site / 'roles'}:{ROOT / 'roles'}",
        ANSIBLE_ANY_ERRORS_FATAL="false",
    )
    assert "PLAY RECAP" in done.stdout, done.stdout + done.stderr
    parts = re.split(r"fatal: \[([\w-]+)\]", " ".join(done.stdout.partition("PLAY RECAP")[0].split()))
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("name", CASES)
def test_what_would_leave_data_behind_is_refused(said: dict[str, str], name: str) -> None:
    _, suggested = CASES[name]
    message = said.get(name.replace(" ", "-"), "")
    assert bool(message) == bool(suggested), message
    assert suggested in message
