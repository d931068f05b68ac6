"""Repositories on real servers: restic's REST server, S3, SFTP."""

from __future__ import annotations

import base64
import getpass
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from sites import Site
from support.ansible import ROOT, play, run
from support.edge import HAPROXY
from support.ports import free_port, listens
from support.processes import Process, running
from support.waiting import wait_until

from backup.restic import SSH_OPTIONS

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")


def test_a_directory_that_exists_keeps_its_mode(tmp_path: Path) -> None:
    new, shared, link = (tmp_path / name for name in ("new", "shared", "link"))
    shared.mkdir()
    shared.chmod(0o750)
    link.symlink_to(shared)
    hosts = {path.name: {"ansible_connection": "local", "backup_path": str(path)} for path in (new, link)}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": hosts}}))
    role = {"ansible.builtin.import_role": {"name": "backup", "tasks_from": "directory"}}
    (tmp_path / "play.yml").write_text(yaml.safe_dump(play(role)))
    command: list[str | Path] = ["ansible-playbook", "-i", tmp_path / "hosts.yml", tmp_path / "play.yml"]
    for changes in (1, 0):
        done = run(*command, ANSIBLE_ROLES_PATH=str(ROOT / "roles"))
        assert done.returncode == 0, done.stdout + done.stderr
        assert re.findall(r"^(\w+) +: .*changed=(\d)", done.stdout, re.MULTILINE) == [
            ("link", "0"),
            ("new", str(changes)),
        ]
    assert [oct(path.stat().st_mode)[-3:] for path in (new, shared)] == ["700", "750"]


def started(stack: ExitStack, command: list[str], log: Path, port: int) -> Process:
    """Start a server, and wait until it listens."""
    server = Process(command, log)
    stack.enter_context(running(server))
    server.start()
    wait_until(f"{command[0]} (log {log})", lambda: listens(port))
    return server


def there_and_back(site: Site) -> None:
    site.count({"a": 2, "b": 1})
    saved = site.run("run")
    site.store.increment("a")
    assert site.run("restore", "latest")["sum"] == saved["sum"] == 3
    assert site.counters == {"a": 2, "b": 1}
    assert site.run("state", saved["id"])["files"]["deployed.json"] == '{"format": 2}\n'


def rest_server(site: Site, stack: ExitStack, name: str, *options: str) -> tuple[Process, int]:
    """Serve a directory; the site already has a ``repository``."""
    if not shutil.which("restic-rest-server"):
        pytest.skip("no restic-rest-server here")
    port, path = free_port(), site.directory / name
    command = ["restic-rest-server", "--path", str(path), "--listen", f"127.0.0.1:{port}", *options]
    return started(stack, command, site.directory / "rest.log", port), port


def test_rest(site: Site, stack: ExitStack) -> None:
    server, port = rest_server(site, stack, "new", "--no-auth")
    site.plan["repository"] = f"rest:http://somebody:secret@127.0.0.1:{port}/"
    there_and_back(site)
    server.kill()
    before = site.keys
    site.plan["answer_seconds"] = 6
    for verb in ("run", "list", "restore latest"):
        said = site.refused(*verb.split())
        assert "does not answer in time" in said
        assert "connection refused" in said
        assert "secret" not in said
    assert site.keys == before


def test_rest_with_a_user_and_a_password(site: Site, stack: ExitStack) -> None:
    digest = base64.b64encode(hashlib.sha1(b"secret", usedforsecurity=False).digest()).decode()
    allowed = site.directory / "htpasswd"
    allowed.write_text(f"somebody:{{SHA}}{digest}\n")
    _, port = rest_server(site, stack, "repository", "--htpasswd-file", str(allowed))
    site.plan["repository"] = f"rest:http://127.0.0.1:{port}/"
    site.plan["environment"] = {"RESTIC_REST_USERNAME": "somebody", "RESTIC_REST_PASSWORD": "wrong"}
    assert "401 Unauthorized" in site.refused("run")
    site.plan["environment"] = {"RESTIC_REST_USERNAME": "somebody", "RESTIC_REST_PASSWORD": "secret"}
    there_and_back(site)


@pytest.mark.skipif(not Path(HAPROXY).exists(), reason="no haproxy here")
def test_rest_with_certificates_of_a_private_authority(site: Site, stack: ExitStack) -> None:
    """Of the server, and of its client."""
    made = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -addext subjectAltName=IP:127.0.0.1"
    for name in ("server", "client"):
        command = f"{made} -subj /CN={name} -keyout {name}.pem -out {name}.pem"
        subprocess.run(command.split(), cwd=site.directory, check=True, capture_output=True)
    (port, (_, behind)) = free_port(), rest_server(site, stack, "new", "--no-auth")
    (config := site.directory / "haproxy.cfg").write_text(f"""
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
global
  ca-base {site.directory}
  crt-base {site.directory}
listen rest
  # With TLS 1.3, a client has sent its request when it is refused, and may see no more than a broken connection.
  bind 127.0.0.1:{port} ssl crt server.pem ca-file client.pem verify required ssl-max-ver TLSv1.2
  server rest 127.0.0.1:{behind}
""")
    started(stack, [HAPROXY, "-db", "-f", str(config)], site.directory / "haproxy.log", port)
    site.plan |= {"repository": f"rest:https://127.0.0.1:{port}/", "answer_seconds": 6}
    assert "certificate signed by unknown authority" in site.refused("run")
    site.plan["environment_files"] = {"RESTIC_CACERT": (site.directory / "server.pem").read_text()}
    assert "remote error: tls: handshake failure" in site.refused("run")
    site.plan["environment_files"]["RESTIC_TLS_CLIENT_CERT"] = (site.directory / "client.pem").read_text()
    site.plan["answer_seconds"] = 15
    there_and_back(site)


def test_the_account_of_gs(site: Site) -> None:
    """No server of it is here: restic asks the address in the file for a token."""
    key = subprocess.run(["openssl", "genrsa", "2048"], check=True, capture_output=True, text=True).stdout
    account = {"type": "service_account", "client_email": "a@b.example", "private_key": key}
    account["token_uri"] = f"http://127.0.0.1:{free_port()}/token-of-the-file"
    site.plan |= {"repository": "gs:bucket:/path", "environment": {"GOOGLE_PROJECT_ID": "1"}, "answer_seconds": 6}
    assert "could not find default credentials" in site.refused("list")
    site.plan["environment_files"] = {"GOOGLE_APPLICATION_CREDENTIALS": json.dumps(account)}
    assert "token-of-the-file" in site.refused("list")


def test_s3(site: Site, stack: ExitStack) -> None:
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    started(stack, command, site.directory / "s3.log", port)
    # It is slow to answer for the first time.
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60):
        pass
    site.plan["repository"] = f"s3:http://127.0.0.1:{port}/bucket/path"
    site.plan["environment"] = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}
    site.plan["answer_seconds"] = 8
    assert "bucket does not exist" in site.refused("run")
    site.plan["answer_seconds"] = 30
    request = urllib.request.Request(f"http://127.0.0.1:{port}/bucket", method="PUT")
    with urllib.request.urlopen(request, timeout=10):
        pass
    there_and_back(site)


@pytest.mark.skipif(not SSHD, reason="no sshd here")
def test_sftp(site: Site, stack: ExitStack) -> None:
    directory, port = site.directory, free_port()
    for name in ("host", "client"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name], check=True)
    settings = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": directory / "host",
        "AuthorizedKeysFile": directory / "client.pub",
        "StrictModes": "no",
        "UsePAM": "no",
        "PidFile": directory / "sshd.pid",
        "Subsystem": "sftp internal-sftp",
    }
    config = directory / "sshd_config"
    config.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    started(stack, [str(SSHD), "-D", "-e", "-f", str(config)], directory / "sshd.log", port)
    site.plan["repository"] = f"sftp://{getpass.getuser()}@127.0.0.1:{port}/{directory}/repository"
    site.plan["ssh_key"] = (directory / "client").read_text().strip()
    assert "unable to start the sftp session" in site.refused("run")
    site.plan["known_hosts"] = f"[127.0.0.1]:{port} {(directory / 'host.pub').read_text()}"
    there_and_back(site)


@pytest.mark.skipif(not shutil.which("ssh"), reason="no ssh here")
def test_sftp_to_a_server_that_says_nothing(site: Site, stack: ExitStack) -> None:
    silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    site.plan |= {
        "repository": f"sftp://somebody@127.0.0.1:{silent.getsockname()[1]}//repository",
        "answer_seconds": 90,
    }
    assert "unable to start the sftp session" in site.refused("list")
    # A connection that dies later is given up after a minute.
    shown = subprocess.run(
        ["ssh", "-G", *(part for option in SSH_OPTIONS for part in ("-o", option)), "127.0.0.1"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert {"serveraliveinterval 15", "serveralivecountmax 4"} <= set(shown)
