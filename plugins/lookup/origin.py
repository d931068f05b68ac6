"""Ansible lookup: who runs this, and which revision of the project."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
from typing import Any

from ansible.plugins.lookup import LookupBase

DOCUMENTATION = r"""
name: origin
short_description: Who runs this, and which revision of the project
description:
  - Returns C(who) as USER@MACHINE, the git revision of a checkout (C(revision)), and whether it has changes (C(dirty)).
  - Without git, or outside of a repository, the revision is empty.
options:
  _terms: {description: Directories of checkouts., required: true}
"""

GIT_SECONDS = 10


def git(root: str, *command: str) -> str:
    """Return what git prints; empty if it fails."""
    try:
        done = subprocess.run(  # noqa: S603  # the commands below, in the project's own directory
            ["git", "-C", root, *command],  # noqa: S607  # wherever the system has git
            capture_output=True,
            text=True,
            check=False,
            timeout=GIT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


class LookupModule(LookupBase):
    """Asks the system and git."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        """Return the origin of each checkout."""
        del variables, kwargs
        user = os.environ.get("SUDO_USER") or getpass.getuser()
        return [
            {
                "who": f"{user}@{socket.gethostname()}",
                "revision": git(root, "rev-parse", "HEAD"),
                "dirty": git(root, "status", "--porcelain") != "",
            }
            for root in terms
        ]
