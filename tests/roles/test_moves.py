"""Which moves from one topology to another are made, which are refused, and what stands in the stack file meanwhile."""

from __future__ import annotations

import http.server
import json
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis import Redis
from redis.exceptions import NoPermissionError, ReadOnlyError
from support.ansible import PLAYBOOKS, ROOT, project_environment, render, results_by_host, run, stand_in_for_the_engine
from support.passwords import APP_PASSWORD
from support.ports import free_port
from support.waiting import wait_until
from support.workers import made_once

from plugins.filter.placement import volume_of

MOVABLE = ("standalone", "sentinel", "cluster")
ENGINE = {"host_info": {"ServerVersion": "26.1.5", "Swarm": {"NodeAddr": "127.0.0.1"}}}


def case(
    former: str,
    asked: str,
    *,
    app: str = "",
    move: bool = False,
    tls: tuple[bool, bool] = (False, False),
    **moving: Any,
) -> dict[str, Any]:
    """Return the variables of a host on which ``former`` is deployed and ``asked`` is desired.

    ``app``: what the app uses, if not ``former``; ``tls``: of both.
    """
    nodes = {"sentinel": 3, "cluster": 6}.get(former, 1)
    labels = {f"counter.redis-{number + 1}": "here" for number in range(nodes)}
    return {
        "deployed": {
            "settings": {"redis_topology": app or former},
            "redis": {"topology": former, "nodes": nodes, "tls": tls[0]},
            "move": {"from": former, "nodes": nodes, **moving} if moving else {},
        },
        "swarm_nodes": {"nodes": [{"ID": "id-1", "Spec": {"Labels": labels}}]},
        "redis_tls": tls[1],
        "redis_topology": asked,
        "redis_move": move,
    }


ALLOWED = {
    **{f"{one}-{other}": case(one, other, move=True) for one in MOVABLE for other in MOVABLE},
    "broken-off": case("standalone", "cluster", move=True, to="sentinel", proved=False),
    "back": case("standalone", "standalone", to="sentinel", proved=False),
    "back-to-all": case("cluster", "cluster", to="standalone", proved=False),
    "finish": case("standalone", "sentinel", move=True, to="sentinel", proved=True),
}
REFUSED = {
    **{f"{one}-{other}-unasked": case(one, other) for one in MOVABLE for other in MOVABLE if one != other},
    **{f"independent-{one}": case("independent", one, move=True) for one in MOVABLE},
    **{f"{one}-independent": case(one, "independent", move=True) for one in MOVABLE},
    "third": case("standalone", "cluster", move=True, to="sentinel", proved=True),
    "from-tls": case("standalone", "sentinel", move=True, tls=(True, False)),
    "to-tls": case("standalone", "sentinel", move=True, tls=(False, True)),
    "too-late": case("standalone", "standalone", move=True, to="sentinel", proved=True),
    "back-to-fewer": case("cluster", "cluster", to="standalone", proved=False) | {"redis_replicas": 3},
    "after-external": case("standalone", "sentinel", move=True, app="external"),
}
REASONS = {
    "standalone-sentinel-unasked": "./counter deploy -e redis_topology=sentinel -e redis_replicas=3 -e redis_move=true",
    "cluster-standalone-unasked": "./counter deploy -e redis_topology=cluster -e redis_replicas=6",
    "independent-standalone": "have diverged",
    "sentinel-independent": "-e stack_name=divergence",
    "from-tls": "./counter destroy, which keeps the data",
    "after-external": "./counter deploy -e redis_topology=standalone. To keep the counters of external, export them",
    "third": "./counter deploy -e redis_topology=sentinel -e redis_move=true",
    "too-late": "a move to sentinel is unfinished, and all counters are there already",
    "back-to-fewer": "./counter deploy -e redis_topology=cluster -e redis_replicas=6",
}


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Return what is said against each case, and how many nodes hold all counters."""

    def judge(site: Path) -> dict[str, dict[str, Any]]:
        (site / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": ALLOWED | REFUSED}}))
        found = results_by_host(PLAYBOOKS / "moves.yml", site / "hosts.yml")
        return {host: result["msg"] for host, result in found.items()}

    return made_once(tmp_path_factory, "judged-moves", judge)


def test_the_table_of_moves(judged: dict[str, dict[str, Any]]) -> None:
    assert {name for name, found in judged.items() if not found["says"]} == set(ALLOWED)
    assert {name for name, found in judged.items() if found["says"]} == set(REFUSED)


def test_the_nodes_that_hold_all_counters_are_the_primaries(judged: dict[str, dict[str, Any]]) -> None:
    primaries = {"standalone": 1, "sentinel": 1, "cluster": 3}
    for one, other in product(MOVABLE, MOVABLE):
        assert int(judged[f"{one}-{other}"]["primaries"]) == primaries[one]


@pytest.mark.parametrize("name", REASONS)
def test_a_refusal_says_why_and_what_works(judged: dict[str, dict[str, Any]], name: str) -> None:
    assert REASONS[name] in judged[name]["says"][0]


# -- How a move begins, with modules that stand for the engine

SEEN = {"demo": 3, "visits": 5}


class Beginning:
    """A first manager that has topology standalone, in a directory, and an app that shows its counters."""

    def __init__(self, site: Path, port: int) -> None:
        self.site, self.state = site, site / "state/redis"
        for made in (self.state, site / "roles/stack/tasks"):
            made.mkdir(parents=True)
        names = ("docker_swarm_service", "docker_host_info", "docker_volume", "docker_node")
        answer: dict[str, Any] = {"containers": [], "networks": []}
        (docker := site / "bin/docker").parent.mkdir()
        docker.write_text('#!/bin/sh\necho "docker-$1-$2" >> "$CALLS"\necho "Nothing found in stack: $3" >&2\n')
        docker.chmod(0o755)
        self.engine = stand_in_for_the_engine(site, docker_container_exec={}, **dict.fromkeys(names, answer))
        self.engine["PATH"] = f"{docker.parent}:{project_environment()['PATH']}"
        compared = {"services": [{"name": "counter-redis_redis-1", "failure": "", "pending": ""}]}
        (site / "roles/stack/tasks/compare.yml").write_text(
            yaml.safe_dump([{"name": "Compare", "ansible.builtin.set_fact": {"stack_compared": compared}}])
        )
        for tasks in ("gone", "remove"):
            shutil.copy(ROOT / f"roles/stack/tasks/{tasks}.yml", site / "roles/stack/tasks")
        (self.state / "redis.json").write_text(json.dumps({"topology": "standalone", "nodes": 1, "tls": False}))
        (self.state / "stack.yml").write_text("services: {redis-1: {volumes: ['redis-1:/data']}}\n")
        recorded = {"format": 2, "addresses": ["127.0.0.1"], "settings": {"http_port": port}}
        self.deployed.write_text(json.dumps(recorded))
        node = {"ID": "id-1", "Spec": {"Labels": {"counter.redis-1": "here"}}, "Description": {"Hostname": "host"}}
        host = {
            "ansible_connection": "local",
            "docker_host_engine": ENGINE,
            "swarm_nodes": {"nodes": [node]},
            "swarm_node": {"host_info": {"Swarm": {"NodeID": "id-1"}}},
        }
        (site / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": {"host": host}}}))

    @property
    def deployed(self) -> Path:
        return self.state.parent / "deployed.json"

    def noted(self) -> dict[str, Any]:
        """Return what stands in move.json; nothing where it is not there."""
        path = self.state / "move.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def deploy(self, topology: str, broken: str = "") -> tuple[bool, list[str]]:
        """Deploy as far as the move goes; return whether it succeeded, and which modules were called."""
        calls = self.site / "calls"
        calls.write_text("")
        done = run(
            *("ansible-playbook", "-i", self.site / "hosts.yml", PLAYBOOKS / "begin_move.yml"),
            *("-e", f"redis_topology={topology}", "-e", "redis_move=true", "-e", f"state_dir={self.site / 'state'}"),
            ANSIBLE_ROLES_PATH=f"{self.site / 'roles'}:{ROOT / 'roles'}",
            **self.engine | {"BROKEN": broken},
        )
        print(done.stdout)  # pytest shows it where the test fails
        return done.returncode == 0, calls.read_text().split()


class Shop(http.server.BaseHTTPRequestHandler):
    """The app, as far as a move asks it."""

    def do_GET(self) -> None:
        body = json.dumps({"counters": SEEN}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def broken_off(tmp_path: Path) -> Beginning:
    """Return a move to sentinel that was broken off when it was about to stop the app, and the app has gone since."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Shop) as app:
        threading.Thread(target=app.serve_forever, daemon=True).start()
        found = Beginning(tmp_path, app.server_port)
        succeeded, calls = found.deploy("sentinel", broken="docker_swarm_service")
        app.shutdown()
    assert (succeeded, calls) == (False, ["docker_swarm_service"])
    begun = {"from": "standalone", "to": "sentinel", "nodes": 1, "sources": [], "seen": SEEN, "proved": False}
    assert found.noted() == begun
    return found


def test_a_move_that_was_broken_off_before_the_nodes_stopped_goes_on(broken_off: Beginning) -> None:
    succeeded, calls = broken_off.deploy("sentinel")
    assert succeeded
    assert calls.index("docker_swarm_service") < calls.index("docker-stack-rm")
    assert (broken_off.noted()["sources"], broken_off.noted()["seen"]) == (["redis-1"], SEEN)
    assert not broken_off.deployed.exists()
    # From here on the nodes that held everything are known: they are not asked again.
    succeeded, calls = broken_off.deploy("sentinel")
    assert succeeded
    assert "docker_swarm_service" not in calls


def test_a_move_that_was_broken_off_before_the_nodes_stopped_is_given_up_while_they_run(broken_off: Beginning) -> None:
    # As after an attempt that came so far that the new nodes were deployed.
    (redis := broken_off.state / "redis.json").write_text(
        json.dumps({"topology": "sentinel", "nodes": 3, "tls": False})
    )
    succeeded, calls = broken_off.deploy("standalone")
    assert succeeded
    assert "docker-stack-rm" not in calls
    assert broken_off.noted() == {}
    assert json.loads(redis.read_text()) == {"topology": "standalone", "tls": False}


# -- The stack file of a move

MOVES: dict[str, dict[str, Any]] = {
    f"{one}-{other}": {
        "redis_topology": other,
        "moving": {"from": one, "to": other, "sources": sources, "proved": False},
    }
    for one, sources in (("standalone", ["redis-1"]), ("sentinel", ["redis-2"]), ("cluster", ["redis-1", "redis-5"]))
    for other in MOVABLE
    if one != other
}
AFTER = {f"{name}-after": {"redis_topology": knobs["redis_topology"]} for name, knobs in MOVES.items()}
SUFFIXES = {"standalone": "", "sentinel": "-sentinel", "cluster": "-cluster"}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Return the texts during each move and after it."""
    return made_once(
        tmp_path_factory, "moves", lambda site: render(site, MOVES | AFTER, "redis.stack.yml", "source.conf")
    )


def stack(texts: dict[str, str]) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(texts["redis.stack.yml"])
    return document


@pytest.mark.parametrize("name", MOVES)
def test_the_end_of_a_move_leaves_the_new_nodes_alone(rendered: dict[str, dict[str, str]], name: str) -> None:
    during, after = stack(rendered[name])["services"], stack(rendered[f"{name}-after"])["services"]
    assert {key: service for key, service in during.items() if key in after} == after
    assert set(during) - set(after) == {"move", *(f"old-{source}" for source in MOVES[name]["moving"]["sources"])}


@pytest.mark.parametrize("name", MOVES)
def test_old_and_new_nodes_have_no_volume_in_common(rendered: dict[str, dict[str, str]], name: str) -> None:
    one, other = name.split("-")
    document = stack(rendered[name])
    mounted = [volume for service in document["services"].values() for volume in service.get("volumes", [])]
    used = [volume for volume in mounted if isinstance(volume, str)]
    assert len(set(used)) == len(used)
    assert {volume.partition(":")[0] for volume in used} == set(document["volumes"])
    for key, service in document["services"].items():
        node = key.removeprefix("old-")
        if node.startswith("redis-"):
            assert volume_of(service) == f"{node}{SUFFIXES[one if key.startswith('old-') else other]}:/data"
            assert service["deploy"]["placement"]["constraints"] == [f"node.labels.counter.{node} == here"]


@pytest.mark.parametrize("name", MOVES)
def test_swarm_takes_the_name_of_the_secret(rendered: dict[str, dict[str, str]], name: str) -> None:
    names = [stored["name"] for stored in stack(rendered[name])["secrets"].values()]
    assert any(stored.startswith("counter-redis_redis_password-") for stored in names)
    assert max(map(len, names)) + 31 - len("counter") <= 64, names


@pytest.mark.skipif(not shutil.which("docker"), reason="no docker command here")
@pytest.mark.parametrize("name", MOVES)
def test_docker_reads_the_stack_file(rendered: dict[str, dict[str, str]], name: str, tmp_path: Path) -> None:
    (tmp_path / "stack.yml").write_text(rendered[name]["redis.stack.yml"])
    command = ["docker", "stack", "config", "--compose-file", str(tmp_path / "stack.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def source(rendered: dict[str, dict[str, str]], tmp_path: Path) -> Iterator[int]:
    """Show what a node left on its volume, with the rendered configuration; return the port."""
    port = free_port()
    place = ["--bind", "127.0.0.1", "--port", str(port)]
    node = ["redis-server", *place, "--dir", str(tmp_path), "--appendonly", "yes"]
    with subprocess.Popen(node, stdout=subprocess.DEVNULL) as server:
        wait_until("the node", Redis(port=port).ping)
        Redis(port=port).set("{a}:value", 5)
        server.send_signal(signal.SIGTERM)
        server.wait(20)
    config = rendered["sentinel-cluster"]["source.conf"].replace("dir /data", f"dir {tmp_path}")
    (tmp_path / "source.conf").write_text(config)
    with subprocess.Popen(["redis-server", tmp_path / "source.conf", *place], stdout=subprocess.DEVNULL) as server:
        try:
            yield port
        finally:
            server.kill()


def test_old_data_is_read_and_not_written(source: int) -> None:
    client = Redis(port=source, username="counter", password=APP_PASSWORD, decode_responses=True, protocol=2)
    wait_until("the source", client.ping)
    assert list(client.scan_iter()) == ["{a}:value"]
    assert (client.get("{a}:value"), client.type("{a}:value"), client.pttl("{a}:value")) == ("5", "string", -1)
    for command in ("SET {a}:value 6", "DEL {a}:value", "FLUSHALL", "CONFIG SET appendonly no", "SHUTDOWN"):
        with pytest.raises((NoPermissionError, ReadOnlyError)):
            client.execute_command(*command.split())


def test_no_move_keeps_a_password_in_the_environment(rendered: dict[str, dict[str, str]]) -> None:
    for name in MOVES:
        assert not re.search(rf"\b{APP_PASSWORD}\b", rendered[name]["redis.stack.yml"])
