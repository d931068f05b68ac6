#!/usr/bin/python
"""Ansible module: read the state of a host at once, since a module run costs more than what it reads."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_state
short_description: Read facts, cores, memory, disk, packages, files, kernel settings and a service of a host at once
options:
  packages: {type: list, elements: str, required: true, description: Names of Debian packages.}
  files: {type: list, elements: path, required: true, description: Paths of small text files.}
  sysctls: {type: list, elements: str, required: true, description: Names of kernel settings.}
  service: {type: str, required: true, description: Name of a service.}
  directory:
    type: path
    required: true
    description: A directory, which need not exist yet; C(data-root) in one of the files names another one.
attributes:
  check_mode: {support: full}
"""

RETURN = r"""
ansible_facts:
  description: >-
    Those of C(ansible.builtin.setup) about the distribution, the init system, containers and the default route. That
    module takes longer than this whole one, since it carries the facts of all systems.
  type: dict
  returned: always
time:
  description: The host's clock, in seconds since the epoch.
  type: int
  returned: always
cpus:
  description: Number of cores that programs can use.
  type: int
  returned: always
memory_mb:
  description: Memory of the host, in MB.
  type: int
  returned: always
disk_gb:
  description: Space for the directory that is free on its file system, in GB.
  type: float
  returned: always
packages:
  description: Those of the packages that are installed.
  type: list
  returned: always
files:
  description: Content and mtime (seconds since the epoch) of each file that exists, by its path.
  type: dict
  returned: always
sysctls:
  description: The kernel settings that exist, as NAME=VALUE.
  type: list
  returned: always
enabled:
  description: Whether systemd starts the service at boot; false with another init system.
  type: bool
  returned: always
"""

import json
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.facts.ansible_collector import get_ansible_collector
from ansible.module_utils.facts.namespace import PrefixFactNamespace
from ansible.module_utils.facts.network.linux import LinuxNetwork
from ansible.module_utils.facts.system.distribution import DistributionFactCollector
from ansible.module_utils.facts.system.platform import PlatformFactCollector
from ansible.module_utils.facts.system.service_mgr import ServiceMgrFactCollector
from ansible.module_utils.facts.virtual.linux import LinuxVirtualCollector

COLLECTORS = [PlatformFactCollector, DistributionFactCollector, ServiceMgrFactCollector, LinuxVirtualCollector]


def facts(module: AnsibleModule) -> dict[str, Any]:
    """Return the facts that the roles read, under the names of ansible.builtin.setup."""
    namespace = PrefixFactNamespace(namespace_name="ansible", prefix="ansible_")
    collector = get_ansible_collector(COLLECTORS, namespace, gather_subset=["all"])
    ip = module.get_bin_path("ip")
    default_ipv4, _ = LinuxNetwork(module).get_default_interfaces(ip) if ip else ({}, {})
    return {**collector.collect(module=module), "ansible_default_ipv4": default_ipv4}


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


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "packages": {"type": "list", "elements": "str", "required": True},
            "files": {"type": "list", "elements": "path", "required": True},
            "sysctls": {"type": "list", "elements": "str", "required": True},
            "service": {"type": "str", "required": True},
            "directory": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    files = {
        str(path): {"content": path.read_text(encoding="utf-8"), "mtime": path.stat().st_mtime}
        for path in map(Path, module.params["files"])
        if path.is_file()
    }
    settings = {name: Path("/proc/sys", *name.split(".")) for name in module.params["sysctls"]}
    sysctls = [f"{name}={' '.join(path.read_text().split())}" for name, path in settings.items() if path.is_file()]
    systemctl = module.get_bin_path("systemctl")
    asked = [systemctl, "is-enabled", "--quiet", module.params["service"]]
    enabled = systemctl is not None and module.run_command(asked)[0] == 0
    memory = re.findall(r"^MemTotal: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    directory = Path(moved(files) or module.params["directory"])
    disk = os.statvfs(next(path for path in (directory, *directory.parents) if path.exists()))
    module.exit_json(
        changed=False,
        ansible_facts=facts(module),
        time=int(time.time()),
        cpus=len(os.sched_getaffinity(0)),
        memory_mb=int(memory[0]) // 1024,
        disk_gb=round(disk.f_frsize * disk.f_bavail / 2**30, 1),
        packages=installed(module),
        files=files,
        sysctls=sysctls,
        enabled=enabled,
    )


if __name__ == "__main__":
    main()
