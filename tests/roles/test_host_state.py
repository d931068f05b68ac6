"""What a host says of its system decides whether it is supported."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from support.ansible import PLAYBOOKS, load, results_by_host

host_state = load("roles/docker_host/library/host_state.py")

SYSTEMS = {
    "Debian 12: supported": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nID=debian\n',
    "Debian 13: supported": 'VERSION_ID="13"\nID=debian\nVERSION_CODENAME=trixie\n',
    "Ubuntu 22.04: supported": 'NAME="Ubuntu"\nVERSION_ID="22.04"\nID=ubuntu\nID_LIKE=debian\n',
    "Ubuntu 24.04: supported": '# A comment.\n\nID=ubuntu\nVERSION_ID="24.04"\n',
    "Rhel 9.4: refused": 'NAME="Red Hat Enterprise Linux"\nID="rhel"\nVERSION_ID="9.4"\n',
    "Debian: refused": "ID=debian\n",
    "An unknown system: refused": "",
}


def test_a_system_is_known_by_its_os_release(tmp_path: Path) -> None:
    hosts = {}
    for number, text in enumerate(SYSTEMS.values()):
        file = tmp_path / f"os-release-{number}"
        if text:
            file.write_text(text)
        state = {"os_release": host_state.os_release(file)}
        hosts[f"host-{number}"] = {"ansible_connection": "local", "docker_host_state": state}
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"managers": {"hosts": hosts}}))
    results = results_by_host(PLAYBOOKS / "platform.yml", inventory)
    assert [results[host]["msg"] for host in hosts] == list(SYSTEMS)


def test_an_engine_that_does_not_answer_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    found = host_state.read_engine()
    assert list(found) == ["msg"]
    assert "Connection refused" in found["msg"]
