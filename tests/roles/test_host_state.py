"""What a host says of itself: its system, which decides whether it is supported, its routes, and what status shows."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.ansible import PLAYBOOKS, ROOT, load, results_by_host

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


UPDATED = "linux-image-6.8.0-47-generic\nlibc6\nlibc6\n"


@pytest.mark.parametrize(
    ("files", "running", "reason"),
    [
        ([], "6.12.43+deb13-amd64", ""),
        (["boot/vmlinuz-6.12.43+deb13-amd64"], "6.12.43+deb13-amd64", ""),
        # The numbers count, and not the letters; another flavour is another kernel.
        (["boot/vmlinuz-6.1.0-9-amd64", "boot/vmlinuz-6.1.0-10-cloud-amd64"], "6.1.0-9-amd64", ""),
        (["boot/vmlinuz-6.1.0-9-amd64", "boot/vmlinuz-6.1.0-10-amd64"], "6.1.0-9-amd64", "6.1.0-10-amd64"),
        (["boot/vmlinuz-6.1.0-9-amd64", "boot/vmlinuz-6.1.0-10-amd64"], "6.1.0-10-amd64", ""),
        (
            ["boot/vmlinuz-6.12.9+deb13-amd64", "boot/vmlinuz-6.12.48+deb13-amd64"],
            "6.12.9+deb13-amd64",
            "6.12.48+deb13-amd64",
        ),
        # A kernel of somebody's own, as of some providers.
        (["boot/vmlinuz-6.1.0-10-amd64"], "6.18.5", ""),
        (["boot/vmlinuz-old", "boot/config-6.1.0-10-amd64"], "6.1.0-9-amd64", ""),
        (["reboot-required"], "6.8.0-45-generic", "after an update"),
        (
            ["reboot-required", "reboot-required.pkgs"],
            "6.8.0-45-generic",
            "after an update of libc6, linux-image-6.8.0-47-generic",
        ),
    ],
)
def test_a_reboot_is_needed_for_a_newer_kernel_and_where_packages_say_so(
    tmp_path: Path, files: list[str], running: str, reason: str
) -> None:
    (tmp_path / "boot").mkdir()
    for name in files:
        (tmp_path / name).write_text(UPDATED)
    found = host_state.reboot_reason(tmp_path, tmp_path / "boot", running)
    assert found == (f"the kernel {reason} is installed, and {running} runs" if reason.startswith("6.") else reason)


def test_what_is_used_is_told_as_df_does() -> None:
    name = {"node": socket.gethostname(), "cpus": len(os.sched_getaffinity(0)), "clock_ahead": 600}
    told = health(time.time() - 600)
    assert told | name == told
    data = next(path for path in (Path("/var/lib/docker"), Path("/var/lib")) if path.exists())
    printed = subprocess.check_output(["df", "--output=pcent,avail", "--block-size=1M", data], text=True)
    percent, free = (int(word.strip("%")) for word in printed.splitlines()[1].split())
    # Others may write meanwhile.
    assert abs(told["disk_used_percent"] - percent) <= 1
    assert abs(told["disk_free_mb"] - free) < 500
    assert 0 < told["memory_used_percent"] < 100
    assert [host_state.used_percent(*each) for each in ((0, 0), (100, 100), (1000, 999), (100, 15))] == [0, 0, 1, 85]


def health(now: float) -> dict[str, Any]:
    """Return what the module tells of this machine, without its engine."""
    asked = json.dumps({"ANSIBLE_MODULE_ARGS": {"packages": [], "files": [], "sysctls": [], "now": now}})
    words = [sys.executable, str(ROOT / "roles/docker_host/library/host_state.py")]
    environment = os.environ | {"DOCKER_HOST": "tcp://127.0.0.1:1"}
    told = json.loads(
        subprocess.run(words, input=asked, env=environment, capture_output=True, text=True, check=True).stdout
    )
    assert told["engine"].keys() == {"msg"}
    found: dict[str, Any] = told["health"]
    return found


def test_an_engine_that_does_not_answer_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    found = host_state.read_engine()
    assert list(found) == ["msg"]
    assert "Connection refused" in found["msg"]
