"""The engine's settings: what is there already stays, and an engine is restarted until it has read them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.ansible import PLAYBOOKS, results_by_host

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can put directories into the place of others")

# An interpreter for the modules of one host.
PYTHON = """#!/bin/sh
enter='mount --bind {site}/docker /etc/docker && mount --bind {site}/run /run && exec "$@"'
exec unshare --mount sh -c "$enter" sh {python} "$@"
"""
NO_KERNEL = ("-e", json.dumps({"docker_host_sysctls": {}}))
ROTATED: dict[str, Any] = {"log-driver": "json-file", "log-opts": {"max-file": "3", "max-size": "10m"}}
OURS = {"no-new-privileges": True}
REGISTRY = {"docker_host_insecure_registries": ["192.0.2.1:5000"]}


@pytest.fixture(autouse=True)
def _etc_docker() -> Iterator[None]:
    """Make the directory, over which others are mounted, where no package has made it."""
    made = not (directory := Path("/etc/docker")).exists()
    directory.mkdir(exist_ok=True)
    yield
    if made:
        directory.rmdir()


def configure(site: Path, cases: dict[str, dict[str, Any]], *options: str) -> dict[str, str]:
    """Configure the engine of a host for each case; return the state of the service that is asked for.

    A case has ``settings``, which lie in ``site``/NAME/docker; perhaps ``started``, which is how many seconds after
    they were written the engine was started; and perhaps ``variables``.
    """
    hosts = {}
    for name, case in cases.items():
        for directory in ("docker", "run/systemd/system"):
            (site / name / directory).mkdir(parents=True)
        file = site / name / "docker/daemon.json"
        file.write_text(json.dumps(case["settings"]))
        if "started" in case:
            pid = site / name / "run/docker.pid"
            pid.write_text("1")
            os.utime(pid, times=(0, file.stat().st_mtime + case["started"]))
        python = site / name / "python"
        python.write_text(PYTHON.format(site=site / name, python=sys.executable))
        python.chmod(0o755)
        hosts[name] = {"ansible_python_interpreter": str(python), **case.get("variables", {})}
    managers = {"hosts": hosts, "vars": {"ansible_connection": "local"}}
    (site / "hosts.yml").write_text(yaml.safe_dump({"managers": managers}))
    found = results_by_host(PLAYBOOKS / "engine_state.yml", site / "hosts.yml", *NO_KERNEL, *options)
    return {name: result["msg"] for name, result in found.items()}


def test_the_settings_of_an_engine(tmp_path: Path) -> None:
    """In one test, since the directory is the machine's."""
    # An engine is restarted until it has read its settings.
    (check := tmp_path / "check").mkdir()
    ours = ROTATED | OURS
    cases: dict[str, dict[str, Any]] = {
        "read": {"settings": ours, "started": 1},
        "not-read": {"settings": ours, "started": -1},
        "no-engine-runs": {"settings": ours},
        "others": {"settings": {}, "started": 1},
        "registry": {"settings": ours, "started": 1, "variables": REGISTRY},
        "registry-not-read": {"settings": ours, "started": -1, "variables": REGISTRY},
        "registry-and-others": {"settings": {}, "started": 1, "variables": REGISTRY},
    }
    assert configure(check, cases, "--check") == {
        "read": "started",
        "not-read": "restarted",
        "no-engine-runs": "started",
        "others": "restarted",
        "registry": "reloaded",
        "registry-not-read": "restarted",
        "registry-and-others": "restarted",
    }
    # A host goes on logging as it did, or logs as its variables say.
    syslog = {"log-driver": "syslog", "log-opts": {"syslog-address": "udp://192.0.2.1:514"}}
    labelled: dict[str, Any] = {"log-opts": {"labels": "team"}}
    wanted: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "nothing-said": ({"debug": True}, ROTATED | OURS),
        "syslog": (syslog, OURS),
        "journald": ({"log-driver": "journald"}, OURS),
        "options": ({"log-opts": {"max-size": "50m"}}, OURS),
        "endless": ({"log-driver": "json-file"}, ROTATED | OURS),
        "labelled": (labelled, {**ROTATED, **OURS, "log-opts": labelled["log-opts"] | ROTATED["log-opts"]}),
    }
    cases = {name: {"settings": there} for name, (there, _) in wanted.items()}
    asked = {"log-driver": "journald"}
    cases["asked"] = {"settings": {}, "variables": {"docker_host_daemon_settings": asked}}
    configure(tmp_path, cases)
    written = {name: json.loads((tmp_path / name / "docker/daemon.json").read_text()) for name in cases}
    assert written == {name: there | more for name, (there, more) in wanted.items()} | {"asked": asked}
