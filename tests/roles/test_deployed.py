"""Files of a state directory, also of earlier formats: an update of the project takes over what it finds."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from manager import Manager
from support.ansible import PLAYBOOKS, ROOT, last_task, results_by_host, run
from support.https import SITE, certificate, pem

from plugins.filter.deployed import (
    deployed_state,
    differing,
    part_of_stack,
    state_host,
    unfinished_restore,
    with_written,
)

HERE = Path(__file__).resolve().parent / "deployed"
"""State directories by format and topology. Those of format 1 are as the last version that wrote it rendered them."""

COMMON = {
    "edge": "proxy",
    "app_cpus": 1,
    "app_drain_seconds": 3,
    "app_deadline_seconds": 5,
    "app_update_monitor": 20,
    "app_update_parallelism": 1,
    "edge_max_requests": 64,
    "edge_memory": "128M",
    "overlay_encrypted": False,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "standalone": COMMON
    | {
        "redis_topology": "standalone",
        "redis_replicas": 1,
        "write_concern": "none",
        "app_threads": 7,
        "app_memory": "128M",
        "app_environment": {"COUNTER_HISTORY_LOG": "true"},
        "http_port": 8080,
    },
    "sentinel": COMMON
    | {
        "redis_topology": "sentinel",
        "redis_replicas": 3,
        "write_concern": "majority",
        "app_threads": 32,
        "app_memory": "192M",
        "app_environment": {},
        "http_port": 80,
    },
}
REDIS = {
    "standalone": {"topology": "standalone", "tls": False},
    "sentinel": {"topology": "sentinel", "tls": True},
}


def read(directory: Path) -> dict[str, dict[str, Any]]:
    """Return what the module ``state_files`` returns of a directory."""
    paths = [path for path in directory.rglob("*") if path.is_file()]
    return {str(path.relative_to(directory)): {"content": path.read_text(), "mtime": 1.0} for path in paths}


@pytest.mark.parametrize("topology", SETTINGS)
def test_files_of_format_1_say_the_same(topology: str) -> None:
    state = deployed_state(read(HERE / "format-1" / topology))
    assert state["format"] == 1
    assert state["settings"] == SETTINGS[topology]
    assert state["addresses"] == ["192.0.2.11"]
    assert state["images"] == {"app": "counter-app:1", "edge": "counter-edge:1", "redis": "counter-redis:1"}
    assert state["endpoint"]["network"] == "counter-redis_store"
    assert state["endpoint"]["password_id"] == "2bb80d537b1d"  # noqa: S105
    assert state["redis"] == REDIS[topology]
    assert state["move"] == {}
    assert state["releases"] == []


@pytest.mark.parametrize("topology", REDIS)
def test_data_without_a_deployment_is_still_known(topology: str) -> None:
    """After destroy, and while a move has stopped the app: the nodes that hold the counters are known all the same."""
    files = read(HERE / "format-1" / topology)
    del files["deployed.json"]
    state = deployed_state(files)
    assert (state["format"], state["settings"]) == (0, {})
    assert state["redis"] == REDIS[topology]


def test_what_is_written_as_data_wins_over_comments() -> None:
    written = {"topology": "cluster", "nodes": 6, "tls": False}
    files = read(HERE / "format-1/sentinel") | {"redis/redis.json": {"content": json.dumps(written), "mtime": 2.0}}
    assert deployed_state(files)["redis"] == written


def test_a_new_host_has_nothing() -> None:
    state = deployed_state({})
    assert state == {
        "format": 0,
        "swarm": "",
        "settings": {},
        "maintenance": {},
        "endpoint": {},
        "images": {},
        "addresses": [],
        "certificates": [],
        "edge": "",
        "redis": {},
        "move": {},
        "restore": {},
        "releases": [],
        "site": "",
        "data": {},
    }


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Manager:
    return Manager(tmp_path_factory.mktemp("site"))


# `test_files_of_format_1_say_the_same` reads those of both topologies.
@pytest.mark.parametrize("topology", ["standalone", pytest.param("sentinel", marks=pytest.mark.slow)])
def test_status_shows_what_an_earlier_version_deployed(manager: Manager, tmp_path: Path, topology: str) -> None:
    state = shutil.copytree(HERE / "format-1" / topology, tmp_path / "state")
    found = manager.scale(state, deployed_recall_to_change=False)
    assert found["settings"].items() >= SETTINGS[topology].items()
    assert found["addresses"] == ["192.0.2.11"]


def test_scale_leaves_what_an_earlier_version_deployed_alone(manager: Manager, tmp_path: Path) -> None:
    state = shutil.copytree(HERE / "format-1/standalone", tmp_path / "state")
    before = read(state)
    done = manager.play("recall", {"replicas": 2}, state)
    assert done.returncode != 0
    assert "Nothing was changed. An earlier version of the project deployed counter" in done.stdout
    assert "This takes the stack over, without dropping a request: ./counter deploy" in done.stdout
    assert read(state) == before


# -- Which files are written on which manager


def test_only_files_that_differ_are_written() -> None:
    same, other = {"content": "same", "mtime": 1.0}, {"content": "other", "mtime": 1.0}
    states: dict[str, dict[str, Any]] = {
        "one": {"files": {"deployed.json": same, "redis/stack.yml": other}},
        "new": {"files": {}},
        "done": {"files": {"deployed.json": same, "redis/stack.yml": same, "else": other}},
    }
    wanted = {"deployed.json": "same", "redis/stack.yml": "same"}
    found = differing(wanted, states)
    assert found == {"one": {"redis/stack.yml": "same"}, "new": wanted}
    for host, files in found.items():
        assert differing(wanted, {host: with_written(states[host], files)}) == {}


def write(directory: Path, *options: str, **given: Any) -> tuple[dict[str, Any], str]:
    """Run the module; return its result, and all that it prints."""
    done = run(
        *("ansible", "all", "-i", "host,", "-c", "local", "-m", "state_written", "--diff", *options),
        *("-a", json.dumps({"path": str(directory), **given})),
        ANSIBLE_LIBRARY=str(ROOT / "roles/deployed/library"),
        ANSIBLE_STDOUT_CALLBACK="ansible.posix.json",
        ANSIBLE_LOAD_CALLBACK_PLUGINS="true",
    )
    return last_task(done)["host"], done.stdout + done.stderr


def test_files_are_for_root_only_and_secrets_are_not_shown(tmp_path: Path) -> None:
    top = tmp_path / "stacks/counter"
    files, secrets = {"deployed.json": "new\n", "redis/redis.conf": "port 1\n"}, {"redis/internal": "hidden\n"}
    for options, there in (("--check",), set()), ((), {*files, *secrets}):
        result, said = write(top, *options, files=files, secrets=secrets)
        assert result["changed"]
        assert [part.get("after") for part in result["diff"]] == [None, "new\n", "port 1\n"]
        assert "redis/internal: its content is not shown" in said
        assert "hidden" not in said
        assert set(read(top)) == there
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_dir()} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()} == {0o600}
    written = read(top)
    assert {name: file["content"] for name, file in written.items()} == {**files, **secrets}
    result, _ = write(top, files=files, secrets=secrets)
    assert (result["changed"], result["diff"]) == (False, [])
    result, _ = write(top, files={"redis/redis.conf": "port 2\n"})
    assert [(part["before"], part["after"]) for part in result["diff"]] == [("port 1\n", "port 2\n")]


def test_a_stack_that_docker_refuses_is_not_written(tmp_path: Path) -> None:
    for text, accepted in ("services: {app: {image: i}}\n", True), ("services: {app: {imagine: i}}\n", False):
        result, _ = write(tmp_path, files={"counter/stack.yml": text}, validate=True)
        assert result.get("failed", False) != accepted, result
    assert re.search(r"Docker refuses the new .*/counter/stack.yml: .*imagine", result["msg"])
    assert (tmp_path / "counter/stack.yml").read_text() == "services: {app: {image: i}}\n"


def state(**files: tuple[str, float]) -> dict[str, dict[str, Any]]:
    """Return a state directory: for each file, content and mtime; `internal` and `deployed` are those that tell one."""
    names = {"internal": "redis/internal", "deployed": "deployed.json", "logins": "redis-secrets/logins"}
    return {names.get(name, name): {"content": text, "mtime": time} for name, (text, time) in files.items()}


OLD = state(internal=("a", 1), passwords=("a", 1), move=("unfinished", 2))


@pytest.mark.parametrize(
    ("one", "two", "kept"),
    [
        ({}, {}, "one"),
        ({}, OLD, "two"),
        (state(logins=("x", 9)), OLD, "two"),
        # Without Redis of its own, a stack has no passwords.
        ({}, state(deployed=('{"format": 2}', 1)), "two"),
        (OLD, {}, "one"),
        (OLD, OLD, "one"),
        # The first manager is written first; a run that was killed did not reach the other one.
        (state(internal=("b", 3), passwords=("b", 3)), OLD, "one"),
        (state(internal=("a", 1), passwords=("b", 3)), OLD, "one"),
        # The other one was away when a file was removed.
        (state(internal=("a", 1), passwords=("a", 1)), OLD, "one"),
        # The first one was away.
        (OLD, state(internal=("a", 1), passwords=("b", 3)), "two"),
        (OLD, state(internal=("a", 1), passwords=("a", 1), logins=("y", 9)), "one"),
        # A copy was broken off.
        (state(passwords=("a", 9)), OLD, "two"),
    ],
)
def test_whose_state_is_used(one: dict[str, Any], two: dict[str, Any], kept: str) -> None:
    assert state_host({"two": two, "one": one}, "one", "") == kept


def test_the_newest_of_several_states_is_used() -> None:
    states = {"one": OLD, "two": state(passwords=("b", 3)), "three": state(passwords=("c", 4)), "four": OLD}
    assert state_host(states, "one", "") == "three"
    assert state_host({"two": OLD}, "one", "") == "two"
    # A worker that was a manager has a copy, which was written after that of the first one.
    document = ('{"format": 2}', 1)
    now = state(internal=("a", 1), deployed=document, passwords=("b", 3))
    former = state(internal=("a", 2), deployed=(document[0], 2), passwords=("a", 2))
    assert state_host({"former": former, "now": now}, "new", "") == "now"
    assert state_host({"now": now, "former": former}, "new", "") == "now"


def test_what_a_keeper_wrote_does_not_make_the_state_of_its_manager_the_newest() -> None:
    """Its manager may have missed a deployment."""
    renewed = {path: {"content": "new", "mtime": 9} for path in ("acme/certificate.pem", "acme/directory")}
    present = {path: {"content": "old", "mtime": 1} for path in renewed}
    status = {"keeper/state.json": {"content": "{}", "mtime": 9}}
    assert state_host({"one": OLD | present, "two": OLD | renewed | status}, "one", "") == "one"
    assert state_host({"one": OLD | present | status, "two": state(passwords=("b", 3))}, "one", "") == "two"
    assert "keeper/state.json" not in part_of_stack(status)


@pytest.mark.parametrize("other", ['{"format": 2, "swarm": "theirs"}', '{"format": 2}'], ids=["another", "unknown"])
@pytest.mark.parametrize("first", ["two", "new"])
def test_a_stack_of_the_same_name_in_another_swarm_is_not_used(first: str, other: str) -> None:
    """Its host was added to this swarm, and its files are newer."""
    ours = '{"format": 2, "swarm": "ours"}'
    old, new = ((text, document, time) for text, document, time in (("a", ours, 1), ("b", other, 9)))
    states = {
        host: state(internal=(text, time), deployed=(document, time))
        for host, (text, document, time) in {"two": old, "new": new}.items()
    }
    assert state_host(states, first, "ours") == "two"
    # An earlier version did not record it.
    assert state_host(states, "two", "neither") == "new"


def test_after_the_removal_of_a_stack_one_of_another_swarm_is_not_used() -> None:
    """The removal leaves passwords, but no record of the swarm."""
    theirs = state(internal=("b", 9), deployed=('{"format": 2, "swarm": "theirs"}', 9))
    assert state_host({"one": state(internal=("a", 1)), "new": theirs}, "one", "ours") == "one"


@pytest.mark.parametrize(("one", "two", "found"), [(None, None, ""), ("a", None, "a"), ("a", "", ""), ("", "b", "b")])
def test_the_newest_record_of_a_restore_counts(one: str | None, two: str | None, found: str) -> None:
    """Also if only a manager has it that is not the first one; that of a manager that was away is older."""
    texts = {"one": one, "two": two}
    states: dict[str, Any] = {
        host: {}
        if text is None
        else {"restore.json": {"content": json.dumps({"backup": text} if text else {}), "mtime": mtime}}
        for mtime, (host, text) in enumerate(texts.items())
    }
    assert unfinished_restore(states, "one", "").get("backup", "") == found


@pytest.mark.parametrize(("ours", "theirs"), [("a", ""), ("", "b")])
def test_the_record_of_a_restore_in_another_swarm_does_not_count(ours: str, theirs: str) -> None:
    states = {
        swarm: {
            "deployed.json": {"content": json.dumps({"format": 2, "swarm": swarm}), "mtime": mtime},
            "restore.json": {"content": json.dumps({"backup": text} if text else {}), "mtime": mtime},
        }
        for mtime, (swarm, text) in enumerate({"ours": ours, "theirs": theirs}.items())
    }
    assert unfinished_restore(states, "ours", "ours").get("backup", "") == ours


def test_what_shows_that_a_copy_is_whole_comes_last() -> None:
    files = state(deployed=("a", 1), internal=("a", 1), logins=("x", 1), passwords=("a", 1))
    assert list(part_of_stack(files)) == ["passwords", "redis/internal", "deployed.json"]


def taken_over(site: Path, states: dict[str, dict[str, str]]) -> Any:
    """Read states (manager -> path -> content, the newest first) as deploy does; return what ``one`` uses."""
    for age, (host, files) in enumerate(states.items()):
        for name, text in files.items():
            path = site / host / "state" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            os.utime(path, times=(1e9 - age, 1e9 - age))
    hosts = {}
    for host in states:
        # Also what is delegated to a host runs in its own directory.
        (python := site / f"{host}.python").write_text(f'#!/bin/sh\ncd {site / host} && exec {sys.executable} "$@"\n')
        python.chmod(0o755)
        (site / host).mkdir(exist_ok=True)
        hosts[host] = {"ansible_connection": "local", "ansible_python_interpreter": str(python)}
    (site / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": hosts}}))
    return results_by_host(PLAYBOOKS / "take_over.yml", site / "hosts.yml", "-e", "state_dir=state")["one"]["msg"]


def test_a_manager_that_was_added_gets_all_files(tmp_path: Path) -> None:
    """Not only those that a deployment writes anew: it may become the first one."""
    state = {"redis/internal": "internal", "acme/account.pem": "key", "maintenance.json": '{"text": "soon"}'}
    for added in ({}, {"redis/internal": "internal"}):
        site = tmp_path / str(len(added))
        own = {"redis-secrets/logins": "its own", "redis/step.yml": "a step", "bench.json": "a benchmark"}
        taken_over(site, {"one": {**state, **own}, "two": added})
        assert {path: file["content"] for path, file in read(site / "two/state").items()} == state


def test_a_deployment_does_not_replace_the_newer_certificate_of_a_keeper(tmp_path: Path) -> None:
    """The keeper stores what it renews on its own manager only."""
    state = {"redis/internal": "internal", "acme/key.pem": pem(SITE)}
    state["acme/certificate.pem"] = certificate(SITE, days=(-60, 30))
    renewed = state | {"acme/certificate.pem": certificate(SITE, days=(-1, 89)), "acme/directory": "https://a.example"}
    # Of the others, one has the certificate; or the first one takes over the state of one that has not.
    for site, states in {
        "present": {"one": state, "two": renewed, "three": state},
        "new": {"one": {}, "two": state, "three": renewed},
    }.items():
        taken_over(tmp_path / site, states)
        for host in states:
            found = {path: file["content"] for path, file in read(tmp_path / site / host / "state").items()}
            assert found == renewed, host


@pytest.mark.parametrize("has_a_state", [True, False], ids=["missed-a-move", "new"])
def test_the_first_manager_uses_what_it_takes_over_in_the_same_run(tmp_path: Path, *, has_a_state: bool) -> None:
    """Not its own state, which still has an unfinished move that another first manager has finished."""
    present = {"redis/redis.json": '{"topology": "cluster", "nodes": 6, "tls": false}', "redis/internal": "internal"}
    former = {**present, "redis/redis.json": '{"topology": "sentinel", "nodes": 3, "tls": false}'}
    states = {"two": present, "one": {**former, "redis/move.json": '{"from": "sentinel"}'} if has_a_state else {}}
    used = taken_over(tmp_path, states)
    assert used["deployed"]["redis"]["topology"] == "cluster"
    assert used["deployed"]["move"] == {}
    assert used["files"] == sorted(present)
    assert read(tmp_path / "one/state") == read(tmp_path / "two/state")
