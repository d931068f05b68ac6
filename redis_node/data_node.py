"""What all kinds of data nodes have in common."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from redis_node.ask import NoAnswerError, ask
from redis_node.settings import Settings

USER = "replication"


def directives(passwords: Mapping[str, str]) -> list[str]:
    """Return the lines of the configuration with which the server logs in at its primary."""
    return [f"masteruser {USER}", f"masterauth {passwords[USER]}"]


def use(settings: Settings, passwords: Mapping[str, str]) -> None:
    """Make the running server use a new password from now on; its link stays up. Raises NoAnswerError."""
    ask(settings, settings.address, "CONFIG", "SET", "masterauth", passwords[USER])


def wait_for_no_follower(settings: Settings) -> None:
    """Let the server stop at once, when no other node needs what it has; if it does not answer, it stops later.

    Redis waits for up to ten seconds until all that follow it have everything. The change log of backups follows a node
    as a replica, and never confirms anything (``backup.stream``).
    """
    # A Sentinel that makes this node a replica closes its connections.
    with suppress(NoAnswerError):
        ask(settings, settings.address, "CONFIG", "SET", "shutdown-timeout", 0)


def role(settings: Settings) -> str:
    """Return ``primary`` or ``replica``; raises NoAnswerError."""
    return "primary" if ask(settings, settings.address, "ROLE")[0] == "master" else "replica"


def holds_data(data: Path) -> bool:
    """Tell whether a volume has an append-only file."""
    return any((data / "appendonlydir").glob("*.manifest"))
