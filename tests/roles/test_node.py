"""A host is taken out of service without a pause, and brought back: what is asked of its swarm, and in which order."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from engines import describe, engine, serve
from manager import Manager
from support.ansible import PLAYBOOKS, ROOT, run

from plugins.filter import nodes, placement

HOSTS = ["one", "two", "three"]
STACK = "com.docker.stack.namespace"
TOPOLOGIES: dict[str, Any] = yaml.safe_load(
    (ROOT / "roles/settings/vars/main/topologies.yml").read_text(encoding="utf-8")
)["topologies"]
needs_docker = pytest.mark.skipif(not shutil.which("docker"), reason="no docker command here")

STUBS = {
    # The lock of the run, and a container of a Redis node, which no engine of these tests has.
    "run/tasks/continue.yml": [],
    # What the project put onto a host that leaves.
    "destroy/tasks/leave.yml": [],
    "redis/tasks/wait_in_sync.yml": [
        {
            "name": "Note it",
            "ansible.builtin.debug": {"msg": "in sync: {{ redis_service.name }} at {{ redis_host_ids | to_json }}"},
            "failed_when": "not_in_sync | default(false)",
        }
    ],
}


def of_stack(services: list[dict[str, Any]], filters: dict[str, list[str]]) -> list[dict[str, Any]]:
    """Return the services that an engine lists for these filters."""
    wanted = {label.partition("=")[2] for label in filters.get("label", [])}
    return [service for service in services if not wanted or service["Spec"]["Labels"][STACK] in wanted]


@dataclass
class Service:
    """A service of the swarm; ``replicas`` is 0 for one task on each node."""

    name: str
    replicas: int
    label: str = ""
    constraints: list[str] = field(default_factory=list)
    # Task number or node -> its node.
    tasks: dict[Any, str] = field(default_factory=dict)

    @property
    def moves(self) -> bool:
        return self.name.endswith("_app")


class Swarm:
    """A swarm that does at once what it is told: three hosts, Redis nodes and Sentinels with labels, app and edge."""

    def __init__(self, *, replicas: int = 3, stuck: str = "", replicated: bool = True) -> None:
        self.stuck, self.asked, self.gone = stuck, list[str](), dict[str, Any]()
        self.nodes = {name: describe(name, "manager" if name == "one" else "worker") for name in HOSTS}
        kinds = [f"{kind}-{number}" for kind in ("redis", "sentinel") for number in (1, 2, 3)] if replicated else []
        for host, kind in zip(HOSTS * 2, kinds or ["redis-1"], strict=False):
            self.nodes[host]["Spec"]["Labels"][f"counter.{kind}"] = "here"
        self.services = [Service("counter_app", replicas), Service("counter_edge", 0), Service("foreign_app", 3)]
        self.services += [Service(f"counter-redis_{kind}", 1, f"counter.{kind}") for kind in kinds or ["redis-1"]]
        self.place()

    def may_run(self, service: Service, node: str) -> bool:
        spec = self.nodes[node]["Spec"]
        labelled = not service.label or service.label in spec["Labels"]
        return spec["Availability"] == "active" and labelled and f"node.id!={node}" not in service.constraints

    def place(self) -> None:
        """Remove the tasks that may not run where they are, or are too many, and start those that are missing."""
        for service in self.services:
            allowed = [name for name in self.nodes if self.may_run(service, name)]
            if service.name != self.stuck:
                service.tasks = {number: node for number, node in service.tasks.items() if node in allowed}
            if not service.replicas:
                service.tasks |= {node: node for node in allowed}
                continue
            while len(service.tasks) > service.replicas:
                most = Counter(service.tasks.values()).most_common(1)[0][0]
                del service.tasks[next(number for number, node in service.tasks.items() if node == most)]
            while allowed and len(service.tasks) < service.replicas:
                held = Counter(service.tasks.values())
                number = next(one for one in range(1, 99) if one not in service.tasks)
                service.tasks[number] = min(allowed, key=lambda node, held=held: held[node])  # type: ignore[misc]

    def change(self, path: str, body: Any) -> None:
        """Do what an engine was asked for, and note it."""
        _, kind, name, *action = path.split("/")
        if not action:
            self.asked.append(f"{name} removed")
            self.gone[f"/nodes/{name}"] = self.nodes.pop(name)
        elif kind == "nodes":
            self.asked.append(f"{name} {body['Availability']}")
            self.nodes[name]["Spec"] = body
        else:
            service = next(one for one in self.services if one.name == name)
            constraints = body["TaskTemplate"].get("Placement", {}).get("Constraints") or []
            replicas = body["Mode"].get("Replicated", {}).get("Replicas", 0)
            for sign, one, other in (("+", constraints, service.constraints), ("-", service.constraints, constraints)):
                self.asked += [f"{name} {sign}{each}" for each in one if each not in other]
            if replicas != service.replicas:
                self.asked.append(f"{name} {replicas}")
            service.constraints, service.replicas = constraints, replicas
        self.place()

    def answers(self, host: str) -> dict[str, Any]:
        """Return what the engine of a host answers now."""
        services = [self.spec(service) for service in self.services]
        found = engine(host, manager=host == "one", roles={"one": "manager"})
        if host == "one":
            found |= {"/nodes": list(self.nodes.values()), "/services": partial(of_stack, services)}
            found |= {"/tasks": lambda filters: self.tasks_of(of_stack(services, filters))}
            found |= self.gone | {f"/nodes/{name}": node for name, node in self.nodes.items()}
            found |= {f"/nodes/{name}/update": {} for name in self.nodes}
            found |= {f"/services/{service['ID']}": service for service in services}
            found |= {f"/services/{service['ID']}/update": {} for service in services}
        return found | {"/containers/json": partial(self.containers, host), "/_ping": "OK"}

    def spec(self, service: Service) -> dict[str, Any]:
        template = {"ContainerSpec": {"Image": "image:1"}, "Placement": {"Constraints": service.constraints}}
        return {
            "ID": service.name,
            "Version": {"Index": 1},
            "UpdatedAt": "2026-12-03T12:00:00Z",
            "Spec": {
                "Name": service.name,
                "Labels": {STACK: service.name.partition("_")[0]},
                "Mode": {"Replicated": {"Replicas": service.replicas}} if service.replicas else {"Global": {}},
                "TaskTemplate": template,
                "UpdateConfig": {"Order": "start-first" if service.moves else "stop-first"},
            },
        }

    def tasks_of(self, services: list[dict[str, Any]]) -> list[dict[str, Any]]:
        names = [service["ID"] for service in services]
        return [
            {
                "ID": f"{service.name}.{number}",
                "ServiceID": service.name,
                "NodeID": node,
                "Slot": number if service.replicas else 0,
                "DesiredState": "running",
                "CreatedAt": "2026-12-03T12:00:00Z",
                "Status": {"State": "running", "Timestamp": "2026-12-03T12:00:00Z"},
                "Spec": self.spec(service)["Spec"]["TaskTemplate"],
            }
            for service in self.services
            if service.name in names
            for number, node in service.tasks.items()
        ]

    def containers(self, host: str, filters: dict[str, Any]) -> list[dict[str, Any]]:
        [label] = filters["label"]
        wanted = label.partition("=")[2]
        here = [service.name for service in self.services if host in service.tasks.values()]
        return [{"Names": [f"/{name}.1"]} for name in here if wanted in (name, name.partition("_")[0])]

    def held(self, name: str) -> dict[str, int]:
        """Return how many tasks of a service each host has."""
        return dict(Counter(next(one for one in self.services if one.name == name).tasks.values()))


def node(site: Path, swarm: Swarm, host: str, state: str, *options: str, **given: Any) -> tuple[bool, str]:
    """Run the role ``node``; return whether it succeeded, and what it prints in one line."""
    return play(site, swarm, "node", *options, host=host, state=state, **given)


def play(site: Path, swarm: Swarm, verb: str, *options: str, **given: Any) -> tuple[bool, str]:
    """Run a playbook of the tests on the swarm; return whether it succeeded, and what it prints in one line."""
    for path, tasks in STUBS.items():
        (site / "roles" / path).parent.mkdir(parents=True, exist_ok=True)
        (site / "roles" / path).write_text(yaml.safe_dump(tasks))
    for stub in ("run", "redis", "destroy"):
        (site / f"roles/{stub}/defaults").mkdir(exist_ok=True)
    for name in HOSTS:
        (site / f"{name}.sock").unlink(missing_ok=True)
    with ExitStack() as stack:
        engines = {name: stack.enter_context(serve(site, name, {})) for name in HOSTS}

        def refresh(*_: Any) -> None:
            for name, server in engines.items():
                server.answers = swarm.answers(name)

        def change(path: str, body: Any) -> None:
            swarm.change(path, body)
            refresh()

        refresh()
        engines["one"].change = change
        hosts = {name: {"ansible_python_interpreter": str(site / f"{name}.python")} for name in HOSTS}
        groups = {"managers": {"hosts": {"one": hosts.pop("one")}}, "workers": {"hosts": hosts}}
        every = {"ansible_connection": "local", "node_timeout": 3, "run_lock": {"others": []}}
        every |= {"deployed_store": {"beside": {}}, "redis_topology": "sentinel", "first_manager": "one"} | given
        (site / "hosts.yml").write_text(yaml.safe_dump({"all": {"vars": every, "children": groups}}))
        done = run(
            *("ansible-playbook", "-i", str(site / "hosts.yml"), str(PLAYBOOKS / f"{verb}.yml"), *options),
            *("-e", json.dumps(given)),
            ANSIBLE_ROLES_PATH=f"{site / 'roles'}:{ROOT / 'roles'}",
            DOCKER_HOST=f"unix://{site}/one.sock",
        )
    return done.returncode == 0, re.sub(r"\s+", " ", done.stdout + done.stderr)


def placed(labels: dict[str, list[str]], away: str = "") -> list[dict[str, Any]]:
    """Return the nodes of a swarm with these labels, and one that is drained."""
    found = [describe(name, "manager") for name in labels]
    for one in found:
        one["Spec"]["Labels"] |= {f"counter.{label}": "here" for label in labels[one["ID"]]}
        one["Spec"]["Availability"] = "drain" if one["ID"] == away else "active"
    return found


SPREAD = {host: [f"redis-{number}", f"sentinel-{number}"] for number, host in enumerate(HOSTS, 1)}
PAIRED = {"one": ["redis-1", "redis-5"], "two": ["redis-2", "redis-6"], "three": ["redis-3", "redis-4"]}
FIVE = SPREAD | {"four": ["redis-4"], "five": ["redis-5"], "six": []}


@needs_docker
def test_a_host_is_emptied_one_service_after_the_other_and_filled_again(tmp_path: Path) -> None:
    swarm = Swarm()
    done, said = node(tmp_path, swarm, "two", "drained")
    assert done, said
    assert swarm.asked == [
        "counter_app +node.id!=two",
        "counter-redis_redis-2 +node.id!=two",
        "two drain",
        "counter-redis_redis-2 -node.id!=two",
        "counter_app -node.id!=two",
    ]
    assert 'in sync: counter-redis_redis-1 at {"one": "one", "three": "three", "two": "two"}' in said.replace("\\", "")
    assert swarm.held("counter_app").keys() == {"one", "three"}
    assert "two" not in {place for service in swarm.services for place in service.tasks.values()}
    # Again, and with nothing to do.
    swarm.asked.clear()
    done, said = node(tmp_path, swarm, "two", "drained")
    assert done, said
    assert swarm.asked == []
    assert "changed=0" in said

    done, said = node(tmp_path, swarm, "two", "active")
    assert done, said
    assert swarm.asked == ["two active", "counter_app 4", "counter_app 3"]
    assert swarm.held("counter_app") == {"one": 1, "two": 1, "three": 1}
    assert swarm.held("counter-redis_redis-2") == {"two": 1}


@needs_docker
@pytest.mark.parametrize("stuck", ["counter-redis_redis-2", "counter_edge"])
def test_a_service_that_does_not_leave_undoes_everything(tmp_path: Path, stuck: str) -> None:
    swarm = Swarm(stuck=stuck)
    done, said = node(tmp_path, swarm, "two", "drained")
    assert not done
    assert ("two drain" in swarm.asked) == (stuck == "counter_edge")
    assert "two was not taken out of service, and takes tasks again. This failed: Wait until the host runs it" in said
    assert swarm.nodes["two"]["Spec"]["Availability"] == "active"
    assert not any(service.constraints for service in swarm.services)


@needs_docker
def test_nodes_that_are_not_in_sync_stay(tmp_path: Path) -> None:
    swarm = Swarm()
    done, said = node(tmp_path, swarm, "two", "drained", not_in_sync=True)
    assert not done, said
    assert swarm.asked == []


@needs_docker
def test_what_an_interrupted_run_left_is_removed(tmp_path: Path) -> None:
    swarm = Swarm()
    swarm.services[0].constraints = ["node.id!=two"]
    swarm.nodes["two"]["Spec"]["Availability"] = "drain"
    swarm.place()
    done, said = node(tmp_path, swarm, "two", "active")
    assert done, said
    assert swarm.asked[:2] == ["two active", "counter_app -node.id!=two"]
    assert swarm.held("counter_app") == {"one": 1, "two": 1, "three": 1}


@needs_docker
@pytest.mark.parametrize(
    ("host", "given", "says"),
    [
        ("two", {"run_lock": {"others": ["second"]}}, "A run of the stack second may need this host."),
        ("away", {}, "host=away: the swarm has no node of this host. This adds it: ./counter deploy"),
        ("two", {"write_concern": "all"}, "counter: all counters, since 3 of 3 Redis nodes are needed. If that is"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_changes(
    tmp_path: Path, host: str, given: dict[str, Any], says: str
) -> None:
    swarm = Swarm()
    done, said = node(tmp_path, swarm, host, "drained", **given)
    assert not done
    assert "Nothing was changed." in said
    assert says in said
    assert swarm.asked == []


@needs_docker
def test_counters_wait_only_if_that_was_allowed(tmp_path: Path) -> None:
    swarm = Swarm(replicated=False)
    given = {"redis_topology": "standalone"}
    done, said = node(tmp_path, swarm, "one", "drained", **given)
    assert not done
    assert "these would wait (503), and nothing would be lost: counter: the counters of redis-1. If that is" in said
    assert "-e allow_pause=true" in said
    assert swarm.asked == []
    done, said = node(tmp_path, swarm, "one", "drained", allow_pause=True, **given)
    assert done, said
    assert "one drain" in swarm.asked
    assert "Until it is back, these wait: counter: the counters of redis-1" in said
    # The only one left, and one that is down.
    swarm.nodes["two"]["Status"]["State"] = "down"
    assert "host=two: its node is down" in node(tmp_path, swarm, "two", "drained", **given)[1]
    assert "no other node of the swarm is ready" in node(tmp_path, swarm, "three", "drained", **given)[1]


@needs_docker
def test_other_stacks_of_the_project_count_and_strangers_do_not(tmp_path: Path) -> None:
    """A stack of somebody else stops when the node is drained, as Swarm does it."""
    swarm = Swarm()
    swarm.nodes["two"]["Spec"]["Labels"]["second.redis-1"] = "here"
    swarm.services += [Service("second_app", 2, tasks={1: "two", 2: "three"})]
    swarm.services += [Service("second-redis_redis-1", 1, "second.redis-1")]
    swarm.place()
    release = {"verdict": "serving", "settings": {"redis_topology": "standalone", "redis_replicas": 1}}
    release["settings"] |= {"write_concern": "none"}  # type: ignore[operator]
    beside = {"second": json.dumps({"releases": [release]}), "removed": json.dumps({"releases": []})}
    given = {"deployed_store": {"beside": beside}}
    done, said = node(tmp_path, swarm, "two", "drained", **given)
    assert not done
    assert "second: the counters of redis-1" in said
    done, said = node(tmp_path, swarm, "two", "drained", allow_pause=True, **given)
    assert done, said
    assert [asked.partition(" ")[0] for asked in swarm.asked[:5]] == [
        *("counter_app", "second_app", "counter-redis_redis-2", "second-redis_redis-1", "two"),
    ]
    assert not any("foreign" in asked for asked in swarm.asked)


@needs_docker
def test_a_check_changes_nothing(tmp_path: Path) -> None:
    swarm = Swarm()
    done, said = node(tmp_path, swarm, "two", "drained", "--check")
    assert done, said
    assert swarm.asked == []
    assert "two would run nothing of counter any more" in said


def absent(site: Path, swarm: Swarm, host: str, **given: Any) -> tuple[bool, str]:
    """Remove a host for good; its settings are below ``site``."""
    return node(site, swarm, host, "absent", state_dir=str(site / "state/counter"), **given)


@needs_docker
def test_a_host_leaves_for_good(tmp_path: Path) -> None:
    swarm = Swarm()
    (tmp_path / "state/counter").mkdir(parents=True)
    done, said = absent(tmp_path, swarm, "two")
    assert done, said
    assert [asked for asked in swarm.asked if asked.startswith("two")] == ["two drain", "two removed"]
    assert not (tmp_path / "state").exists()
    assert "two is no longer part of the swarm. Remove it from the inventory" in said
    done, said = absent(tmp_path, swarm, "two")
    assert done, said
    assert "two is not part of the swarm." in said


@needs_docker
def test_a_host_that_is_gone_is_removed(tmp_path: Path) -> None:
    swarm = Swarm()
    swarm.nodes["two"]["Status"]["State"] = "down"
    done, said = absent(tmp_path, swarm, "two", dead=True)
    assert done, said
    assert swarm.asked == ["two removed"]


@needs_docker
def test_a_host_that_is_needed_is_not_removed(tmp_path: Path) -> None:
    swarm = Swarm(replicated=False)
    given: dict[str, Any] = {"redis_topology": "standalone", "dead": True}
    assert "host=one is the first manager" in absent(tmp_path, swarm, "one", **given)[1]
    assert "host=two: its node answers, so it is not dead" in absent(tmp_path, swarm, "two", **given)[1]
    swarm.nodes["two"]["Spec"]["Labels"]["counter.redis-1"] = swarm.nodes["one"]["Spec"]["Labels"].pop(
        "counter.redis-1"
    )
    swarm.nodes["two"]["Status"]["State"] = "down"
    done, said = absent(tmp_path, swarm, "two", **given)
    assert not done
    assert "Nothing was changed. host=two has the only copy of counter: the counters of redis-1." in said
    assert swarm.asked == []
    done, said = absent(tmp_path, swarm, "two", confirm="counter", **given)
    assert done, said
    assert swarm.asked == ["two removed"]


@pytest.mark.parametrize(
    ("labels", "topology", "replicas", "down", "lost"),
    [
        (SPREAD, "sentinel", 3, [], ""),
        (SPREAD, "sentinel", 3, ["two", "three"], "redis-1"),
        (PAIRED, "cluster", 6, [], ""),
        (PAIRED, "cluster", 6, ["two"], "redis-5"),
        (PAIRED, "cluster", 3, [], "redis-1"),
        ({"one": ["redis-1"], "two": []}, "standalone", 1, [], "redis-1"),
        ({"one": [], "two": ["redis-1"]}, "standalone", 1, [], ""),
        (SPREAD, "external", 0, [], ""),
    ],
)
def test_what_is_lost_with_a_host(
    labels: dict[str, list[str]], topology: str, replicas: int, down: list[str], lost: str
) -> None:
    stacks = {"counter": {"redis_topology": topology, "redis_replicas": replicas}}
    swarm = placed(labels)
    for one in swarm:
        one["Status"]["State"] = "down" if one["ID"] in down else "ready"
    found = placement.lost_without(swarm, "one", stacks, TOPOLOGIES)
    assert found == ([f"counter: the counters of {lost}"] if lost else [])


def reboot(site: Path, swarm: Swarm, reason: str = "", **given: Any) -> tuple[bool, str]:
    """Run the verb ``reboot`` where all hosts have the same reason to be rebooted, and are this machine."""
    given |= {"docker_host_state": {"health": {"reboot": reason}}, "run_record": {"verb": "reboot"}}
    return play(site, swarm, "hosts", **given)


@needs_docker
def test_a_turn_that_was_interrupted_goes_on(tmp_path: Path) -> None:
    swarm = Swarm()
    done, said = reboot(tmp_path, swarm)
    assert done, said
    assert "No host needs it." in said
    assert swarm.asked == []
    swarm.nodes["two"]["Spec"]["Labels"]["counter.turn"] = "reboot"
    swarm.nodes["two"]["Spec"]["Availability"] = "drain"
    swarm.place()
    done, said = reboot(tmp_path, swarm)
    assert done, said
    assert "two: rebooted." in said
    assert swarm.nodes["two"]["Spec"]["Availability"] == "active"
    assert "counter.turn" not in swarm.nodes["two"]["Spec"]["Labels"]


@needs_docker
def test_what_cannot_reboot_is_refused_before_anything_changes(tmp_path: Path) -> None:
    swarm = Swarm()
    done, said = reboot(tmp_path, swarm, "a newer kernel")
    assert not done
    assert "Nothing was changed. three, two, one is the machine on which this runs" in said
    for name in ("two", "three"):
        swarm.nodes[name]["Status"]["State"] = "down"
    swarm.nodes["one"]["Spec"]["Labels"]["counter.turn"] = "reboot"
    done, said = reboot(tmp_path, swarm)
    assert not done
    assert "one is the only node of the swarm, so nothing serves meanwhile" in said
    assert swarm.asked == []


@pytest.mark.parametrize(
    ("held", "options", "spreads"),
    [(["one", "one"], {}, True), (["one", "one"], {"rebalance": False}, False), (["one", "two"], {}, False)],
)
def test_a_deployment_spreads_replicas_that_are_not(
    tmp_path: Path, held: list[str], options: dict[str, Any], *, spreads: bool
) -> None:
    manager = Manager(tmp_path)
    tasks = [{"node_id": host, "desired": "running", "state": "running"} for host in held]
    app = {"name": "counter_app", "mode": "replicated", "wanted": 2, "tasks": tasks}
    rows = [{"id": host, "name": host, "state": "ready", "availability": "active"} for host in ("one", "two")]
    deployed = {"ansible.builtin.set_fact": {"stack_state": {"services": [app], "nodes": rows}}}
    noted = {"ansible.builtin.debug": {"msg": "spread {{ stack_spread[0].name }} by {{ stack_spread[0].moves }}"}}
    for file, task in {"deploy": deployed, "spread": noted}.items():
        (tmp_path / f"roles/stack/tasks/{file}.yml").write_text(yaml.safe_dump([task]))
    done = manager.play("record", options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("spread counter_app by 1" in done.stdout) == spreads


# -- The filters


@pytest.mark.parametrize(
    ("labels", "topology", "replicas", "concern", "away", "waits"),
    [
        (SPREAD, "sentinel", 3, "majority", "", ""),
        (SPREAD, "sentinel", 3, "none", "", ""),
        (SPREAD, "sentinel", 3, "all", "", "all counters, since 3 of 3 Redis nodes are needed"),
        (SPREAD, "sentinel", 3, "majority", "three", "all counters, since 2 of 3 Redis nodes are needed"),
        (FIVE, "sentinel", 5, "majority", "four", ""),
        (FIVE, "sentinel", 5, "majority", "three", "all counters, since 2 of 3 Sentinels are needed"),
        (FIVE, "sentinel", 5, "none", "six", ""),
        (PAIRED, "cluster", 6, "majority", "", "the counters of the pairs of redis-1, redis-5"),
        (PAIRED, "cluster", 6, "none", "", "the counters of the pairs of redis-1, redis-5"),
        ({"one": ["redis-1"], "two": []}, "standalone", 1, "none", "", "the counters of redis-1"),
        ({"one": [], "two": ["redis-1"]}, "standalone", 1, "none", "", ""),
        # A node of a former topology.
        ({"one": ["redis-2", "sentinel-1"], "two": ["redis-1"]}, "standalone", 1, "none", "", ""),
        (SPREAD, "external", 0, "none", "", ""),
    ],
)
def test_what_waits_without_a_host(  # noqa: PLR0913, PLR0917
    labels: dict[str, list[str]], topology: str, replicas: int, concern: str, away: str, waits: str
) -> None:
    stacks = {"counter": {"redis_topology": topology, "redis_replicas": replicas, "write_concern": concern}}
    table = {name: TOPOLOGIES["standalone"] | shape for name, shape in TOPOLOGIES.items()}
    found = placement.waiting_without(placed(labels, away), "one", stacks, table)
    assert found == ([f"counter: {waits}"] if waits else [])


def test_the_node_of_a_host_that_joined_again_is_the_one_that_is_up() -> None:
    former, present = describe("former", "worker"), describe("present", "worker")
    for one in (former, present):
        one["Spec"]["Labels"] = {"counter.host": "one"}
    former["Status"]["State"] = "down"
    assert nodes.node_of_host([former, present], "one") == present
    assert nodes.node_of_host([former], "one") == former
    assert nodes.node_of_host([former], "two") == {}
    stranger = describe("stranger", "worker")
    stranger["Spec"]["Labels"] = None
    assert nodes.hosts_of_nodes([former, present, stranger]) == {"one": "present"}


def test_hosts_have_their_turns_in_their_order_but_first_those_that_are_out_of_service() -> None:
    swarm = [describe(name, "manager") for name in HOSTS]
    swarm[2]["Spec"]["Labels"]["counter.turn"] = "upgrade"
    turns = nodes.host_turns(
        swarm, {"two": ["docker.io"], "three": [], "one": ["bash"], "away": ["bash"]}, "counter.turn"
    )
    assert [(turn["host"], turn["node"], turn["needs"]) for turn in turns] == [
        ("three", "three", []),
        ("two", "two", ["docker.io"]),
        ("one", "one", ["bash"]),
    ]
    assert nodes.host_turns(swarm, {"two": "", "one": ""}, "counter.turn") == []


SIMULATED = """Reading package lists...
Inst libssl3 [3.5.1-1] (3.5.1-1+deb13u1 Debian-Security:13/stable-security [amd64])
Inst bash [5.2.37-2] (5.2.37-3 Debian:13.2/stable [amd64])
Inst linux-image-6.12.50 (6.12.50-1 Debian:13.2/stable, Debian-Security:13/stable-security [amd64])
Inst docker.io [26.1.5-1] (26.1.5-2 Debian:13.2/stable [amd64]) []
Conf bash (5.2.37-3 Debian:13.2/stable [amd64])
"""


@pytest.mark.parametrize(
    ("which", "packages"),
    [
        ("all", ["libssl3", "bash", "linux-image-6.12.50", "docker.io"]),
        ("security", ["libssl3", "linux-image-6.12.50"]),
        ("engine", ["docker.io"]),
    ],
)
def test_packages_are_chosen(which: str, packages: list[str]) -> None:
    assert nodes.package_upgrades(SIMULATED, which) == packages


@pytest.mark.parametrize(
    ("held", "moves"),
    [
        ([2, 2, 2], 0),
        ([2, 1, 1], 0),
        ([3, 3, 0], 2),
        ([4, 2, 2], 1),
        ([1, 0, 1], 0),
        ([2, 0, 0], 1),
        ([0, 2, 2], 1),
        ([1, 0, 0], 0),
    ],
)
def test_only_as_many_replicas_move_as_needed(held: list[int], moves: int) -> None:
    tasks = [
        {"node_id": host, "desired": "running", "state": "running"}
        for host, count in zip(HOSTS, held, strict=True)
        for _ in range(count)
    ]
    service = {"name": "counter_app", "mode": "replicated", "wanted": len(tasks), "tasks": tasks}
    edges = {"name": "counter_edge", "mode": "global", "wanted": 3, "tasks": tasks}
    rows = [{"id": host, "name": host, "state": "ready", "availability": "active"} for host in HOSTS]
    drained = {"id": "four", "name": "four", "state": "ready", "availability": "drain"}
    found = nodes.uneven([service, edges], [*rows, drained])
    assert [row["moves"] for row in found] == ([moves] if moves else [])
    if found:
        assert found[0]["spread"] == dict(zip(HOSTS, held, strict=True))
