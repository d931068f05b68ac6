"""Log lines of several nodes: their order, their level, and which are shown."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engines import describe, engine, serve
from support.ansible import ROOT, TIMEOUT_SECONDS, load, project_environment, run
from support.waiting import wait_until

log_lines = load("roles/logs/module_utils/log_lines.py")


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ('{"time": "2026-11-26T07:20:31.120Z", "level": "info", "logger": "counter", "event": "starts"}', "info"),
        ('{"time": "2026-11-26T07:20:31.120Z", "level": "critical", "logger": "counter", "event": "ends"}', "error"),
        ("1:M 26 Nov 2026 07:20:31.120 * Ready to accept connections tcp", "info"),
        ("13:S 26 Nov 2026 07:20:31.120 # Connection with master lost.", "error"),
        ("1:X 26 Nov 2026 07:20:31.120 - Accepted 10.0.0.2:4711", "debug"),
        ("[WARNING]  (1) : Failed to connect to the old process socket", "warning"),
        ("[NOTICE]   (1) : Loading success.", "info"),
        ("[ALERT]    (8) : Binding [/etc/haproxy.cfg:42] for frontend public: cannot bind", "error"),
        ("Server app/app2 is going DOWN for maintenance (No IP for server ). 3 active servers left.", "warning"),
        ("Server app/app1 ('app') is UP/READY (resolves again).", "info"),
        ("app/app4: IP changed from '10.0.2.2' to '10.0.2.10' by 'DNS cache'.", "info"),
        ("Server app/app3 administratively READY thanks to valid DNS answer.", "info"),
        ("backend app has no server available!", "error"),
        ("RuntimeError: broken on purpose", ""),
    ],
)
def test_level(text: str, level: str) -> None:
    assert log_lines.level_of(text) == level


def test_lines_of_all_tasks_are_in_the_order_of_time() -> None:
    """The engine leaves out zeros at the end of a time."""
    first = log_lines.parse("2026-11-26T07:20:31.5Z b\n2026-11-26T07:20:31.6Z \n2026-11-26T07:20:32Z d\n", "app.1@one")
    second = log_lines.parse(
        "2026-11-26T07:20:31.499999999Z a\nerror from daemon\n2026-11-26T07:20:31.51Z c", "edge.two@two"
    )
    assert log_lines.last_lines([*first, *second], "all", 10) == [
        "2026-11-26T07:20:31.499Z edge.two@two a",
        "2026-11-26T07:20:31.500Z app.1@one b",
        "2026-11-26T07:20:31.510Z edge.two@two c",
        "2026-11-26T07:20:32.000Z app.1@one d",
    ]


def test_the_last_lines_of_a_level_are_shown_and_those_without_one() -> None:
    texts = ['{"level": "info"}', '{"level": "error"}', "Traceback", '{"level": "warning"}']
    lines = list(log_lines.parse("".join(f"2026-11-26T07:20:3{n}Z {text}\n" for n, text in enumerate(texts)), "app.1"))
    shown = {level: [line.split(" ", 2)[2] for line in log_lines.last_lines(lines, level, 3)] for level in
             ("all", "warning", "error")}  # fmt: skip
    assert shown == {"all": texts[1:], "warning": texts[1:], "error": texts[1:3]}
    assert log_lines.last_lines(lines, "debug", 1) == ['2026-11-26T07:20:33.000Z app.1 {"level": "warning"}']


def test_a_task_is_named_by_its_number_or_its_node() -> None:
    service = {"Spec": {"Name": "counter-redis_redis-1"}}
    assert log_lines.task_names("counter-redis", service, {"Slot": 1, "NodeID": "n"}, {}) == ("redis-1", "redis-1.1")
    edge = {"Spec": {"Name": "counter_edge"}}
    assert log_lines.task_names("counter", edge, {"NodeID": "n"}, {"n": "node-1"}) == ("edge", "edge.node-1")
    assert log_lines.task_names("counter", edge, {"NodeID": "gone"}, {}) == ("edge", "edge.gone")


# -- The module, with an engine and a docker that answer as the swarm of a test


def task(name: str, service: str, node: str, *, slot: int = 0, state: str = "running") -> dict[str, Any]:
    status = {"State": state, "ContainerStatus": {"ContainerID": name}}
    return {"ID": name, "ServiceID": service, "NodeID": node, "Slot": slot, "Status": status}


@pytest.fixture
def swarm(tmp_path: Path) -> Iterator[Path]:
    nodes = [describe("one", "manager"), describe("two", "worker") | {"Status": {"State": "down"}}]
    label = {"Labels": {"com.docker.stack.namespace": "counter"}}
    services = [{"ID": name, "Spec": {"Name": f"counter_{name}", **label}} for name in ("app", "edge")]
    tasks = [
        task("a1", "app", "one", slot=1),
        task("a2", "app", "two", slot=2),
        task("old", "app", "two", slot=1, state="failed"),
        task("e1", "edge", "one"),
    ]
    command = tmp_path / "bin/docker"
    command.parent.mkdir()
    command.write_text('#!/bin/sh\nfor id; do :; done\necho "$*" >&2\necho "2026-11-26T07:20:31Z line of $id"\n')
    command.chmod(0o755)
    answers = engine("one", manager=True) | {"/nodes": nodes, "/services": services, "/tasks": tasks}
    with serve(tmp_path, "engine", answers):
        yield tmp_path


def ask(site: Path, **options: Any) -> dict[str, Any]:
    """Return what the module returns."""
    done = run(
        *("ansible", "all", "-i", "host,", "-c", "local", "-m", "service_logs"),
        *("-a", json.dumps({"stacks": ["counter"]} | options), "-e", f"ansible_python_interpreter={sys.executable}"),
        ANSIBLE_LIBRARY=str(ROOT / "roles/logs/library"),
        ANSIBLE_MODULE_UTILS=str(ROOT / "roles/logs/module_utils"),
        ANSIBLE_CALLBACK_RESULT_FORMAT="json",
        DOCKER_HOST=f"unix://{site}/engine.sock",
        PATH=f"{site}/bin:{project_environment()['PATH']}",
    )
    found: dict[str, Any] = json.loads(done.stdout.partition(" => ")[2] or done.stdout.partition(" >> ")[2])
    return found


def test_lines_of_each_service_or_task_are_read_and_missing_ones_named(swarm: Path) -> None:
    everything = ask(swarm)
    assert everything["lines"] == [
        "2026-11-26T07:20:31.000Z app.1@one line of a1",
        "2026-11-26T07:20:31.000Z edge.one@one line of e1",
    ]
    assert everything["missing"] == ["app.2: its node two is down"]
    edge = ask(swarm, service="edge.one", since="10m", lines="5")
    assert (edge["lines"], edge["missing"]) == (["2026-11-26T07:20:31.000Z edge.one@one line of e1"], [])


def test_an_unknown_service_is_refused_with_the_known_ones(swarm: Path) -> None:
    refused = ask(swarm, service="nginx")
    assert refused["msg"] == "service=nginx: must be one of app, app.1, app.2, edge, edge.one"
    refused = ask(swarm, stacks=[], service="app")
    assert refused["msg"] == "service=app: the swarm has no service of this stack"


# -- The action that follows


def test_new_lines_are_those_that_were_not_shown() -> None:
    new_lines = load("roles/logs/action_plugins/follow_logs.py").new_lines
    assert new_lines([], ["1 a", "2 b"]) == ["1 a", "2 b"]
    # A line from before the first one is old, a late one and a repeated one are new.
    assert new_lines(["2 b", "4 d"], ["1 a", "2 b", "3 c", "4 d", "4 d", "5 e"]) == ["3 c", "4 d", "5 e"]


def test_lines_are_shown_when_they_come(swarm: Path) -> None:
    lines = swarm / "lines"
    lines.write_text("2026-11-26T07:20:31Z first\n")
    (swarm / "bin/docker").write_text(f'#!/bin/sh\ncase "$*" in *a1) cat {lines};; esac\n')
    asked = {"follow_logs": {"stacks": ["counter"]}}
    (swarm / "play.yml").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [asked]}]))
    environ = project_environment(
        ANSIBLE_LIBRARY=str(ROOT / "roles/logs/library"),
        ANSIBLE_MODULE_UTILS=str(ROOT / "roles/logs/module_utils"),
        ANSIBLE_ACTION_PLUGINS=str(ROOT / "roles/logs/action_plugins"),
        ANSIBLE_STDOUT_CALLBACK="stages",
        DOCKER_HOST=f"unix://{swarm}/engine.sock",
    )
    environ["PATH"] = f"{swarm}/bin:{environ['PATH']}"
    words = ["-i", "host,", "-c", "local", "-e", f"ansible_python_interpreter={sys.executable}"]
    with (
        (swarm / "out").open("w") as out,
        subprocess.Popen(
            ["ansible-playbook", *words, swarm / "play.yml"], cwd=ROOT, env=environ, stdout=out, start_new_session=True
        ) as process,
    ):
        try:
            wait_until("the first line", lambda: "first" in (swarm / "out").read_text())
            with lines.open("a") as file:
                file.write("2026-11-26T07:20:32Z second\n")
            wait_until("the second line", lambda: "second" in (swarm / "out").read_text())
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(TIMEOUT_SECONDS)
    shown = [line for line in (swarm / "out").read_text().splitlines() if "app.1@one" in line]
    assert shown == ["2026-11-26T07:20:31.000Z app.1@one first", "2026-11-26T07:20:32.000Z app.1@one second"]
