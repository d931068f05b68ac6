"""Ansible inventory: the user's own hosts.yml or, if there is none, the example."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.inventory.yaml import InventoryModule as Yaml

DOCUMENTATION = """
name: own_hosts
short_description: The user's own hosts, or this machine
description:
  - Reads C(hosts.yml) beside its configuration file. Git ignores it, so an update of the project leaves it alone.
  - If there is none, it reads C(hosts.example.yml), which is this machine. An entry of ansible.cfg must exist.
"""


class InventoryModule(Yaml):
    """Reads one of two files of Ansible's YAML format."""

    NAME = "own_hosts"

    def verify_file(self, path: str) -> bool:
        """Take the file that named this plugin."""
        return Path(path).is_file()

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:  # noqa: FBT001, FBT002
        """Read the hosts."""
        own, example = (Path(path).with_name(name) for name in ("hosts.yml", "hosts.example.yml"))
        super().parse(inventory, loader, str(own if own.exists() else example), cache)
