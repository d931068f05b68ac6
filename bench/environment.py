"""The environment of a benchmark: enough to judge the figures, and a fingerprint that decides which runs are comparable."""

import hashlib
import json
import os
import platform
import resource
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

COMPARABLE = ("cpu", "cores", "kernel", "docker", "locust", "nodes", "shared_host", "app_cpus", "users", "spawn_rate", "weights", "workers", "locustfile")
"""What must be equal for two runs to be comparable. Topology, edge and images may differ: they are the subject of a comparison.

So may the target, since two stacks on the same hosts differ in it.
"""


def of_generator(root: Path) -> dict[str, Any]:
    """The machine that runs Locust, and the project's revision."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "kernel": platform.release(),
        "system": _system(),
        "load_average": list(os.getloadavg()),
        "python": platform.python_version(),
        "locust": _version("locust"),
        "ansible": _version("ansible-core"),
        "revision": _output("git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"),
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    }


def fingerprint(environment: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Hash (twelve hexadecimal digits) of everything that must be equal in comparable runs."""
    facts = {**environment, **settings}
    text = json.dumps({name: facts.get(name) for name in COMPARABLE}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "-"


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
