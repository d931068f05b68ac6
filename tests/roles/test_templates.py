"""Every template, rendered by Ansible for every topology and edge, and read by the programs that will read it."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError
from support.ansible import ROOT, project_environment, render, run
from support.edge import FILES, HAPROXY, on_loopback
from support.followers import WAITS, following
from support.https import SITE, certificate, pem
from support.passwords import INTERNAL_PASSWORD, logins
from support.ports import free_port
from support.waiting import wait_until
from support.workers import made_once

from plugins.filter.rules import OWN_ENVIRONMENT

# What a move adds is in the stack files of test_moves.py.
TEMPLATES = sorted({path.stem for path in (ROOT / "templates").glob("*.j2")} - {"redis-move.stack.yml"})
TOPOLOGIES: list[str] = list(
    yaml.safe_load((ROOT / "roles/settings/vars/main/topologies.yml").read_text())["topologies"]
)
EDGES = ["proxy", "mesh"]

HTTPS = {
    "edge_tls": "own",
    "https_port": 8443,
    "edge_certificates": [{"certificate": certificate(SITE), "key": pem(SITE)}],
    "edge_domains": ["counter.example"],
    "edge_hsts_seconds": 86400,
}
ACME = {
    "edge_tls": "acme",
    "http_port": 80,
    "edge_domains": ["counter.example", "www.counter.example"],
    "stored": {
        "acme/account.pem": {"content": pem(SITE)},
        "acme/key.pem": {"content": pem(SITE)},
        "acme/certificate.pem": {"content": certificate(SITE)},
    },
}
MESSAGES = {
    "redis_topology": "sentinel",
    "backup_repository": "/srv/backups",
    "notify_urls": ["json://user:secret@hooks.example/counter"],
    "heartbeat_url": "https://watch.example/secret",
}
DOLLARS = "$HOME costs $5"
MAINTENANCE = {"text": "Back <soon>.", "allow": ["192.0.2.0/24", "198.51.100.7"], "pass": "let-me-through"}
COMBINATIONS: dict[str, dict[str, Any]] = (
    # Each topology with both edges, and with and without TLS; and each edge with and without TLS.
    {
        f"{topology}-{edge}{'-tls' if tls else ''}": {"redis_topology": topology, "edge": edge, "redis_tls": tls}
        for topology, edge in itertools.product(TOPOLOGIES, EDGES)
        for tls in [topology != "external" and (edge == "mesh") != (topology == "independent")]
    }
    | {
        "old-engine": {"docker_host_engine": {"host_info": {"ServerVersion": "20.10.24"}}},
        "encrypted": {"overlay_encrypted": "true"},
        "https": HTTPS,
        "acme": ACME,
        "acme-mesh": ACME | {"edge": "mesh", "acme_root": certificate(SITE)},
        "sentinel-backups": {
            "redis_topology": "sentinel",
            "backup_repository": "rest:https://backup.example/counter",
        },
        "standalone-backups": {"backup_repository": "/srv/backups", "backup_copy_repository": "/mnt/copies"},
        "sentinel-messages": MESSAGES,
        "limits": {
            "edge_requests_per_second": 5,
            "edge_request_log": "addresses",
            "maintenance": MAINTENANCE,
            "app_environment": {"TEXT": DOLLARS},
        },
    }
)

SECRETS = {
    "type": "bind",
    "source": "/etc/counter-deploy/counter/redis-secrets",
    "target": "/run/secrets",
    "read_only": True,
}
"""What is mounted into every Redis node and Sentinel."""

Rendered = dict[str, str]


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Rendered]:
    """Return, for each combination, the text of each template."""
    combinations = {name: facts(knobs) for name, knobs in COMBINATIONS.items()}
    return made_once(tmp_path_factory, "templates", lambda site: render(site, combinations))


def facts(knobs: dict[str, Any]) -> dict[str, Any]:
    """Return the variables of a host that stands for a combination of settings."""
    return knobs | {
        "redis_url": "redis://192.0.2.20:6379/0" if knobs.get("redis_topology") == "external" else "",
        "http_port": 8080,
    }


@pytest.fixture(params=COMBINATIONS)
def combination(request: pytest.FixtureRequest, rendered: dict[str, Rendered]) -> tuple[str, Rendered]:
    """Return name and texts of one combination after the other."""
    return request.param, rendered[request.param]


def stacks(texts: Rendered) -> dict[str, dict[str, Any]]:
    """Return the stack files that this combination deploys, parsed; with an external Redis there is none for Redis."""
    files = {name: yaml.safe_load(text) for name, text in texts.items() if name.endswith(".stack.yml")}
    return {
        name: document
        for name, document in files.items()
        if document["services"] and (name != "backup.stack.yml" or "user backup " in texts["users.acl"])
    }


def services(texts: Rendered) -> dict[str, dict[str, Any]]:
    """Return the services of all stacks by name."""
    return {name: service for document in stacks(texts).values() for name, service in document["services"].items()}


def test_every_template_is_rendered_for_every_combination(rendered: dict[str, Rendered]) -> None:
    assert {"standalone", "independent", "external"} <= set(TOPOLOGIES)
    assert set(rendered) == set(COMBINATIONS)
    for texts in rendered.values():
        assert sorted(texts) == TEMPLATES


def test_nothing_is_left_unrendered(combination: tuple[str, Rendered]) -> None:
    """But for what Swarm itself fills in, such as {{.Task.Slot}}."""
    for name, text in combination[1].items():
        assert re.findall(r"\{\{(?!\.)|\{%", text) == [], name


def test_what_the_project_sets_in_the_apps_environment_cannot_be_replaced(combination: tuple[str, Rendered]) -> None:
    others = [name for name in services(combination[1])["app"]["environment"] if not OWN_ENVIRONMENT.match(name)]
    assert others == (["TEXT"] if combination[0] == "limits" else [])


def test_rendering_is_stable(combination: tuple[str, Rendered], rendered: dict[str, Rendered]) -> None:
    """What does not depend on the combination is the same text: a date or a random value would restart every task."""
    name, texts = combination
    edge = "mesh-tls" if "-mesh" in name else "proxy"
    if name not in (
        "old-engine",
        "encrypted",
        "https",
        "acme",
        "acme-mesh",
        "limits",
        "sentinel-backups",
        "standalone-backups",
        "sentinel-messages",
    ):
        assert texts["haproxy.cfg"] == rendered[f"standalone-{edge}"]["haproxy.cfg"]


def test_another_run_renders_the_same(
    rendered: dict[str, Rendered], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has no order in Python would look like a change, for which nodes restart."""
    names = ("sentinel-proxy", "cluster-proxy")
    for seed in ("1", "2"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        site = tmp_path / seed
        site.mkdir()
        assert render(site, {name: facts(COMBINATIONS[name]) for name in names}) == {
            name: rendered[name] for name in names
        }


def test_only_an_old_engine_is_told_the_version_of_the_format(combination: tuple[str, Rendered]) -> None:
    name, texts = combination
    for document in stacks(texts).values():
        assert document.get("version") == ("3.9" if name == "old-engine" else None)


def test_every_service_is_confined(combination: tuple[str, Rendered]) -> None:
    for name, service in services(combination[1]).items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        limits = service["deploy"]["resources"]["limits"]
        assert limits["pids"] > 0, name
        assert re.fullmatch(r"\d+[MG]", limits["memory"]), name
        assert "privileged" not in service, name
        assert "cap_add" not in service, name


def test_swarm_takes_the_names_of_what_it_stores(combination: tuple[str, Rendered]) -> None:
    """Of 64 characters at most, also with the longest name of a stack."""
    for document in stacks(combination[1]).values():
        for stored in [*(document.get("configs") or {}).values(), *(document.get("secrets") or {}).values()]:
            assert stored["name"].startswith(("counter-", "counter_"))
            assert len(stored["name"]) + 31 - len("counter") <= 64, stored["name"]


def test_the_network_of_redis_has_no_way_out(combination: tuple[str, Rendered]) -> None:
    name, texts = combination
    document = stacks(texts).get("redis.stack.yml")
    assert (document is None) == ("external" in name)
    if document:
        assert document["networks"]["store"]["internal"] is True
        assert {tuple(service["networks"]) for service in document["services"].values()} == {("store",)}


def test_every_service_has_a_health_check_and_time_to_stop(combination: tuple[str, Rendered]) -> None:
    name, texts = combination
    for service in services(texts).values():
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
        # On one core that was building an image, a health check took up to 25 s.
        assert int(service["healthcheck"].get("timeout", "30s").removesuffix("s")) >= 30
        # Debian 12's engine refuses a stack file that has it.
        assert ("start_interval" in service["healthcheck"]) == (name != "old-engine")
        assert int(service["stop_grace_period"].removesuffix("s")) >= 10


def test_the_app_starts_new_replicas_first_and_rolls_back(combination: tuple[str, Rendered]) -> None:
    app = services(combination[1])["app"]
    update = app["deploy"]["update_config"]
    assert (update["order"], update["failure_action"]) == ("start-first", "rollback")
    assert app["deploy"]["replicas"] == 4
    assert app["deploy"]["resources"]["limits"]["cpus"] == "1"
    # A failing health check must be seen while the update is watched.
    health = app["healthcheck"]
    seconds = {key: int(value.removesuffix("s")) for key, value in health.items() if key in ("interval", "timeout")}
    assert int(update["monitor"].removesuffix("s")) > seconds["interval"] * health["retries"]
    drain = int(app["environment"]["COUNTER_DRAIN_SECONDS"])
    assert int(app["stop_grace_period"].removesuffix("s")) > drain


def test_redis_is_found_by_its_own_name_and_owns_its_volume_alone(combination: tuple[str, Rendered]) -> None:
    found = {name: service for name, service in services(combination[1]).items() if name.startswith("redis-")}
    assert bool(found) == ("external" not in combination[0])
    for name, service in found.items():
        assert service["deploy"]["endpoint_mode"] == "dnsrr"
        assert service["deploy"]["replicas"] == 1
        assert service["deploy"]["update_config"]["order"] == "stop-first"
        topology = combination[0].partition("-")[0]
        suffix = f"-{topology}" if topology in ("sentinel", "cluster") else ""
        assert service["volumes"] == [SECRETS, f"{name}{suffix}:/data"]
        assert service["deploy"]["placement"]["constraints"] == [f"node.labels.counter.{name} == here"]
        assert "ports" not in service
    assert len({service["volumes"][1] for service in found.values()}) == len(found)


def test_mounts_stand_as_a_later_update_of_the_service_sorts_them(combination: tuple[str, Rendered]) -> None:
    """By source and target (docker/cli, ``updateMounts``). Otherwise a deployment after ``node`` replaces tasks."""
    for service in services(combination[1]).values():
        mounts = [
            tuple(each.split(":")) if isinstance(each, str) else (each.get("source", ""), each["target"])
            for each in service.get("volumes", [])
        ]
        assert mounts == sorted(mounts)


def test_sentinels_stand_beside_the_nodes_of_their_topology_only(combination: tuple[str, Rendered]) -> None:
    name, texts = combination
    found = [key for key in services(texts) if key.startswith("sentinel-")]
    assert found == (["sentinel-1", "sentinel-2", "sentinel-3"] if name.startswith("sentinel") else [])
    for key in found:
        service = services(texts)[key]
        assert service["deploy"]["endpoint_mode"] == "dnsrr"
        assert service["volumes"] == [SECRETS, f"{key}:/data"]
        assert service["deploy"]["placement"]["constraints"] == [f"node.labels.counter.{key} == here"]
    environment = services(texts)["app"]["environment"]
    assert environment.get("COUNTER_SENTINEL_NODES", "") == ",".join(f"{key}:26379" for key in found)


def test_every_node_writes_to_its_disk_before_it_answers(combination: tuple[str, Rendered]) -> None:
    """The drills cannot show it: what a process has written stays in the kernel's memory when it is killed."""
    lines = combination[1]["redis.conf"].splitlines()
    assert {"appendonly yes", "appendfsync always", "no-appendfsync-on-rewrite no"} <= set(lines)


def test_tls_is_the_only_way_in_where_it_is_asked_for(combination: tuple[str, Rendered]) -> None:
    name, texts = combination
    tls = name.endswith("-tls")
    environment = services(texts)["app"]["environment"]
    assert environment.get("COUNTER_REDIS_CA_FILE") == ("/run/secrets/redis_ca" if tls else None)
    assert ("redis_ca" in {use["source"] for use in services(texts)["app"]["secrets"]}) == tls
    lines = texts["redis.conf"].splitlines()
    assert ("port 0" in lines) == ("tls-port 6379" in lines) == ("tls-replication yes" in lines) == tls
    assert ("tls-cluster yes" in lines) == (tls and name.startswith("cluster"))
    assert ("tls-replication yes" in texts["sentinel.conf"].splitlines()) == tls
    for key, service in services(texts).items():
        if key.startswith(("redis-", "sentinel-")):
            assert ("--tls" in service["healthcheck"]["test"][1]) == tls
            replicated = name.startswith(("sentinel", "cluster"))
            assert ("NODE_CA" in service.get("environment", {})) == (tls and replicated)
            # Only a Sentinel has to start anew for a renewed certificate.
            assert ("NODE_CERTIFICATE" in service.get("environment", {})) == (tls and key.startswith("sentinel"))


def test_a_replicated_service_is_labelled_with_its_definition(rendered: dict[str, Rendered]) -> None:
    """By that label a rolling change finds what differs; where nothing rolls, it would only be noise."""
    labels = {
        key: service["deploy"].get("labels", {}).get("counter-deploy.definition")
        for key, service in services({"redis.stack.yml": rendered["sentinel-proxy"]["redis.stack.yml"]}).items()
    }
    assert len(set(labels.values())) == len(labels) == 6
    for service in services({"redis.stack.yml": rendered["standalone-proxy"]["redis.stack.yml"]}).values():
        assert "labels" not in service["deploy"]


def test_the_port_is_published_once_as_the_edge_does(combination: tuple[str, Rendered]) -> None:
    name, texts = combination
    published = {key: service["ports"] for key, service in services(texts).items() if "ports" in service}
    mesh = "-mesh" in name
    how = {"protocol": "tcp", "mode": "ingress" if mesh else "host"}
    https = {"https": {8443: 8443}, "acme": {8443: 443}, "acme-mesh": {8443: 443}}
    ports = {8080: 8080, **https.get(name, {})}
    assert published == {"edge": [{"target": port, "published": ports[port], **how} for port in ports]}
    assert services(texts)["app"]["deploy"]["endpoint_mode"] == "dnsrr"
    deploy = services(texts)["edge"]["deploy"]
    if mesh:
        # One host is enough for each combination here.
        assert deploy["replicas"] >= 2
        assert "endpoint_mode" not in deploy
    else:
        assert deploy["mode"] == "global"
    assert deploy["update_config"]["order"] == ("start-first" if mesh else "stop-first")


def test_the_app_knows_the_redis_that_is_deployed(combination: tuple[str, Rendered]) -> None:
    name, texts = combination
    environment = services(texts)["app"]["environment"]
    nodes = [key for key in services(texts) if key.startswith("redis-")]
    assert environment.get("COUNTER_REDIS_NODES", "") == ",".join(f"{node}:6379" for node in nodes)
    assert environment["COUNTER_TOPOLOGY"] == COMBINATIONS[name].get("redis_topology", "standalone")
    assert environment["COUNTER_EDGE"] == COMBINATIONS[name].get("edge", "proxy")


def test_secrets_are_files_with_names_by_content_and_never_in_the_environment(
    combination: tuple[str, Rendered],
) -> None:
    for document in stacks(combination[1]).values():
        for kind in ("secrets", "configs"):
            for key, value in document.get(kind, {}).items():
                assert re.search(r"-[0-9a-f]{10,12}$", value["name"]), key
        for service in document["services"].values():
            for value in service.get("environment", {}).values():
                assert not re.search(r"\b(secret|former|internal|internal-before)\b", str(value))
            for use in service.get("secrets", []):
                assert use["mode"] == 0o400


def test_a_keeper_renews_certificates_of_an_authority_or_tells_of_problems(combination: tuple[str, Rendered]) -> None:
    name, texts = combination
    found = services(texts)
    issued = name.startswith("acme")
    assert ("keeper" in found) == (issued or name == "sentinel-messages")
    assert ("lua-load certificate.lua certificate-1.pem " in texts["haproxy.cfg"]) == issued
    if "keeper" in found:
        assert found["keeper"]["networks"] == ["front"]
        assert "ports" not in found["keeper"]
        assert "environment" not in found["keeper"]
        mounted = {volume["target"]: volume["source"] for volume in found["keeper"]["volumes"]}
        directories = ["keeper", "acme"] if issued else ["keeper"]
        assert mounted == {f"/{directory}": f"/etc/counter-deploy/counter/{directory}" for directory in directories}


def test_the_program_for_backups_reaches_redis_and_the_repository(rendered: dict[str, Rendered]) -> None:
    assert "backup" not in services(rendered["sentinel-proxy"])
    remote, local = (services(rendered[name]) for name in ("sentinel-backups", "standalone-backups"))
    for found in (remote, local):
        assert found["backup"]["networks"] == ["store", "repository"]
        # Restic removes locks of its own host whose process is gone. So two tasks that run must not share a name.
        assert found["backup"]["hostname"] == "counter-{{.Node.ID}}"
        environment = found["app"]["environment"]
        assert found["backup"]["environment"] == {key: environment[key] for key in found["backup"]["environment"]}
        assert "COUNTER_REDIS_NODES" in found["backup"]["environment"]
        binds = [volume["source"] for volume in found["backup"]["volumes"] if volume["type"] == "bind"]
        assert binds == ["/etc/counter-deploy/counter"] + (["/mnt/copies", "/srv/backups"] if found is local else [])
    assert remote["backup"]["deploy"]["placement"]["constraints"] == ["node.role == manager"]
    assert local["backup"]["deploy"]["placement"]["constraints"] == ["node.id == 0123456789abcdefghijklmno"]


def test_overlays_are_encrypted_when_asked(rendered: dict[str, Rendered]) -> None:
    for name, texts in rendered.items():
        for document in stacks(texts).values():
            own = [network for network in document["networks"].values() if not network.get("external")]
            options = [network.get("driver_opts", {}).get("encrypted") for network in own]
            assert options == ["true" if name == "encrypted" else None] * len(own)


@pytest.mark.skipif(not shutil.which("docker"), reason="no docker command here")
def test_docker_reads_the_stack_files(combination: tuple[str, Rendered], tmp_path: Path) -> None:
    name, texts = combination
    for stack in stacks(texts):
        path = tmp_path / stack
        path.write_text(texts[stack])
        done = run("docker", "stack", "config", "--compose-file", path)
        assert done.returncode == 0, f"{name} {stack}: {done.stderr}"
        assert not done.stderr, done.stderr
        if name == "limits" and stack == "counter.stack.yml":
            environment = yaml.safe_load(done.stdout)["services"]["app"]["environment"]
            assert environment["TEXT"] == DOLLARS


@pytest.mark.parametrize("name", ["standalone-proxy", "standalone-mesh-tls", "https", "acme", "acme-mesh", "limits"])
def test_haproxy_reads_its_configuration(rendered: dict[str, Rendered], tmp_path: Path, name: str) -> None:
    path = tmp_path / "haproxy.cfg"
    for file in (*FILES, "certificate.lua"):
        (tmp_path / file).write_text(rendered[name][file])
    (tmp_path / "certificate-1.pem").write_text(certificate(SITE) + pem(SITE))
    done = run(HAPROXY, "-c", "-f", path)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr.upper(), done.stderr


@pytest.fixture
def edge_and_app(rendered: dict[str, Rendered], tmp_path: Path) -> Iterator[tuple[int, int, int]]:
    """Run HAProxy with its rendered configuration, and the app behind it; return ports and the app's process group."""
    edge, app, statistics = (free_port() for _ in range(3))
    haproxy = on_loopback(rendered["standalone-proxy"], tmp_path, edge=edge, app=app, operator=statistics)
    environment = project_environment(
        PYTHONPATH=str(ROOT / "app"),
        COUNTER_BIND=f"127.0.0.1:{app}",
        COUNTER_REDIS_NODES="127.0.0.1:1",
        COUNTER_DRAIN_SECONDS="0",
    )
    gunicorn = [sys.executable, "-m", "gunicorn", "-c", "python:counter.gunicorn_conf", "counter.wsgi:app"]
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(gunicorn, stdout=log, stderr=log, env=environment, start_new_session=True) as behind,
        subprocess.Popen(haproxy, stdout=log, stderr=log) as front,
    ):
        try:
            wait_until("the app behind the edge", lambda: status(edge, "/healthz") == 200)
            yield edge, app, behind.pid
        finally:
            front.kill()
            os.killpg(behind.pid, signal.SIGCONT)
            behind.terminate()


def status(port: int, target: str) -> int:
    """Return the status of a GET, with the target as it is written."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n".encode())
        return int(connection.makefile().readline().split()[1])


def test_the_edge_does_not_wait_longer_than_the_app_may_take(
    edge_and_app: tuple[int, int, int], rendered: dict[str, Rendered]
) -> None:
    edge, _app, group = edge_and_app
    # HAProxy's clock is not slower on a slow machine, but the answer may arrive late.
    assert "timeout server 8s\n" in rendered["standalone-proxy"]["haproxy.cfg"]
    with socket.create_connection(("127.0.0.1", edge), timeout=25) as connection:
        os.killpg(group, signal.SIGSTOP)
        connection.sendall(b"GET /api/counters/any HTTP/1.1\r\nHost: edge\r\n\r\n")
        assert connection.makefile().readline().split()[1] == "504"


def test_no_spelling_of_the_path_leads_to_the_metrics_through_the_edge(edge_and_app: tuple[int, int, int]) -> None:
    edge, app, _group = edge_and_app
    led = [
        "/metrics",
        "/metrics?a=b",
        "/%6detrics",
        "/%6Detrics",
        "//metrics",
        "/%2fmetrics",
        "/%2F/metric%73",
        "http://edge//metrics",
    ]
    for target in led:
        assert (status(app, target), status(edge, target)) == (200, 404), target
    # What the app itself does not take for its metrics.
    for target in (
        "/metrics/",
        "/METRICS",
        "/./metrics",
        "/a/../metrics",
        "/%256detrics",
        "/metrics%00",
        "/metrics%3fa",
        "/metrics;a",
    ):
        assert status(app, target) == 404, target
    # The edge looks at the path only.
    assert status(edge, "/healthz?path=/metrics") == 200


# What the app asks of Redis: every endpoint, once.
USE_THE_APP = """
import json, sys
from counter.application import create_app
from counter.config import Config
from counter.data import read_all
from counter.store import client, group_commit, open_route, store
from counter.store.primaries import Primaries
# A busy machine is slow, not wrong.
client.CONNECT_SECONDS = client.REPLY_SECONDS = store.PROBE_SECONDS = group_commit.ROUND_SECONDS = 60
app = create_app(Config.from_env()).test_client()
answers = [
    app.post("/api/counters/demo/increment"),
    app.post("/api/counters/demo/increment", headers={"Idempotency-Key": "key-1"}),
    app.post("/api/counters/demo/increment", headers={"Idempotency-Key": "key-1"}),
    *(app.get(path) for path in ("/api/counters/demo", "/", "/readyz", "/metrics", "/api/store")),
]
assert {record.name for record in read_all(Primaries(open_route(Config.from_env())))} == {"demo", "visits"}
json.dump([[answer.status_code for answer in answers], answers[3].json["value"], answers[-1].json], sys.stdout)
"""


@pytest.fixture
def redis(rendered: dict[str, Rendered], tmp_path: Path) -> Iterator[int]:
    """Run Redis with its rendered configuration and users; return its port."""
    config = rendered["standalone-proxy"]["redis.conf"]
    for there, here in (("dir /data", f"dir {tmp_path}"), ("/run/secrets/users.acl", f"{tmp_path}/users.acl")):
        assert there in config
        config = config.replace(there, here)
    (tmp_path / "redis.conf").write_text(config)
    (tmp_path / "users.acl").write_text(rendered["standalone-proxy"]["users.acl"])
    port = free_port()
    command = ["redis-server", str(tmp_path / "redis.conf"), "--bind", "127.0.0.1", "--port", str(port)]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            said = tmp_path / "log"
            ready = "Ready to accept connections"
            wait_until("Redis", lambda: ready in said.read_text() or server.poll() is not None)
            assert server.poll() is None, said.read_text()
            yield port
        finally:
            server.kill()


def test_the_app_may_do_all_that_it_does(redis: int, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret")
    done = run(
        sys.executable,
        "-c",
        USE_THE_APP,
        PYTHONPATH=str(ROOT / "app"),
        COUNTER_REDIS_NODES=f"127.0.0.1:{redis}",
        COUNTER_REDIS_PASSWORD_FILE=str(tmp_path / "password"),
        COUNTER_DEADLINE_SECONDS="60",
    )
    assert done.returncode == 0, done.stderr
    statuses, value, store = json.loads(done.stdout)
    assert statuses == [200] * len(statuses)
    # The third repeated the second.
    assert value == 2
    (node,) = store["nodes"]
    assert (node["reachable"], node["role"]) == (True, "primary")
    assert {"demo": 2, "visits": 1}.items() <= store["counters"].items()


def test_a_stop_does_not_wait_for_the_change_log_of_backups(redis: int, tmp_path: Path) -> None:
    """Redis would wait for ten seconds for whatever follows it, and the log never confirms anything."""
    app = Redis(port=redis, username="counter", password="secret", decode_responses=True)  # noqa: S106
    with (tmp_path / "users.acl").open("a") as users:
        users.write("user follower on nopass -@all +psync +replconf\n")
    operator = Redis(port=redis, username="operator", password=logins(INTERNAL_PASSWORD)["operator"])
    operator.execute_command("ACL", "LOAD")
    log = tmp_path / "log"
    with following(app, "follower", "any"):
        app.incr("{a}:value")
        os.kill(int(app.info("server")["process_id"]), signal.SIGTERM)
        wait_until("the end", lambda: "bye bye" in log.read_text())
    assert WAITS not in log.read_text()


def test_the_app_may_do_nothing_else(redis: int) -> None:
    # Replicas that were started before the password changed go on with the one before.
    for password in ("secret", "former"):
        app = Redis(port=redis, username="counter", password=password)
        assert app.incr("{a}:value") >= 1
    for refused in ("FLUSHALL", "CONFIG GET *", "KEYS *", "SHUTDOWN", "ACL LIST", "REPLICAOF NO ONE", "GET elsewhere"):
        with pytest.raises(NoPermissionError):
            app.execute_command(*refused.split())
    with pytest.raises(AuthenticationError):
        Redis(port=redis, username="counter", password="wrong").ping()  # noqa: S106
    with pytest.raises(AuthenticationError):
        Redis(port=redis, protocol=2).ping()
