"""Whether a service runs as asked, judged from what a real engine said (recorded by ``engine/record.py``)."""

from __future__ import annotations

import json
import lzma
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.ansible import PLAYBOOKS, load, results_by_host

with lzma.open(Path(__file__).with_name("engine") / "states.json.xz") as recorded:
    RECORDED: dict[str, Any] = json.load(recorded)

convergence = load("roles/stack/module_utils/convergence.py")

# By recorded state: the failure (which ends the deployment), what is pending (and waited for), and the likely cause.
VERDICTS = {
    "converged": ("", "", ""),
    "global": ("", "", ""),
    "updating": ("", "it is being updated", ""),
    "updated": ("", "2 tasks of the previous version are still stopping", ""),
    "rollback_started": ("", "it is being rolled back", ""),
    "rolled_back": ("its update failed and was rolled back; the previous version is serving", "", ""),
    "paused": ("its update stopped half-way (paused: update paused due to failure", "", ""),
    "crash_loop": ("its task failed 3 times since the last deployment", "", ""),
    "no_image": ("its task failed 3 times since the last deployment", "", "the image is missing"),
    "unhealthy": ("", "0 of 1 tasks run (task: non-zero exit (137): dockerexec: unhealthy container)", "health check"),
    "no_node": ("", "0 of 1 tasks run (no suitable node (scheduling constraints not satisfied", "placement rules"),
    "no_room": ("", "0 of 1 tasks run (no suitable node (insufficient resources", "CPU or memory"),
    "node_down": ("", "0 of 1 tasks run (no suitable node (1 node not available", "nodes that are down"),
}

Recording = dict[str, Any]


def recording(state: str) -> Recording:
    """Return {"service", "tasks", "nodes"} as the engine's API gave them; the caller may change them."""
    read: Recording = deepcopy(RECORDED[state])
    return read


def judge(seen: Recording) -> Any:
    return convergence.observe(seen["service"], seen["tasks"], seen["nodes"])


def test_every_recording_has_a_verdict() -> None:
    assert set(RECORDED) == set(VERDICTS)


@pytest.mark.parametrize("state", VERDICTS)
def test_verdict(state: str) -> None:
    failure, pending, cause = VERDICTS[state]
    judged = judge(recording(state))
    assert (bool(judged.failure), bool(judged.pending)) == (bool(failure), bool(pending))
    assert judged.failure.startswith(failure)
    assert judged.pending.startswith(pending)
    assert cause in convergence.likely_cause(judged.error)
    assert bool(cause) == bool(convergence.likely_cause(judged.error))


@pytest.mark.parametrize("state", ["crash_loop", "rolled_back", "paused"])
def test_a_failure_names_the_task_whose_log_is_shown(state: str) -> None:
    seen = recording(state)
    judged = judge(seen)
    failed = [task["ID"] for task in seen["tasks"] if task["Status"]["State"] == "failed"]
    assert judged.failed_task in failed
    assert judged.error == "task: non-zero exit (1)"


@pytest.mark.parametrize(
    "log",
    [
        "Bad file format reading the append only file appendonly.aof.1.incr.aof: make a backup of your AOF file",
        "# Unable to obtain the AOF file appendonly.aof.4.base.rdb length. stat: No such file or directory",
        "# The append log file appendonly.aof.1.incr.aof doesn't exist: No such file or directory",
        "# Error reading the RDB base file appendonly.aof.2.base.rdb, AOF loading aborted",
        "*** FATAL AOF MANIFEST FILE ERROR ***",
    ],
)
def test_a_damaged_file_is_the_cause_though_the_health_check_fails_as_well(log: str) -> None:
    cause = convergence.likely_cause(f"task: non-zero exit (1) unhealthy {log}")
    assert "docs/troubleshooting.md#a-damaged-file" in cause


def test_a_container_that_still_uses_the_volume_is_the_cause_though_the_health_check_fails() -> None:
    log = "waits: another container of this node still uses the volume"
    assert "`docker stop`" in convergence.likely_cause(f"task: non-zero exit (137): unhealthy container {log}")


def test_a_failure_without_a_known_cause_says_how_the_log_ends() -> None:
    judged = judge(recording("crash_loop"))
    judged.last_line = "open /data/x: No such file or directory"
    assert not convergence.likely_cause(f"{judged.error} {judged.last_line}")
    assert convergence.problem(judged).endswith("; its log ends with: open /data/x: No such file or directory")


@pytest.mark.parametrize(
    "log",
    [
        "# Error writing to the AOF file: No space left on device",
        "# Short write while writing to the AOF file: (nwritten=23, expected=30)",
        "redis-1:6379: waits for room: the disk of its volume has 0 MiB free, and 64 MiB are needed",
    ],
)
def test_a_full_disk_is_the_cause_though_the_health_check_fails_as_well(log: str) -> None:
    judged = judge(recording("unhealthy"))
    (host,) = {task["node"] for task in judged.tasks if task["id"] == judged.failed_task}
    assert host
    assert judged.host == host
    judged.cause = convergence.likely_cause(f"{judged.error} {log}")
    said = convergence.problem(judged)
    assert said.startswith(f"{judged.name} on {host}: 0 of 1 tasks run (task: non-zero exit (137)")
    assert "; likely cause: the disk of that host is full" in said


def test_a_task_that_starts_is_the_one_whose_log_is_read() -> None:
    """A Redis node that waits for room has not failed yet."""
    seen = recording("unhealthy")
    seen["tasks"] = [task for task in seen["tasks"] if task["Status"]["State"] != "failed"]
    (task,) = seen["tasks"][:1]
    task["DesiredState"], task["Status"] = "running", {"State": "starting", "Timestamp": task["CreatedAt"]}
    judged = judge(seen)
    assert (judged.failed_task, judged.error) == (task["ID"], "")
    assert convergence.problem(judged) == f"{judged.name}: 0 of 1 tasks run"


def test_tasks_that_ended_before_the_deployment_are_no_failure_of_it() -> None:
    seen = recording("crash_loop")
    assert judge(seen).failure
    # Deployed once more, as an unchanged stack, when the last of them had ended.
    seen["service"]["UpdatedAt"] = max(task["UpdatedAt"] for task in seen["tasks"])
    judged = judge(seen)
    assert not judged.failure
    assert judged.pending == "0 of 1 tasks run"


def test_a_task_of_a_node_that_is_down_does_not_count_though_its_last_word_was_running() -> None:
    seen = recording("node_down")
    (last_word,) = [task for task in seen["tasks"] if task["Status"]["State"] == "running"]
    # For a moment the node is down already, and the scheduler has not given the task up.
    last_word["DesiredState"] = "running"
    assert judge(seen).running == 0
    for node in seen["nodes"]:
        node["Status"]["State"] = "ready"
    assert judge(seen).running == 1


def wanted_by_file(seen: Recording, **changes: Any) -> Any:
    """Judge the recording by a stack file that asks for what the service has, but for ``changes``."""
    spec = seen["service"]["Spec"]
    stack, key = "s", "app"
    spec["Name"] = f"{stack}_{key}"
    service = {
        "image": spec["TaskTemplate"]["ContainerSpec"]["Image"],
        "deploy": {"replicas": spec["Mode"]["Replicated"]["Replicas"]},
    } | changes
    document = {"services": {key: service}, "configs": {"c": {"name": "s_c-1"}}}
    (wanted,) = convergence.wanted_services(stack, document)
    judged = judge(seen)
    convergence.compare(judged, seen["service"], wanted)
    return judged


def test_what_the_file_asks_for_has_converged() -> None:
    judged = wanted_by_file(recording("converged"))
    assert (judged.failure, judged.pending) == ("", "")


@pytest.mark.parametrize(
    ("changes", "failure"),
    [
        ({"image": "counter-app:another"}, "instead of counter-app:another"),
        ({"deploy": {"replicas": 5}}, "it is specified with 2 tasks instead of 5"),
        ({"configs": ["c"]}, "it uses [] instead of ['s_c-1']"),
        ({"deploy": {"replicas": 2, "labels": {"definition": "1"}}}, "it lacks the labels [('definition', '1')]"),
    ],
)
def test_a_service_that_is_not_what_the_file_asks_for(changes: dict[str, Any], failure: str) -> None:
    """A rollback changes the specification back: judged by itself, such a service would look right."""
    judged = wanted_by_file(recording("converged"), **changes)
    assert failure in judged.failure


def test_the_digest_that_the_engine_adds_to_an_image_is_no_difference() -> None:
    seen = recording("converged")
    container = seen["service"]["Spec"]["TaskTemplate"]["ContainerSpec"]
    container["Image"] += "@sha256:" + "0" * 64
    for task in seen["tasks"]:
        task["Spec"]["ContainerSpec"]["Image"] = container["Image"]
    assert not wanted_by_file(seen, image=container["Image"].partition("@")[0]).failure


def test_a_changed_limit_is_an_update_before_the_engine_records_it() -> None:
    seen = recording("converged")
    seen["service"]["Spec"]["TaskTemplate"]["Resources"] = {"Limits": {"MemoryBytes": 256 << 20}}
    assert judge(seen).pending == "0 of 2 tasks run"


def test_a_container_is_found_by_the_id_of_its_node_where_hosts_share_a_name(tmp_path: Path) -> None:
    seen = recording("converged")
    for node in seen["nodes"]:
        node["Description"]["Hostname"] = "clone"
    tasks = judge(seen).tasks
    assert len({task["node_id"] for task in tasks}) == 2
    hosts = {
        f"host-{task['id']}": {
            "swarm_node": {"host_info": {"Name": "clone", "Swarm": {"NodeID": task["node_id"]}}},
            "redis_service": {"name": "counter-redis_redis-1", "tasks": [task]},
        }
        for task in tasks
    }
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"managers": {"hosts": hosts, "vars": {"ansible_connection": "local"}}}))
    found = results_by_host(PLAYBOOKS / "whereabouts.yml", inventory)
    assert {host: result["msg"] for host, result in found.items()} == {host: host for host in hosts}
