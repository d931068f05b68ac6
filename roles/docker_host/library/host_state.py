#!/usr/bin/python
"""Ansible module: read the state of a host at once, since a module run costs more than what it reads."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_state
short_description: >-
  Read the system, cores, memory, disk, packages, files, kernel settings and the Docker engine of a host at
  once
options:
  packages: {type: list, elements: str, required: true, description: Names of Debian packages.}
  files: {type: list, elements: path, required: true, description: Paths of small text files.}
  sysctls: {type: list, elements: str, required: true, description: Names of kernel settings.}
  wait:
    type: int
    default: 0
    description: How long to wait until the engine answers, in seconds; then the module fails. With 0, it need not.
  now:
    type: float
    required: true
    description: The time at the control machine when it starts the module, in seconds since the epoch.
attributes:
  check_mode: {support: full}
"""

RETURN = r"""
os_release: {type: dict, returned: always, description: The fields of os-release(5); empty if the host lacks the file.}
architecture: {type: str, returned: always, description: As C(uname -m) prints it.}
systemd: {type: bool, returned: always, description: Whether systemd is the init system.}
container: {type: bool, returned: always, description: Whether systemd knows that the host is a container.}
address: {type: str, returned: always, description: "The host's IPv4 address on its default route; empty without one."}
address6: {type: str, returned: always, description: The same in IPv6; empty if the host would lose routes as a router.}
routes: {type: list, returned: always, description: The IPv4 networks to which the host has routes but the default one.}
time: {type: int, returned: always, description: "The host's clock when the module began, in seconds since the epoch."}
took: {type: int, returned: always, description: "How long the module took, in seconds. A busy engine answers slowly."}
cpus: {type: int, returned: always, description: Number of cores that programs can use.}
memory_mb: {type: int, returned: always, description: "Memory of the host, in MB."}
disk_gb: {type: float, returned: always, description:
  "Space that is free for the engine's data on its file system, in GB."}
health: {type: dict, returned: always, description:
  "What status shows: C(node), the host's name; C(disk_free_mb) and C(disk_used_percent) of the file system of the
  engine's data; C(memory_mb) and C(memory_used_percent); C(load), the average of five minutes, and C(cpus);
  C(clock_ahead), how many seconds the clock is ahead of O(now); C(reboot), why a reboot is needed, or empty."}
package_lists: {type: bool, returned: always, description:
  "Whether apt has package lists. Small system images have an empty directory, which may look up to date."}
packages: {type: list, returned: always, description: Those of the packages that are installed.}
files: {type: dict, returned: always, description:
  "Content and mtime (seconds since the epoch) of each file that exists, by its path."}
sysctls: {type: list, returned: always, description: "The kernel settings that exist, as NAME=VALUE."}
firewalls: {type: list, returned: always, description: "Which of ufw and firewalld are active."}
enabled: {type: bool, returned: always, description:
  "Whether systemd starts the engine at boot; false with another init system."}
engine: {type: dict, returned: always, description:
  "What the engine's API returns: C(host_info), running C(containers), C(networks) and C(images), and the names of
  its C(volumes). If the engine does not answer, only C(msg), which says why."}
"""

import json
import os
import platform
import re
import shlex
import socket
import sys
import time
from contextlib import suppress
from ipaddress import IPv4Network
from math import ceil
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

try:
    import docker
    from docker.errors import DockerException

    MISSING = ""
except ImportError as error:
    # A new host has neither an engine nor the library for it.
    MISSING = str(error)

# RTF_ADDRCONF of linux/ipv6_route.h: an announcement of a router set the route.
ROUTE_ANNOUNCED = 0x40000
ROUTES, NETWORK_SETTINGS = Path("/proc/net/ipv6_route"), Path("/proc/sys/net/ipv6/conf")
# The release of a kernel of Debian or Ubuntu: 6.12.43+deb13-amd64, 6.1.0-18-cloud-amd64, 6.8.0-45-generic.
KERNEL = re.compile(r"(?P<version>\d[^-]*(-\d[^-]*)?)-(?P<flavour>[a-z].*)")
ENGINE_SECONDS = 30
POLL_SECONDS = 2.0
# Addresses of the internet, as Ansible's own facts use them.
ELSEWHERE = {socket.AF_INET: "8.8.8.8", socket.AF_INET6: "2404:6800:400a:800::1012"}


def os_release(path: Path) -> dict[str, str]:
    """Return the fields of os-release(5). A host that preflight refuses may have a Python without a function for it."""
    fields = shlex.split(path.read_text(encoding="utf-8"), comments=True) if path.is_file() else []
    return dict(field.split("=", 1) for field in fields)


def address(family: socket.AddressFamily) -> str:
    """Return the address of the default route; empty without one. Connecting a datagram socket sends nothing."""
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((ELSEWHERE[family], 53))
        return str(probe.getsockname()[0])
    return ""


def routes(table: Path) -> list[str]:
    """Return the networks of the kernel's IPv4 routes but the default one, such as 10.1.0.0/16."""
    rows = [line.split() for line in table.read_text().splitlines()[1:]] if table.is_file() else []
    # Addresses are in the byte order of the machine.
    pairs = [[socket.inet_ntoa(int(row[column], 16).to_bytes(4, sys.byteorder)) for column in (1, 7)] for row in rows]
    found = {str(IPv4Network((network, mask))) for network, mask in pairs}
    return sorted(found - {"0.0.0.0/0"})


def loses_routes(routes: Path, settings: Path) -> bool:
    """Tell whether the host has IPv6 routes that it would lose as a router.

    A router no longer listens to others' announcements, unless ``accept_ra`` is 2.
    """
    rows = [line.split() for line in routes.read_text().splitlines()] if routes.is_file() else []
    announced = {row[9] for row in rows if int(row[8], 16) & ROUTE_ANNOUNCED}
    return any((settings / name / "accept_ra").read_text().strip() == "1" for name in announced)


def installed(module: AnsibleModule) -> list[str]:
    """Return the installed packages. dpkg-query is much faster than apt, and fails if it does not know one of them.

    A distribution that preflight refuses may not have it.
    """
    dpkg_query = module.get_bin_path("dpkg-query")
    if dpkg_query is None:
        return []
    words = [dpkg_query, "--show", "--showformat=${db:Status-Status} ${Package}\n", *module.params["packages"]]
    _, out, _ = module.run_command(words)
    return [line.partition(" ")[2] for line in out.splitlines() if line.startswith("installed ")]


def moved(files: dict[str, dict[str, Any]]) -> str:
    """Return where the engine was told to store its data; empty if its configuration does not say."""
    for path, file in files.items():
        if path.endswith(".json"):
            with suppress(ValueError, AttributeError):
                return str(json.loads(file["content"]).get("data-root", ""))
    return ""


def used_percent(total: float, free: float) -> int:
    """Return how much is used, rounded up as ``df`` does, so that only what is really empty shows 0."""
    return ceil(100 * (total - free) / total) if total else 0


def reboot_reason(run: Path, boot: Path, running: str) -> str:
    """Return why the host needs a reboot; empty if it needs none.

    Ubuntu's packages say so in ``run``; Debian's do not, so the kernels of the same flavour in ``boot`` are compared
    with the one that runs.
    """
    if (run / "reboot-required").exists():
        packages = run / "reboot-required.pkgs"
        names = sorted(set(packages.read_text(encoding="utf-8").split())) if packages.is_file() else []
        return f"after an update of {', '.join(names)}" if names else "after an update"
    kernels = [KERNEL.fullmatch(file.name.removeprefix("vmlinuz-")) for file in boot.glob("vmlinuz-*")]
    here = KERNEL.fullmatch(running)
    same = [kernel for kernel in kernels if kernel and here and kernel["flavour"] == here["flavour"]]
    newest = max(same, key=version, default=None)
    if newest is None or here is None or version(newest) <= version(here):
        return ""
    return f"the kernel {newest[0]} is installed, and {running} runs"


def version(kernel: re.Match[str]) -> list[tuple[bool, int, str]]:
    """Return a key that sorts kernels by the numbers in their versions."""
    parts = re.findall(r"\d+|[^\d]+", kernel["version"])
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def has_ufw(settings: Path) -> bool:
    """Tell whether ufw is active. Its service runs even if it is not."""
    return settings.is_file() and re.search(r"^ENABLED=yes", settings.read_text(), re.MULTILINE) is not None


def read_engine() -> dict[str, Any]:
    """Return what the engine's API returns, or why it does not."""
    if MISSING:
        return {"msg": f"{MISSING}: this host needs python3-docker"}
    try:
        client = docker.from_env(version="auto", timeout=ENGINE_SECONDS).api
        return {
            "host_info": client.info(),
            "containers": client.containers(),
            "networks": client.networks(),
            "images": client.images(),
            "volumes": [volume["Name"] for volume in client.volumes()["Volumes"] or []],
        }
    # Also what the library does not wrap, such as a timeout.
    except (DockerException, OSError) as error:
        return {"msg": str(error)}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "packages": {"type": "list", "elements": "str", "required": True},
            "files": {"type": "list", "elements": "path", "required": True},
            "sysctls": {"type": "list", "elements": "str", "required": True},
            "wait": {"type": "int", "default": 0},
            "now": {"type": "float", "required": True},
        },
        supports_check_mode=True,
    )
    now, began = time.time(), time.monotonic()
    while "host_info" not in (engine := read_engine()) and time.monotonic() < began + module.params["wait"]:
        time.sleep(POLL_SECONDS)
    if module.params["wait"] and "host_info" not in engine:
        module.fail_json(msg=f"the engine did not answer within {module.params['wait']} s: {engine['msg']}")
    files = {
        str(path): {"content": path.read_text(encoding="utf-8"), "mtime": path.stat().st_mtime}
        for path in map(Path, module.params["files"])
        if path.is_file()
    }
    settings = {name: Path("/proc/sys", *name.split(".")) for name in module.params["sysctls"]}
    sysctls = [f"{name}={' '.join(path.read_text().split())}" for name, path in settings.items() if path.is_file()]
    systemctl = module.get_bin_path("systemctl")
    enabled = systemctl is not None and module.run_command([systemctl, "is-enabled", "--quiet", "docker"])[0] == 0
    firewalld = systemctl is not None and module.run_command([systemctl, "is-active", "--quiet", "firewalld"])[0] == 0
    detect = module.get_bin_path("systemd-detect-virt")
    memory = dict(re.findall(r"^(\w+): +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE))
    total, available = (int(memory[name]) for name in ("MemTotal", "MemAvailable"))
    in_container = detect is not None and module.run_command([detect, "--container", "--quiet"])[0] == 0
    directory = Path(engine.get("host_info", {}).get("DockerRootDir") or moved(files) or "/var/lib/docker")
    disk = os.statvfs(next(path for path in (directory, *directory.parents) if path.exists()))
    module.exit_json(
        changed=False,
        os_release=os_release(Path("/etc/os-release")),
        architecture=platform.machine(),
        # See sd_booted(3).
        systemd=Path("/run/systemd/system").is_dir(),
        container=in_container,
        address=address(socket.AF_INET),
        routes=routes(Path("/proc/net/route")),
        address6="" if loses_routes(ROUTES, NETWORK_SETTINGS) else address(socket.AF_INET6),
        time=int(now),
        took=int(time.monotonic() - began),
        cpus=len(os.sched_getaffinity(0)),
        memory_mb=total // 1024,
        disk_gb=round(disk.f_frsize * disk.f_bavail / 2**30, 1),
        health={
            "node": socket.gethostname(),
            "disk_free_mb": disk.f_frsize * disk.f_bavail // 2**20,
            # Of what users and the system can fill; some file systems reserve the rest.
            "disk_used_percent": used_percent(disk.f_blocks - disk.f_bfree + disk.f_bavail, disk.f_bavail),
            "memory_mb": total // 1024,
            "memory_used_percent": used_percent(total, available),
            "load": round(os.getloadavg()[1], 1),
            "cpus": len(os.sched_getaffinity(0)),
            "clock_ahead": round(now - module.params["now"]),
            # A container has no kernel of its own.
            "reboot": "" if in_container else reboot_reason(Path("/run"), Path("/boot"), platform.release()),
        },
        package_lists=any(Path("/var/lib/apt/lists").glob("*_Packages*")),
        packages=installed(module),
        files=files,
        sysctls=sysctls,
        firewalls=["ufw"] * has_ufw(Path("/etc/ufw/ufw.conf")) + ["firewalld"] * firewalld,
        enabled=enabled,
        engine=engine,
    )


if __name__ == "__main__":
    main()
