"""What is deployed is what scale, status and bench go by, whatever they are told."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import Environment, nodes
from manager import Manager, recorded
from support.ansible import MANAGERS, ROOT, last_task, run, stand_in_for_the_engine
from support.https import SITE, certificate, pem

from plugins.filter.settings import options_of_verbs, settings_options

JINJA = Environment(autoescape=True)
# What the app and the edge are rendered from.
SOURCES = [
    *(ROOT / "templates" / name for name in ("counter.stack.yml.j2", "haproxy.cfg.j2")),
    *(ROOT / "roles/counter").rglob("*.yml"),
    *(ROOT / "roles/edge").rglob("*.yml"),
]
SETTINGS = settings_options(str(ROOT))

DEPLOYED = {
    "app_threads": 7,
    "app_deadline_seconds": 9,
    "app_environment": {"COUNTER_HISTORY_LOG": "true"},
    "app_cpus": 0.5,
    "app_memory": "192M",
    "edge_max_requests": 32,
    "edge_memory": "96M",
    "http_port": 8080,
    "overlay_encrypted": True,
    "redis_tls": True,
}
"""Settings as deploy gets them."""


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Manager:
    return Manager(tmp_path_factory.mktemp("site"), recorded(tmp_path_factory, "remembered", DEPLOYED))


def test_every_setting_that_is_rendered_is_recorded(manager: Manager) -> None:
    """But for the number of replicas, which scale changes, and secrets, which have files of their own."""
    used = set()
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        used |= set(re.findall(r"\bdesired\.(\w+)", text))
        # Not as this run was given it. The name of the stack says which stack is meant.
        names = {node.name for node in JINJA.parse(text).find_all(nodes.Name)}
        assert names & set(SETTINGS) <= {"stack_name"}, path
    assert {"edge", "app_cpus", "edge_max_requests", "overlay_encrypted"} <= used
    recorded = json.loads((manager.state / "deployed.json").read_text())["settings"]
    assert used - {"replicas"} <= set(recorded)
    assert recorded.items() >= DEPLOYED.items()


def test_neither_secrets_nor_options_of_one_run_are_recorded(manager: Manager) -> None:
    recorded = json.loads((manager.state / "deployed.json").read_text())["settings"]
    secrets = {name for name, spec in SETTINGS.items() if spec.get("no_log")}
    assert secrets == {
        *("edge_certificates", "redis_url", "redis_password"),
        *("backup_password", "backup_environment", "backup_report_url", "backup_heartbeat_url"),
        *("notify_urls", "heartbeat_url"),
    }
    options = set(options_of_verbs(str(ROOT)))
    assert {"lock_wait", "purge", "release", "on", "replicas"} <= options
    assert set(recorded) == set(SETTINGS) - secrets - options


def test_the_app_looks_up_no_redis_node_outside_of_the_stack(manager: Manager) -> None:
    """Its own nodes have names of the network; while one is down, a server of the site could know the name too."""
    stack = yaml.safe_load((manager.state / "counter/stack.yml").read_text())
    assert stack["services"]["app"]["dns"] == ["127.0.0.1"]


def test_scale_renders_what_was_deployed(manager: Manager) -> None:
    before = manager.files()
    assert set(before) == {
        "deployed.json",
        "releases.json",
        *(f"counter/{name}" for name in ("stack.yml", "redis_password", "redis_ca")),
    }
    # What is deployed already may be typed again, and comes as text.
    typed: dict[str, Any] = {
        "edge": "proxy",
        "app_threads": "7",
        "app_cpus": "0.5",
        "overlay_encrypted": "yes",
        "replicas": 4,
    }
    assert manager.scale(**typed)["settings"].items() >= DEPLOYED.items()
    assert manager.files() == before
    manager.scale(replicas=2)
    after = manager.files()
    assert after == before | {
        "counter/stack.yml": before["counter/stack.yml"].replace("      replicas: 4\n", "      replicas: 2\n")
    }
    assert after != before


def test_scale_keeps_who_is_told_of_problems(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    """The addresses are secrets, which only deployments are given."""
    told = {"notify_urls": ["json://hooks.example/token"], "heartbeat_url": "https://watch.example/token"}
    manager = Manager(tmp_path, recorded(tmp_path_factory, "told", DEPLOYED | told))
    before = manager.files()
    assert json.loads(before["keeper/plan.json"]).items() >= (told | {"replicas": 4, "edges": 1}).items()
    assert "token" not in before["counter/stack.yml"] + before["deployed.json"]
    manager.scale(replicas=2)
    after = manager.files()
    plan = json.loads(before["keeper/plan.json"]) | {"replicas": 2}
    assert json.loads(after["keeper/plan.json"]) == plan
    # Another plan is another secret, with which another task starts.
    name = re.compile("name: counter_keeper-([0-9a-f]+)")
    assert name.findall(before["counter/stack.yml"]) != name.findall(after["counter/stack.yml"]) != []


def test_scale_leaves_the_edges_of_the_mesh_and_the_manager_that_is_asked_answers_first(
    manager: Manager, tmp_path: Path
) -> None:
    """A host that is only in the inventory does not count, nor does one count that has left it.

    The one that was the first when the stack was deployed may be gone.
    """
    state = shutil.copytree(manager.state, tmp_path / "state")
    document = json.loads((state / "deployed.json").read_text())
    assert document["swarm"] == "ours"
    document["settings"]["edge"] = "mesh"
    document["addresses"] = ["192.0.2.10", "192.0.2.12", "192.0.2.11"]
    (state / "deployed.json").write_text(json.dumps(document))
    stack = state / "counter/stack.yml"
    stack.write_text(stack.read_text().replace("mode: host", "mode: ingress"))
    assert manager.scale(state, replicas=2)["addresses"] == ["192.0.2.11", "192.0.2.10", "192.0.2.12"]
    services = yaml.safe_load(stack.read_text())["services"]
    assert (services["app"]["deploy"]["replicas"], services["edge"]["deploy"]["replicas"]) == (2, 3)


def test_scale_is_refused_after_a_deployment_that_replaced_a_password_and_did_not_end(
    manager: Manager, tmp_path: Path
) -> None:
    state = shutil.copytree(manager.state, tmp_path / "state")
    (state / "counter/redis_password").write_text("another")
    before = (state / "counter/stack.yml").read_text()
    done = manager.play("recall", {"replicas": 3}, state)
    assert done.returncode != 0
    assert "changed the password of Redis and was interrupted" in done.stdout
    assert (state / "counter/stack.yml").read_text() == before


def test_what_scale_would_not_change_is_refused(manager: Manager) -> None:
    done = manager.play("recall", {"edge": "mesh", "app_threads": 8, "replicas": 2})
    assert done.returncode != 0
    for said in (
        "edge=mesh: must be omitted, or be the deployed value proxy",
        "-e app_threads=8",
        "./counter deploy -e edge=mesh",
    ):
        assert said in done.stdout, done.stdout
    assert "replicas=" not in done.stdout.replace("redis_replicas=", "")


def test_an_interrupted_maintenance_leaves_a_configuration_that_no_edge_has_loaded(
    manager: Manager, tmp_path: Path
) -> None:
    """So `status` names the edges, instead of saying that the stack is in maintenance while they serve all clients."""
    state = shutil.copytree(manager.state, tmp_path / "state")
    # Another version of the project deployed what runs.
    document = json.loads((state / "deployed.json").read_text()) | {"version": "0.9.0"}
    (state / "deployed.json").write_text(json.dumps(document))
    versions = []
    for on in (True, False):
        done = manager.play("maintain", {"on": on, "edge_directory": str(tmp_path / "edge")}, state, "maintenance")
        assert done.returncode == 0, done.stdout + done.stderr
        now = json.loads((state / "deployed.json").read_text())
        recorded = now["edge"]
        assert now == document | {"edge": recorded}
        assert recorded == last_task(done)["host"]["msg"]
        assert json.loads((state / "releases.json").read_text())["releases"][-1]["edge"] == recorded
        assert bool(json.loads((state / "maintenance.json").read_text())) == on
        versions.append(recorded)
    assert versions[0] != versions[1]
    assert not (tmp_path / "edge").exists()


def test_a_renewed_certificate_that_an_edge_does_not_load_is_recorded(tmp_path: Path) -> None:
    """So `status` names that edge, and not those that have loaded it."""
    manager = Manager(tmp_path)
    acme = {"edge_tls": "acme", "edge_domains": ["counter.example"]}
    assert manager.play("record", acme).returncode == 0
    pair = {"certificate.pem": certificate(SITE), "key.pem": pem(SITE), "account.pem": pem(SITE)}
    (manager.state / "acme").mkdir()
    for name, text in pair.items():
        (manager.state / "acme" / name).write_text(text)
    # A file in place of the directory, so that the edge fails.
    (tmp_path / "edge").touch()
    done = manager.play("renew", {"edge_directory": str(tmp_path / "edge")}, verb="certificates")
    assert done.returncode != 0
    assert "Load the configuration of the edge, without closing a connection" in done.stdout
    recorded = json.loads((manager.state / "deployed.json").read_text())
    assert recorded["edge"]
    assert [one["names"] for one in recorded["certificates"]] == [["counter.example"]]


def test_a_part_of_the_counters_is_not_served(manager: Manager, tmp_path: Path) -> None:
    """Until a restore has ended, Redis may hold only a part of the backup."""
    state = tmp_path / "state"
    shutil.copytree(manager.state, state)
    (state / "restore.json").write_text('{"backup": "20261126T030000Z", "before": "20261126T040000Z"}')
    done = manager.play("recall", {"replicas": 2}, state)
    assert done.returncode != 0
    assert "A restore of 20261126T030000Z into counter is unfinished" in done.stdout
    assert "./counter restore -e backup=20261126T040000Z" in done.stdout
    assert manager.scale(state, deployed_recall_to_change=False)["settings"]["app_threads"] == 7
    # As `promote` does: without a primary, the restore cannot be finished.
    assert manager.play("recall", {"deployed_recall_unfinished": True}, state).returncode == 0


def test_only_a_deployment_writes_to_a_manager_that_was_added(manager: Manager, tmp_path: Path) -> None:
    """It has no image, and perhaps no engine."""
    added = Manager(tmp_path, manager.state)
    hosts = tmp_path / "hosts.yml"
    inventory = yaml.safe_load(hosts.read_text())
    inventory["managers"]["hosts"]["new"] = inventory["managers"]["hosts"]["host"]
    hosts.write_text(yaml.safe_dump(inventory))
    shutil.copytree(added.state, tmp_path / "host")
    before = (tmp_path / "host/counter/stack.yml").read_text()
    done = added.play("recall", {"replicas": 3}, tmp_path / "{{ inventory_hostname }}")
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "host/counter/stack.yml").read_text() != before
    written = re.findall(r'"item": "(\w+)"', done.stdout)
    assert "host" in written
    assert "new" not in written


def test_a_first_manager_that_was_away_changes_nothing(manager: Manager, tmp_path: Path) -> None:
    """Another one was first meanwhile. Only a deployment takes its state over."""
    away = Manager(tmp_path, manager.state)
    shutil.copytree(away.state, tmp_path / "other")
    hosts = tmp_path / "hosts.yml"
    inventory = yaml.safe_load(hosts.read_text())
    inventory["managers"]["hosts"]["other"] = {"ansible_connection": "local"}
    hosts.write_text(yaml.safe_dump(inventory))
    shutil.copytree(away.state, tmp_path / "host")
    states = tmp_path / "{{ inventory_hostname }}"
    options = {"replicas": 2}
    assert away.play("recall", options, states).returncode == 0
    (tmp_path / "other/counter/redis_password").write_text("rotated")
    done = away.play("recall", options, states)
    assert done.returncode != 0
    assert "host missed changes of counter: other has newer files" in " ".join(done.stdout.split())
    assert away.play("recall", {**options, "deployed_recall_to_change": False}, states).returncode == 0


def test_nothing_is_recalled_where_nothing_is_deployed(manager: Manager, tmp_path: Path) -> None:
    done = manager.play("recall", {}, tmp_path / "nowhere")
    assert done.returncode != 0
    assert "No stack counter is deployed on host" in done.stdout
    assert "This deploys it: ./counter deploy" in re.sub(r"\s+", " ", done.stdout)


def test_the_logs_of_an_unfinished_deployment_can_be_read(manager: Manager, tmp_path: Path) -> None:
    """The other verbs refer to them."""
    state = tmp_path / "state"
    (state / "redis").mkdir(parents=True)
    (state / "redis/stack.yml").touch()
    reading = {"deployed_recall_to_change": False}
    done = manager.play("recall", reading, state)
    assert done.returncode != 0
    assert "This shows what an unfinished deployment printed there: ./counter logs" in done.stdout
    assert manager.play("recall", {**reading, "deployed_recall_unfinished": True}, state).returncode == 0
    # As `promote` does: the nodes may need a primary before anything can be deployed.
    said = manager.play("recall", {"deployed_recall_unfinished": True}, state).stdout
    assert "deployed : Use the deployed settings" in said
    assert "An earlier version of the project deployed counter" not in said


@pytest.mark.parametrize(("own", "first"), [("active", ["192.0.2.11"]), ("drain", [])])
def test_nobody_is_asked_at_a_node_that_is_gone_down_or_drained(tmp_path: Path, own: str, first: list[str]) -> None:
    def node(number: int, state: str = "ready", availability: str = "active") -> dict[str, Any]:
        status = {"State": state, "Addr": f"192.0.2.{number}"}
        return {"ID": f"id-{number}", "Spec": {"Availability": availability}, "Status": status}

    # The first is the manager that remembers all this, however the swarm calls its address.
    nodes = [node(11, availability=own) | {"Status": {"State": "ready", "Addr": "127.0.0.1"}}]
    nodes += [node(12), node(13, state="down"), node(14, availability="drain"), node(15, availability="pause")]
    engine_of_manager = {"host_info": {"Swarm": {"NodeID": "id-11"}}}
    recalled = {"addresses": [f"192.0.2.{number}" for number in range(11, 17)]}
    tasks = [
        {"ansible.builtin.import_role": {"name": "preflight", "tasks_from": "settings"}},
        {"ansible.builtin.set_fact": {"recalled": recalled, "docker_host_engine": engine_of_manager}},
        {"ansible.builtin.import_role": {"name": "counter", "tasks_from": "present"}},
        {"ansible.builtin.debug": {"msg": "{{ counter_addresses }}"}},
    ]
    (tmp_path / "hosts.yml").write_text(
        yaml.safe_dump({"managers": {"hosts": {"host": {"ansible_connection": "local"}}}})
    )
    play = {"hosts": MANAGERS, "gather_facts": False, "roles": ["settings"], "tasks": tasks}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    engine = stand_in_for_the_engine(tmp_path, docker_node_info={"nodes": nodes})
    done = run(
        *("ansible-playbook", "-i", tmp_path / "hosts.yml", tmp_path / "play.yml"),
        ANSIBLE_ROLES_PATH=str(ROOT / "roles"),
        **engine,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"^ +- (192\S+)$", done.stdout, re.MULTILINE) == [*first, "192.0.2.12", "192.0.2.15"]
    absent = "" if first else "192.0.2.11, "
    assert f"no node of the swarm is ready at {absent}192.0.2.13, 192.0.2.14, 192.0.2.16" in " ".join(
        done.stdout.split()
    )
