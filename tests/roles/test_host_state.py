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
    "Ubuntu 26.04: supported": 'ID=ubuntu\nVERSION_ID="26.04"\nVERSION_CODENAME=resolute\n',
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


# As the kernel lists routes: those that it made itself, and a default route that a router announced on eth0.
LOCAL = "fe800000000000000000000000000000 40 {0} 00 {0} 00000100 00000001 00000000 00000001     eth0\n"
ANNOUNCED = "{0} 00 {0} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00450003     eth0\n"


@pytest.mark.parametrize(
    ("routes", "accepts", "loses"),
    [(LOCAL, "1", False), (LOCAL + ANNOUNCED, "1", True), (LOCAL + ANNOUNCED, "2", False)],
)
def test_routes_that_a_router_would_lose_are_seen(tmp_path: Path, routes: str, accepts: str, *, loses: bool) -> None:
    (tmp_path / "routes").write_text(routes.replace("{0}", "0" * 32))
    (tmp_path / "eth0").mkdir()
    (tmp_path / "eth0/accept_ra").write_text(f"{accepts}\n")
    assert host_state.loses_routes(tmp_path / "routes", tmp_path) is loses


# As the kernel lists routes on a machine with little-endian numbers: the default one, and two networks.
ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
"""


def test_routes_are_read(tmp_path: Path) -> None:
    (tmp_path / "route").write_text(ROUTES)
    assert host_state.routes(tmp_path / "route") == ["10.0.2.0/24", "172.17.0.0/16"]
    assert host_state.routes(tmp_path / "none") == []


def test_an_engine_that_does_not_answer_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    found = host_state.read_engine()
    assert list(found) == ["msg"]
    assert "Connection refused" in found["msg"]
