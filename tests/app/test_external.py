"""Topology ``external``, and TLS, against real redis-servers."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from support.ports import free_port
from support.processes import RedisServer, running
from support.waiting import wait_until

from counter import rights
from counter.config import Config
from counter.data import read_all
from counter.remove import Removed, remove
from counter.store import open_route
from counter.store.primaries import Primaries

Build = Callable[..., FlaskClient]


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Make a certificate for 127.0.0.1 that is its own authority; the key lies beside it."""
    path = tmp_path / "redis.crt"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=redis -addext subjectAltName=IP:127.0.0.1"
    files = ["-keyout", str(path.with_suffix(".key")), "-out", str(path)]
    subprocess.run([*command.split(), *files], check=True, capture_output=True, timeout=60)
    return path


@pytest.fixture
def tls_server(tmp_path: Path, certificate: Path) -> Iterator[tuple[RedisServer, int]]:
    """Start a redis-server that also listens with TLS; return it with that port."""
    port = free_port()
    files = f"tls-cert-file {certificate}", f"tls-key-file {certificate.with_suffix('.key')}", "tls-auth-clients no"
    server = RedisServer(tmp_path, f"tls-port {port}", f"tls-ca-cert-file {certificate}", *files)
    with running(server):
        yield server.up(), port


def test_the_urls_credentials_are_used_and_not_shown(client_of: Build, redis_server: RedisServer) -> None:
    redis_server.client().acl_setuser("app", enabled=True, passwords=["+pw"], categories=["+@all"], keys=["*"])
    redis_server.client().acl_setuser("default", enabled=False)
    good = client_of(TOPOLOGY="external", REDIS_URL=f"redis://app:pw@{redis_server.address}")
    assert good.post("/api/counters/a/increment").json["value"] == 1
    assert "pw" not in good.get("/api/store").text
    bad = client_of(TOPOLOGY="external", REDIS_URL=f"redis://app:wrong@{redis_server.address}")
    assert bad.get("/readyz").status_code == 503
    assert "wrong" not in bad.get("/readyz").text


def test_the_rights_in_the_documents_are_enough_and_each_is_tried(
    client_of: Build, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (line,) = re.findall(r"ACL SETUSER counter [^`]*", (Path(__file__).parents[2] / "docs/topologies.md").read_text())
    admin = redis_server.client()
    admin.execute_command(*line.replace("PASSWORD", "pw").split())
    environ = {"TOPOLOGY": "external", "REDIS_URL": f"redis://counter:pw@{redis_server.address}"}
    for name, value in environ.items():
        monkeypatch.setenv(f"COUNTER_{name}", value)
    assert rights.main() == 0, capsys.readouterr().err
    client = client_of(**environ)
    for key in ({}, {"Idempotency-Key": "k"}):
        assert client.post("/api/counters/a/increment", headers=key).status_code == 200
    wait_until("the counter to be listed", lambda: client.get("/api/store").json["counters"] == {"a": 2})
    config = Config.from_env()
    primaries = Primaries(open_route(config))
    assert remove(primaries, read_all(primaries), "a", noted=True) == Removed(1, 2, [])
    assert not admin.acl_log()
    shown = {"+info", "+wait", "+mget", "+sscan"}
    for right in {word for word in line.split() if word.startswith("+")} - shown:
        admin.execute_command("ACL", "SETUSER", "counter", right.replace("+", "-"))
        assert rights.main() == 1
        assert f"{right[1:].upper()}: " in capsys.readouterr().err
        admin.execute_command("ACL", "SETUSER", "counter", right)
    for keys in ("~{*}:* ~key:* %R~counters", "~{.*}:* ~{*}:value ~{*}:keys* ~{*}:ids:* ~{*}:imports ~key:* ~counters"):
        admin.execute_command("ACL", "SETUSER", "counter", "resetkeys", *keys.split())
        assert rights.main() == 1, keys
        assert "No permissions to access a key" in capsys.readouterr().err
    monkeypatch.setenv("COUNTER_REDIS_URL", f"redis://counter:wrong@{redis_server.address}")
    assert rights.main() == 1
    assert "it does not answer as the app needs it: " in (said := capsys.readouterr().err)
    assert "wrong@" not in said
    assert {key for key in admin.scan_iter() if "ready" in key and admin.ttl(key) == -1} == set()


def test_the_password_file_overrides_the_urls(client_of: Build, redis_server: RedisServer, tmp_path: Path) -> None:
    redis_server.client().config_set("requirepass", "right")
    secret = tmp_path / "password"
    secret.write_text("right\n")
    url = f"redis://:old@{redis_server.address}/3"
    client = client_of(TOPOLOGY="external", REDIS_URL=url, REDIS_PASSWORD_FILE=secret)
    assert client.post("/api/counters/a/increment").json["value"] == 1
    assert redis_server.client(password="right", db=3).get("{a}:value") == "1"  # noqa: S106


def test_the_promise_says_what_was_found(client_of: Build, redis_server: RedisServer) -> None:
    client = client_of(TOPOLOGY="external", REDIS_URL=f"redis://{redis_server.address}")
    version = redis_server.client().info()["redis_version"]
    wait_until("the probe", lambda: version in client.get("/api/store").text)
    for text in (client.get("/").text, client.get("/readyz").text, client.get("/api/store").text):
        assert f"External Redis {version} without TLS, WAIT with 0 replicas" in text
        assert "a failover may lose it" in text


@pytest.mark.parametrize(
    ("setting", "warned"),
    [
        (("maxmemory-policy", "allkeys-lru"), "evicts keys when it is full (maxmemory-policy allkeys-lru)"),
        (("appendonly", "no"), "has no append-only file"),
    ],
)
def test_a_setting_that_breaks_the_promise_is_said(
    client_of: Build, redis_server: RedisServer, setting: tuple[str, str], warned: str
) -> None:
    redis_server.client().config_set("maxmemory", "100mb")
    safe = client_of(TOPOLOGY="external", REDIS_URL=f"redis://{redis_server.address}")
    wait_until("the probe", lambda: "External" in safe.get("/api/store").json["promise"])
    assert safe.get("/api/store").json["warning"] is None
    redis_server.client().config_set(*setting)
    client = client_of(TOPOLOGY="external", REDIS_URL=f"redis://{redis_server.address}")
    wait_until("the probe", lambda: client.get("/api/store").json["warning"])
    for text in (client.get("/").text, client.get("/readyz").text, client.get("/api/store").text):
        assert warned in text


def test_replicas_of_an_external_redis_are_waited_for_and_missed(
    client_of: Build, redis_server: RedisServer, tmp_path: Path
) -> None:
    environ = {"TOPOLOGY": "external", "REDIS_URL": f"redis://{redis_server.address}", "DEADLINE_SECONDS": "2"}
    client = client_of(**environ, REPLICAS_PER_PRIMARY=1)
    assert client.post("/api/counters/a/increment").json["code"] == "store-indeterminate"
    page = client.get("/").text
    assert "Reloading counts another one." in page
    assert "in a moment" not in page
    missing = "has 0 replicas, but every increment has to reach 1"
    wait_until("the probe", lambda: missing in (client.get("/api/store").json["warning"] or ""))

    def confirms() -> bool:
        """Without a write before it, WAIT also counts a replica that gets no changes yet."""
        primary = redis_server.client()
        primary.set("{.heal}:value", 1)
        return bool(primary.wait(1, 500) == 1)

    replica = RedisServer(tmp_path, f"replicaof {redis_server.address.replace(':', ' ')}", "repl-diskless-sync-delay 0")
    with running(replica):
        replica.up()
        wait_until("the replica", confirms)
        client = client_of(**environ, REPLICAS_PER_PRIMARY=1)
        # Nothing was counted before: a counter is made only after an answer that was confirmed.
        assert client.post("/api/counters/a/increment").json["value"] == 1
        wait_until("the probe", lambda: "has reached 1 of its replicas" in client.get("/api/store").json["promise"])
        assert replica.client().get("{a}:value") == "1"


def test_tls_is_verified(client_of: Build, tls_server: tuple[RedisServer, int], certificate: Path) -> None:
    _, port = tls_server
    external = {"TOPOLOGY": "external", "REDIS_URL": f"rediss://127.0.0.1:{port}"}
    standalone = {"REDIS_NODES": f"127.0.0.1:{port}"}
    # What never works is given up soon; what works has the time that it takes on a busy machine.
    soon = {"DEADLINE_SECONDS": "0.6"}
    client = client_of(**external, REDIS_CA_FILE=certificate)
    assert client.post("/api/counters/a/increment").json["value"] == 1
    wait_until("the probe", lambda: "over TLS" in client.get("/api/store").json["promise"])
    # A name that the certificate lacks, an authority that is unknown, and no TLS at all.
    named = {"REDIS_NODES": f"localhost:{port}", "REDIS_CA_FILE": certificate}
    assert client_of(**named, **soon).post("/api/counters/a/increment").status_code == 503
    assert client_of(**external, **soon).post("/api/counters/a/increment").status_code == 503
    assert client_of(**standalone, REDIS_CA_FILE=certificate).post("/api/counters/a/increment").json["value"] == 2
    assert client_of(**standalone, **soon).post("/api/counters/a/increment").status_code == 503
