"""The passwords of Redis nodes, as the role redis makes them, and their rotation in the files of users."""

from __future__ import annotations

import hashlib
import re

APP_PASSWORD = "secret"  # noqa: S105
INTERNAL_PASSWORD = "internal"  # noqa: S105
"""Both as ``render.yml`` gives them."""


def digest(text: str) -> str:
    """Return the SHA-256 in hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def logins(internal: str) -> dict[str, str]:
    """Return user -> password."""
    return {user: digest(f"{internal} {user}") for user in ("operator", "replication", "sentinel")}


BACKUP_PASSWORD = digest(f"{INTERNAL_PASSWORD} backup")
"""Of the user whom the program that makes backups is."""


def rotated(acl: str, internal: str) -> str:
    """Return a file of users that accepts new passwords of the nodes and the ones before, and no older ones."""
    for user, password in logins(internal).items():
        acl = re.sub(rf"(user {user} on )(#\w+) #\w+", rf"\1#{digest(password)} \2", acl)
    return acl
