"""Filters for the passwords of Redis."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

LOGINS = "redis-secrets/logins"
"""File of a host's logins below the state directory: one user and password per line."""


def with_other_passwords(states: Mapping[str, Mapping[str, Any]], accepted: Container[str]) -> list[str]:
    """Return the hosts whose nodes log in as ``operator`` with a password that is not accepted.

    ``states``: host -> result of the module ``state_files`` on that host.
    """
    found = {
        host: re.findall(r"^operator (.+)$", state["files"][LOGINS]["content"], re.MULTILINE)
        for host, state in states.items()
        if LOGINS in state["files"]
    }
    return [host for host, passwords in found.items() if not passwords or passwords[0] not in accepted]


def refusals(results: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the message of each server that refused its new passwords; results of a loop over ``redis_service``."""
    return [
        f"{result['redis_service']['name']} does not use its new passwords: "
        f"{str(result.get('stderr') or result.get('msg', '')).strip()}."
        for result in results
        if not result.get("skipped") and result.get("rc", 1) != 0
    ]


def as_lines(passwords: Iterable[str]) -> str:
    r"""Return the passwords, one per line. In Ansible's templates, `\n` in a block of YAML is no end of a line."""
    return "".join(f"{password}\n" for password in passwords)


class FilterModule:
    """The filters by name, for Ansible."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Return the filters by name."""
        return {"with_other_passwords": with_other_passwords, "refusals": refusals, "as_lines": as_lines}
