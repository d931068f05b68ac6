"""What a benchmark is asked to do is checked before anything is changed."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.ansible import MANAGERS, PLAYBOOKS, ROOT, last_task, run
from support.workers import made_once

from bench.summary import SCHEMA

CAPACITY = {"bench_replicas": [1, 2, 4, 8], "bench_capacity_rps": "500.5", "bench_curve_loads": "[0.3, 0.5]"}
WRONG: dict[str, dict[str, Any]] = {
    "a decimal comma": {"bench_min_efficiency": "0,9"},
    "an efficiency in per cent": {"bench_min_efficiency": 90},
    "a ratio in per cent": {"bench_max_error_ratio": "1%"},
    "more errors than requests": {"bench_max_error_ratio": 1.1},
    "a unit": {"bench_max_p99_ms": "200ms"},
    "a thousands separator": {"bench_capacity_rps": "1,000", "bench_replicas": [1, 2, 3, 4]},
    "a capacity of two counts": {"bench_capacity_rps": 500},
    "a capacity of equal counts": {"bench_capacity_rps": 500, "bench_replicas": "[1, 2, 2, 4]"},
    "a limit in words": {"bench_capacity_p99_ms": "low", **CAPACITY},
    "a latency without a rate": {"bench_capacity_p99_ms": 200, "bench_curve_loads": [0.3]},
    "a latency without a curve": {"bench_capacity_p99_ms": 200, **CAPACITY, "bench_curve_loads": []},
    "a percentage": {"bench_curve_loads": ["30%"]},
    "no load": {"bench_curve_loads": [0, 0.5]},
    "loads in per cent": {"bench_curve_loads": [30, 50]},
    "no list": {"bench_curve_loads": "0.5"},
    "half a list": {"bench_curve_loads": "[0.3,"},
    "a run without a summary": {"bench_baseline": "empty"},
    "another format": {"bench_baseline": "other.json"},
    "a baseline of a comparison": {"bench_baseline": "run", "bench_edges": ["mesh"]},
    "a baseline of the web interface": {"bench_baseline": "run", "bench_ui": True},
    "variants in the web interface": {"bench_ui": True, "bench_topologies": ["standalone"]},
    "half a user": {"bench_users": 1.5},
    "half a repeat": {"bench_repeats": "1.9"},
    "half a second": {"bench_duration": 60.5},
    "half a second at the fixed rate": {"bench_latency_duration": 45.5},
    "no replicas": {"bench_replicas": []},
    "too short": {"bench_duration": 12},
    "quick and repeated": {"bench_repeats": 2, "bench_quick": True},
}
RIGHT: dict[str, Any] = {
    "bench_min_efficiency": "",
    "bench_max_p99_ms": 200,
    "bench_max_error_ratio": 1e-6,
    "bench_topologies": "",
    **CAPACITY,
    "bench_capacity_p99_ms": 200,
    "bench_baseline": "run",
}


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the path of a ``site``, and what was ``said`` of its hosts."""
    return made_once(tmp_path_factory, "rules", lambda site: {"site": str(site), "said": judge(site)})


@pytest.fixture(scope="module")
def site(rules: dict[str, Any]) -> Path:
    return Path(rules["site"])


@pytest.fixture(scope="module")
def said(rules: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = rules["said"]
    return found


def judge(site: Path) -> dict[str, str]:
    """Return what the check says of each host; each has other variables."""
    (site / "empty").mkdir()
    (site / "other.json").write_text('{"schema": "another/1"}')
    (site / "run").mkdir()
    (site / "run/summary.json").write_text(json.dumps({"schema": SCHEMA}, indent=1))
    (site / "latest").symlink_to("run")
    hosts = {name.replace(" ", "-"): values for name, values in {**WRONG, "right": RIGHT}.items()}
    for host, values in hosts.items():
        # The playbooks are not in the directory in which it is typed.
        baseline = (
            {"bench_baseline": os.path.relpath(site / values["bench_baseline"], ROOT)}
            if "bench_baseline" in values
            else {}
        )
        hosts[host] = values | baseline
    return checked(site, hosts)


def checked(site: Path, hosts: dict[str, dict[str, Any]], *options: str) -> dict[str, str]:
    """Return what the check says of each host with these variables, and options of the command."""
    usual = {"ansible_connection": "local", "counter_url": "http://192.0.2.1/", "bench_reports": str(site)}
    (site / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": hosts, "vars": usual}}))
    given: list[str | Path] = ["-i", site / "hosts.yml", "-e", f"state_dir={site}/any", *options]
    done = run(
        *("ansible-playbook", PLAYBOOKS / "bench_rules.yml", *given),
        ANSIBLE_STDOUT_CALLBACK="ansible.posix.json",
    )
    return {host: result.get("msg", "") if result.get("failed") else "" for host, result in last_task(done).items()}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_work_is_refused(said: dict[str, str], name: str) -> None:
    variable = next(iter(WRONG[name]))
    lines = said[name.replace(" ", "-")].splitlines()
    assert lines[0] == "Nothing was changed, since this cannot work:"
    assert [line.partition("=")[0] for line in lines[1:]] == [variable]
    assert "This works: ./counter bench" in lines[1]


def test_what_is_said_to_work_is_not_refused(said: dict[str, str], site: Path) -> None:
    given = {}
    for name, variables in WRONG.items():
        host = name.replace(" ", "-")
        options = shlex.split(said[host].splitlines()[1].partition("./counter bench ")[2])
        given[host] = variables | dict(option.split("=", 1) for option in options if option != "-e")
    assert checked(site, given) == dict.fromkeys(given, "")


def test_what_works_is_not_refused(said: dict[str, str]) -> None:
    assert said["right"] == ""


def test_what_a_quick_run_would_ignore_is_refused(tmp_path: Path) -> None:
    given = {"bench_quick": True, "bench_users": 300, "bench_warmup": 1, "bench_duration": 20}
    said = checked(tmp_path, {"quick": {}}, "-e", json.dumps(given))["quick"]
    assert "bench_quick=True: must be left out with bench_duration, bench_users, which it replaces" in said


def test_a_comparison_does_not_replace_a_stack_that_exists(tmp_path: Path) -> None:
    (tmp_path / "taken-bench").mkdir()
    said = checked(
        tmp_path, {name: {"stack_name": name, "bench_topologies": ["standalone"]} for name in ("taken", "free")}
    )
    assert "./counter destroy -e stack_name=taken-bench -e purge=true -e confirm=taken-bench" in said["taken"]
    assert said["free"] == ""


def test_what_cannot_be_measured_is_not_loaded(tmp_path: Path) -> None:
    def node(host: str, state: str) -> dict[str, Any]:
        return {"ID": f"{host}-{state}", "Status": {"State": state}, "Spec": {"Labels": {"counter.host": host}}}

    given: dict[str, dict[str, Any]] = {
        "limited": {"edge_requests_per_second": 20},
        "down": {"__bench_swarm": {"nodes": [node("down", "down"), node("stranger", "down")]}},
        # It left the swarm and joined it again.
        "again": {"__bench_swarm": {"nodes": [node("again", "down"), node("again", "ready")]}},
        "silent": {},
    }
    hosts = {
        host: {"ansible_connection": "local", "__bench_swarm": {"nodes": []}, "bench_target": "http://127.0.0.1:1"}
        | more
        for host, more in given.items()
    }
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": hosts}}))
    tasks = [
        {"ansible.builtin.import_role": {"name": "preflight", "tasks_from": "settings"}},
        {"ansible.builtin.set_fact": {"deployed": {"maintenance": {}}}},
        {"ansible.builtin.include_role": {"name": "bench", "tasks_from": "reach"}},
    ]
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": MANAGERS, "roles": ["settings"], "tasks": tasks}]))
    done = run(
        *("ansible-playbook", "-i", tmp_path / "hosts.yml", tmp_path / "play.yml"),
        ANSIBLE_ROLES_PATH=str(ROOT / "roles"),
        ANSIBLE_ANY_ERRORS_FATAL="false",
    )
    parts = re.split(r"fatal: \[(\w+)[^]]*\]", " ".join(done.stdout.split()))
    said = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert "./counter deploy -e edge_requests_per_second=0" in said["limited"]
    assert "These hosts are down: down." in said["down"]
    assert "does not answer" in said["silent"]
    assert "does not answer" in said["again"]
