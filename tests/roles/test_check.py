"""`--check` tells what a run would do, and fails only where that would: also on hosts that are not as far as others."""

from __future__ import annotations

import json
import os
import re
from contextlib import ExitStack
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import yaml
from engines import engine, interpreter, serve
from support.ansible import project_environment, run

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="looks at this machine as root")

# Managers and workers, each with what its engine answers.
State = tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]
NO_ENGINE: dict[str, Any] = {}
# What a restore that was cut off leaves on the host that was the first manager.
LEFT = {"Id": "c", "Names": ["/check-restore"], "Labels": {}, "Ports": []}
LONE = engine("old", manager=True) | {
    "/containers/json": [LEFT],
    "/containers/c/json": {"Id": "c", "Image": "d", "Config": {}, "State": {"Status": "exited", "Running": False}},
    "/images/d/json": {"Id": "d"},
}
STATES: dict[str, State] = {
    "engine without a swarm": ({"new": engine()}, {}),
    "new hosts without an engine": ({"old": LONE, "new": NO_ENGINE, "newer": NO_ENGINE}, {"newest": NO_ENGINE}),
    "new first manager without an engine": ({"new": NO_ENGINE, "old": LONE, "newer": engine()}, {}),
    "new first manager with an engine": ({"new": engine(), "old": LONE, "newer": NO_ENGINE}, {}),
    "manager and worker change places": (
        {"two": engine("two")},
        {"one": engine("one", manager=True, roles={"one": "manager", "two": "worker"})},
    ),
}
# What others show of each of its hosts.
COVERED = {"engine without a swarm", "new first manager without an engine", "new first manager with an engine"}
# What a stack that runs leaves to be seen until it is removed.
RUNS = {
    "/containers/json": [{"Id": "a", "Names": ["/check_app.1"], "Labels": {}, "Ports": []}],
    "/networks": [{"Id": "b", "Name": "check_edge"}],
    "/volumes": {"Volumes": [{"Name": "check-redis_redis-1", "Driver": "local"}]},
    "/volumes/check-redis_redis-1": {"Name": "check-redis_redis-1"},
}

# With -e NAME=VALUE a number arrives as text.
NUMBERS = (
    *("-e", "preflight_min_memory_mb=1", "-e", "preflight_min_disk_gb=1", "-e", "preflight_max_clock_skew=60"),
    *("-e", "swarm_heartbeat_seconds=5", "-e", "destroy_timeout=60"),
)


def check(
    site: Path, state: State, playbook: str, *options: str, python: str = "/usr/bin/python3"
) -> CompletedProcess[str]:
    """Run a playbook with --check in that state, without asking an engine for a change; ``site`` is empty.

    ``python``: the interpreter of hosts without an engine.
    """
    groups = dict(zip(("managers", "workers"), state, strict=True))
    children: dict[str, Any] = {group: {"hosts": {}} for group in groups}
    addresses = (f"192.0.2.{number}" for number in range(1, 100))
    with ExitStack() as stack:
        changes: list[str] = []
        for group, hosts in groups.items():
            for host, answers in hosts.items():
                address = next(addresses)
                if answers:
                    swarm = {"Swarm": answers["/info"]["Swarm"] | {"NodeAddr": address}}
                    server = stack.enter_context(serve(site, host, answers | {"/info": answers["/info"] | swarm}))
                    server.change = lambda path, _body: changes.append(path)
                else:
                    interpreter(site, host, python)
                children[group]["hosts"][host] = {
                    "ansible_connection": "local",
                    "ansible_python_interpreter": str(site / f"{host}.python"),
                    "docker_host_manage": not answers,
                    "swarm_advertise_address": address,
                }
        (site / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": children}}, sort_keys=False))
        given: list[str | Path] = ["-i", site / "hosts.yml", "-e", "stack_name=check", "-e", "http_port=65123"]
        # Whatever listens on this machine.
        (listening := site / "bin/ss").parent.mkdir()
        listening.write_text("#!/bin/sh\n")
        listening.chmod(0o755)
        path = f"{listening.parent}:{project_environment()['PATH']}"
        done = run("ansible-playbook", *given, *options, "--check", "--diff", f"{playbook}.yml", PATH=path)
        assert changes == []
    return done


AUTHORITY = ("-e", json.dumps({"edge_tls": "acme", "edge_domains": ["counter.example"], "http_port": 80}))


@pytest.mark.parametrize(
    "state", [pytest.param(state, marks=pytest.mark.slow) if state in COVERED else state for state in STATES]
)
def test_a_deployment_can_be_checked(tmp_path: Path, state: str) -> None:
    # With an authority, a deployment does all that it does without one. One state shows that it needs none.
    edge = () if state == "manager and worker change places" else AUTHORITY
    # Its nodes come to three hosts, where there are so many.
    done = check(
        tmp_path, STATES[state], "deploy", "-e", "redis_topology=sentinel", "-e", "replicas=4", *NUMBERS, *edge
    )
    assert done.returncode == 0, done.stdout + done.stderr
    left = re.search(
        r"\[backup : Remove the container of a run that was cut off\].*?(?=\nTASK)", done.stdout, re.DOTALL
    )
    assert ("changed: [old]" in (left[0] if left else "")) == ("old" in STATES[state][0])


# With --check, the first task of a removal that is not skipped.
REMOVES = "Remove the labels that record where the data is]"
PURGE = ("-e", "purge=true", "-e", "confirm=check")


def test_nothing_is_removed_while_a_host_does_not_answer(tmp_path: Path) -> None:
    away = {"ansible_host": "192.0.2.99", "ansible_connection": "ssh", "ansible_ssh_common_args": "-o ConnectTimeout=1"}
    with serve(tmp_path, "old", LONE | RUNS):
        old = {"ansible_connection": "local", "ansible_python_interpreter": str(tmp_path / "old.python")}
        (tmp_path / "hosts.yml").write_text(
            yaml.safe_dump({"managers": {"hosts": {"old": old}}, "workers": {"hosts": {"away": away}}})
        )
        done = run(
            *("ansible-playbook", "-i", tmp_path / "hosts.yml", "-e", "stack_name=check"),
            *(*PURGE, *NUMBERS, "--check", "destroy.yml"),
        )
    said = " ".join(done.stdout.split())
    assert done.returncode != 0
    assert "Nothing was removed. away (192.0.2.99) cannot be reached" in said
    assert REMOVES not in done.stdout


def test_stacks_are_removed_by_a_host_that_manages_their_swarm(tmp_path: Path) -> None:
    """A new first manager has not joined it yet."""
    state: State = {"new": engine(), "old": LONE | RUNS, "newer": engine()}, {}
    done = check(tmp_path, state, "destroy", *PURGE, *NUMBERS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(re.escape(REMOVES) + r" \*+\s+\w+: \[old\]", done.stdout), done.stdout
    assert "changed: [old] => (item=check-redis_redis-1)" in done.stdout


def test_a_restore_to_bare_hosts_can_be_checked(tmp_path: Path) -> None:
    repository = (
        "-e",
        "backup=latest",
        "-e",
        "backup_repository=rest:http://192.0.2.30:8000/",
        "-e",
        "backup_password=a-password",
    )
    done = check(tmp_path, ({"new": NO_ENGINE}, {}), "playbooks/restore", *repository, *NUMBERS)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("installed", [True, False])
def test_data_is_not_left_behind_with_an_engine_that_does_not_answer(tmp_path: Path, *, installed: bool) -> None:
    (programs := tmp_path / "programs").mkdir()
    if installed:
        (programs / "dockerd").touch()
    # Its modules see these in place of this machine's.
    python = f"unshare --mount sh -c 'mount --bind {programs} /usr/sbin && exec /usr/bin/python3 \"$@\"' sh"
    done = check(tmp_path, ({"new": NO_ENGINE}, {}), "destroy", *PURGE, python=python)
    said = "The engine of new is installed, but does not answer" in done.stdout
    # A host without an engine has nothing to remove. That of Docker's own packages is elsewhere.
    refused = installed or Path("/usr/bin/dockerd").exists()
    assert (done.returncode != 0, said) == (refused, refused), done.stdout + done.stderr
