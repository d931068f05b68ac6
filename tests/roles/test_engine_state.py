"""The engine's settings: what is there already stays, and an engine is restarted until it has read them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from support.ansible import PLAYBOOKS, run

pytestmark = [
    pytest.mark.skipif(os.getuid() != 0, reason="only root can put directories into the place of others"),
    pytest.mark.skipif(not Path("/etc/docker").is_dir(), reason="there is no directory of the engine's settings here"),
]
ENTER = 'mount --bind "$1" /etc/docker && mount --bind "$2" /run && shift 2 && exec "$@"'
PLAYBOOK = PLAYBOOKS / "engine_state.yml"
ROTATED = {"log-driver": "json-file", "log-opts": {"max-file": "3", "max-size": "10m"}}


def configure(site: Path, settings: dict[str, Any], *options: str, started_after: int | None = None) -> str:
    """Configure an engine with these settings, whose file lies in ``site``/docker; return the state that is asked for.

    The engine was started so many seconds after the file was written.
    """
    for name in ("docker", "run"):
        (site / name).mkdir()
    file = site / "docker/daemon.json"
    file.write_text(json.dumps(settings))
    if started_after is not None:
        pid = site / "run/docker.pid"
        pid.write_text("1")
        os.utime(pid, times=(0, file.stat().st_mtime + started_after))
    enter: list[str | Path] = ["unshare", "--mount", "sh", "-c", ENTER, "sh", site / "docker", site / "run"]
    done = run(*enter, "ansible-playbook", "-e", json.dumps({"docker_host_sysctls": {}}), *options, PLAYBOOK)
    assert done.returncode == 0, done.stdout + done.stderr
    [state] = re.findall(r"msg: (\w+)", done.stdout)
    return str(state)


@pytest.mark.parametrize(
    ("there", "started_after", "state"),
    [
        (True, 1, "started"),
        (True, -1, "restarted"),
        (True, None, "started"),
        (False, 1, "restarted"),
    ],
    ids=["read", "not read", "no engine runs", "others"],
)
def test_an_engine_is_restarted_until_it_has_read_its_settings(
    tmp_path: Path, *, there: bool, started_after: int | None, state: str
) -> None:
    settings = ROTATED | {"no-new-privileges": True} if there else {}
    assert configure(tmp_path, settings, "--check", started_after=started_after) == state


@pytest.mark.parametrize(
    ("there", "logs"),
    [
        ({"debug": True}, ROTATED),
        ({"log-driver": "syslog", "log-opts": {"syslog-address": "udp://192.0.2.1:514"}}, {}),
        ({"log-driver": "journald"}, {}),
        ({"log-opts": {"max-size": "50m"}}, {}),
    ],
)
def test_a_host_goes_on_logging_as_it_did(tmp_path: Path, there: dict[str, Any], logs: dict[str, Any]) -> None:
    configure(tmp_path, there)
    assert json.loads((tmp_path / "docker/daemon.json").read_text()) == there | logs | {"no-new-privileges": True}


def test_a_host_logs_as_its_settings_say(tmp_path: Path) -> None:
    wanted = {"log-driver": "journald"}
    configure(tmp_path, {}, "-e", json.dumps({"docker_host_daemon_settings": wanted}))
    assert json.loads((tmp_path / "docker/daemon.json").read_text()) == wanted
