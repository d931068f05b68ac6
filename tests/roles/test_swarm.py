"""The nodes of a swarm have the roles that their hosts have in the inventory."""

from __future__ import annotations

import re
import shutil
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import yaml
from engines import SETTINGS, Engine, describe, engine, serve
from support.ansible import PLAYBOOKS, load, run, run_alone

host_state = load("roles/docker_host/library/host_state.py")
apart_from = load("roles/swarm/filter_plugins/networks.py").apart_from
pytestmark = pytest.mark.skipif(not shutil.which("docker"), reason="no docker command here")


def converge(
    site: Path, managers: list[str], workers: list[str], nodes: dict[str, str], **given: Any
) -> list[tuple[str, str, str]]:
    """Run the role as `play` does; return what was asked for."""
    done, asked = play(site, managers, workers, nodes, **given)
    assert done.returncode == 0, done.stdout + done.stderr
    assert bool(asked) == bool(re.search("changed=[1-9]", done.stdout))
    return asked


def play(  # noqa: PLR0913  # what a case of the table may set
    site: Path,
    managers: list[str],
    workers: list[str],
    nodes: dict[str, str],
    *,
    drained: str = "",
    led: bool = True,
    settings: Any = SETTINGS,
    stuck: str = "",
    joins: bool = True,
    closed: str = "",
    alone: bool = False,
    **variables: Any,
) -> tuple[CompletedProcess[str], list[tuple[str, str, str]]]:
    """Run the role on a swarm of ``nodes`` (name -> role); return also what it asked for: of which host, node, role.

    ``nodes`` is changed as asked. A host is named as its node. In its place, ``swarm`` has the settings of the swarm:
    how often nodes report, how many former tasks it lists, and how often it writes snapshots. ``stuck`` could not
    join, and can now if it ``joins``. ``closed`` does not become a manager. ``alone``: in a play without other roles.
    """
    asked: list[tuple[str, str, str]] = []
    engines: dict[str, Engine] = {}
    outside = {stuck: {"NodeID": "", "LocalNodeState": "error"}}

    def answer() -> None:
        for name, server in engines.items():
            server.answers = engine(
                name, manager=nodes[name] == "manager" and name != closed, roles=nodes, settings=settings
            )
            server.answers["/info"]["Swarm"] |= outside.get(name, {})
            spoil(server.answers, drained, led=led)

    def change(host: str, path: str, body: Any) -> None:
        nonlocal settings
        if path == "/swarm/leave":
            outside[host]["LocalNodeState"] = "inactive"
            asked.append((host, host, "leave"))
        elif path == "/swarm/join":
            asked.append((host, host, "join"))
            if joins:
                del outside[host]
            else:
                outside[host] |= {"LocalNodeState": "error", "Error": "no route to host"}
        elif path == "/swarm/update":
            settings = body
            seconds = body["Dispatcher"]["HeartbeatPeriod"] / 1e9
            others = f"{body['Orchestration']['TaskHistoryRetentionLimit']}, {body['Raft']['SnapshotInterval']}"
            asked.append((host, "swarm", f"{seconds:g} s, {others}"))
        else:
            node = path.split("/")[2]
            asked.append((host, node, body["Role"]))
            nodes[node] = body["Role"]
        answer()

    with ExitStack() as stack:
        children: dict[str, Any] = {"managers": {"hosts": {}}, "workers": {"hosts": {}}}
        for name in managers + workers:
            engines[name] = server = stack.enter_context(serve(site, name, {}))
            server.change = partial(change, name)
            children["managers" if name in managers else "workers"]["hosts"][name] = {
                "ansible_connection": "local",
                "ansible_python_interpreter": str(site / f"{name}.python"),
                "swarm_heartbeat_seconds": 5,
                **variables,
            }
        answer()
        (site / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": children}}, sort_keys=False))
        if alone:
            return run_alone(site, "swarm", site / "hosts.yml"), asked
        return run("ansible-playbook", "-i", site / "hosts.yml", PLAYBOOKS / "swarm.yml"), asked


def spoil(answers: dict[str, Any], drained: str, *, led: bool) -> None:
    """Let a manager say that a node is drained, where the stranger is, and that it knows no leader."""
    for node in answers.get("/nodes", []):
        if node["ID"] == drained:
            node["Spec"]["Availability"] = "drain"
        if node["ID"] == "stranger":
            node["Status"]["Addr"] = "192.0.2.9"
    if not led and "/nodes" in answers:
        no_leader = {"Cluster": {"ID": ""}, "Error": "The swarm does not have a leader"}
        answers["/info"]["Swarm"] |= no_leader


def test_a_swarm_that_is_as_the_inventory_is_left_alone(tmp_path: Path) -> None:
    """Whatever somebody chose of the settings that the project does not set."""
    chosen = SETTINGS | {"Orchestration": {"TaskHistoryRetentionLimit": 9}}
    assert converge(tmp_path, ["one"], ["two"], {"one": "manager", "two": "worker"}, settings=chosen) == []


def test_the_role_needs_no_other_role_of_the_project(tmp_path: Path) -> None:
    nodes = {"one": "manager", "two": "worker"}
    done, asked = play(tmp_path, ["one"], ["two"], nodes, stuck="two", alone=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert asked == [("two", "two", "leave"), ("two", "two", "join")]


def test_the_only_manager_changes_places_with_a_worker(tmp_path: Path) -> None:
    nodes = {"one": "manager", "two": "worker"}
    assert converge(tmp_path, ["two"], ["one"], nodes) == [
        ("one", "two", "manager"),
        ("two", "swarm", "30 s, 5, 10000"),
        ("two", "one", "worker"),
        ("two", "swarm", "5 s, 5, 10000"),
    ]
    assert nodes == {"one": "worker", "two": "manager"}


# The test before fails too if a host asks for it itself.
@pytest.mark.slow
def test_managers_that_become_workers_do_not_ask_for_it_themselves(tmp_path: Path) -> None:
    asked = converge(tmp_path, ["one"], ["two", "three"], dict.fromkeys(["one", "two", "three"], "manager"))
    assert asked[:2] == [("one", "swarm", "30 s, 5, 10000")] * 2
    assert sorted(asked[2:4]) == [("one", "three", "worker"), ("one", "two", "worker")]
    assert asked[4:] == [("one", "swarm", "5 s, 5, 10000")] * 2


def test_the_nodes_are_read_again_once_a_host_that_joined_again_has_its_label(tmp_path: Path) -> None:
    """Only then the labels of its former entry are known to be those of a former one."""
    now, former = describe("one", "manager"), describe("former", "worker")
    now["Spec"]["Labels"] = {}
    former["Status"]["State"] = "down"
    asked: list[str] = []
    with serve(tmp_path, "one", engine("one", manager=True) | {"/nodes": [now, former], "/nodes/one": now}) as server:
        server.look = asked.append
        python = str(tmp_path / "one.python")
        host = {"ansible_connection": "local", "ansible_python_interpreter": python, "swarm_heartbeat_seconds": 5}
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": {"one": host}}}))
        done = run("ansible-playbook", "-i", tmp_path / "hosts.yml", PLAYBOOKS / "swarm.yml")
    assert done.returncode == 0, done.stdout
    labelled = asked.index("/nodes/one/update")
    assert "/nodes" in asked[:labelled]
    assert "/nodes" in asked[labelled:]


@pytest.mark.parametrize(
    ("routes", "pools"),
    [
        ([], ["10.0.0.0/8", "172.30.0.0/16"]),
        (["172.17.0.0/16", "192.0.2.0/24"], ["10.0.0.0/8", "172.30.0.0/16"]),
        (["10.0.2.2/32"], ["172.30.0.0/16"]),
        (["10.0.0.0/8", "172.16.0.0/12"], []),
    ],
)
def test_networks_that_a_route_overlaps_are_left_out(routes: list[str], pools: list[str]) -> None:
    assert apart_from(["10.0.0.0/8", "172.30.0.0/16"], routes) == pools


def test_the_role_alone_starts_a_swarm(tmp_path: Path) -> None:
    new = engine("one", manager=True) | {"/swarm/init": "swarm"}
    inside = {"/swarm": new.pop("/swarm")}
    swarm = new["/info"]["Swarm"]
    swarm |= {"NodeID": "", "LocalNodeState": "inactive", "ControlAvailable": False}
    pools: list[list[str]] = []

    def change(path: str, body: Any) -> None:
        if path == "/swarm/init":
            pools.append(body["DefaultAddrPool"])
            new.update(inside)
            swarm.update({"NodeID": "one", "LocalNodeState": "active", "ControlAvailable": True})

    with serve(tmp_path, "one", new) as server:
        server.change = change
        host = {"ansible_connection": "local", "ansible_python_interpreter": str(tmp_path / "one.python")}
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": {"one": host}}}))
        done = run_alone(tmp_path, "swarm", tmp_path / "hosts.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert pools == [["10.0.0.0/8"]]


@pytest.mark.parametrize("broken", ["", "could not choose an IP address to advertise"])
def test_a_new_swarm_does_not_show_its_join_tokens(tmp_path: Path, broken: str) -> None:
    outside = engine("one", manager=True) | {"/swarm/init": "swarm"}
    inside = {"/swarm": outside.pop("/swarm")}
    pools: list[str] = []
    swarm = outside["/info"]["Swarm"]
    swarm |= {"NodeID": "", "LocalNodeState": "inactive", "ControlAvailable": False}

    def change(path: str, body: Any) -> None:
        if path == "/swarm/init":
            assert body["SubnetSize"] == 24
            pools.extend(body["DefaultAddrPool"])
        if path == "/swarm/init" and not broken:
            outside.update(inside)
            swarm.update({"NodeID": "one", "LocalNodeState": "active", "ControlAvailable": True})

    if broken:
        del outside["/swarm/init"]
    with serve(tmp_path, "one", outside) as server:
        server.change = change
        host = {"ansible_connection": "local", "ansible_python_interpreter": str(tmp_path / "one.python")}
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": {"one": host}}}))
        done = run("ansible-playbook", "-v", "-i", tmp_path / "hosts.yml", PLAYBOOKS / "swarm.yml")
    said = re.sub(r"\s+", " ", done.stdout)
    # The first network that the routes of this machine do not overlap.
    here = host_state.routes(Path("/proc/net/route"))
    assert pools == apart_from(["10.0.0.0/8", "172.30.0.0/16", "192.168.192.0/18"], here)[:1]
    assert "token-of" not in said
    assert ("one could not start a swarm. The reason: " in said) == bool(broken), said
    assert bool(done.returncode) == bool(broken), done.stdout


def test_a_node_that_failed_to_join_joins_at_the_next_run(tmp_path: Path) -> None:
    """Its engine is neither in the swarm nor able to join one."""
    done, asked = play(tmp_path, ["one"], ["two"], {"one": "manager", "two": "worker"}, stuck="two")
    assert done.returncode == 0, done.stdout + done.stderr
    assert asked == [("two", "two", "leave"), ("two", "two", "join")]


def test_a_node_that_does_not_get_into_the_swarm_is_named_with_its_reason(tmp_path: Path) -> None:
    nodes = {"one": "manager", "two": "worker"}
    done, _ = play(tmp_path, ["one"], ["two"], nodes, stuck="two", joins=False, swarm_join_timeout=1)
    assert done.returncode != 0
    said = "two is not in the swarm after 1 s (swarm_join_timeout); its engine says: error, no route to host"
    assert said in re.sub(r"\s+", " ", done.stdout), done.stdout


def test_a_node_that_does_not_become_a_manager_is_named(tmp_path: Path) -> None:
    """Its port 2377 is closed, which workers do not need."""
    nodes = {"one": "manager", "two": "worker"}
    done, _ = play(tmp_path, ["one", "two"], [], nodes, closed="two", swarm_join_timeout=1)
    assert done.returncode != 0
    said = re.sub(r"\s+", " ", done.stdout)
    assert "two is not a manager after 1 s (swarm_join_timeout). " in said
    assert "The other managers must reach its TCP port 2377. Then continue with: ./counter" in said


@pytest.mark.parametrize(
    ("differs", "asked"),
    [
        # What somebody chose stays.
        (
            {"Dispatcher": {"HeartbeatPeriod": 7_000_000_000}, "Orchestration": {"TaskHistoryRetentionLimit": 9}},
            "5 s, 9, 10000",
        ),
        # What an earlier version left.
        ({"Orchestration": {"TaskHistoryRetentionLimit": 0}, "Raft": {}}, "5 s, 5, 10000"),
    ],
)
def test_the_settings_of_the_swarm(tmp_path: Path, differs: dict[str, Any], asked: str) -> None:
    done, found = play(tmp_path, ["one"], ["two"], {"one": "manager", "two": "worker"}, settings=SETTINGS | differs)
    assert done.returncode == 0, done.stdout + done.stderr
    assert found == [("one", "swarm", asked)]


@pytest.mark.parametrize(("managers", "refused"), [(["one"], True), (["one", "two"], False)], ids=["same", "changed"])
def test_the_nodes_that_were_read_with_the_lock_count_until_the_swarm_changes(
    tmp_path: Path, managers: list[str], *, refused: bool
) -> None:
    one, two = describe("one", "manager"), describe("two", "worker")
    two["Spec"]["Availability"] = "drain"
    workers = [name for name in ("one", "two") if name not in managers]
    nodes = {"one": "manager", "two": "worker"}
    done, _ = play(tmp_path, managers, workers, nodes, run_lock={"nodes": [one, two]})
    said = " ".join(done.stdout.split())
    assert ("-e host=two" in said) == bool(done.returncode) == refused, said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"nodes": {"stranger": "worker"}}, "stranger. Add them to the inventory"),
        # A drained node, the former entry of a host that joined again, and an address that the node has anyway.
        (
            {
                "nodes": {"stranger": "worker", "former": "worker"},
                "drained": "stranger",
                "swarm_advertise_address": "127.0.0.1",
            },
            "",
        ),
        ({"drained": "two"}, "end this: ./counter node -e state=active -e host=two"),
        ({"led": False}, "one manages a swarm without a leader: The swarm does not have a leader."),
        ({"swarm_advertise_address": "192.0.2.9"}, "swarm_advertise_address=127.0.0.1 for this host"),
    ],
)
def test_a_swarm_in_which_the_stack_could_not_run_is_refused(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    given = {**given, "nodes": {"one": "manager", "two": "worker", **given.get("nodes", {})}}
    done, asked = play(tmp_path, ["one"], ["two"], **given)
    assert asked == []
    assert bool(done.returncode) == bool(said), done.stdout
    assert said in re.sub(r"\s+", " ", done.stdout)
