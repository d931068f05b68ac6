"""What all kinds of data nodes have in common."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from redis_node.ask import ask
from redis_node.atomic_write import atomic_write
from redis_node.errors import NodeError
from redis_node.kind import Kind
from redis_node.settings import Settings

USER = "replication"
INCOMPLETE = "incomplete"
"""The mark on the volume of a node whose copy of the primary is not on its disk yet. It contains the manifest of the
outdated file, if there is one, so it is void once Redis has written another."""
FILES = "appendonlydir"
_ACCUMULATING = "temp-appendonly.aof.incr"
"""What Redis appends to until the file after a copy is complete. It is there at once, but is removed before a retry."""


class DataNode(Kind):
    """A node that holds data."""

    def role(self) -> str:
        """Return ``primary`` or ``replica``; raises NodeError."""
        return "primary" if ask(self.settings, self.settings.address, "ROLE")[0] == "master" else "replica"

    def use(self, passwords: Mapping[str, str]) -> None:
        """Make the running server use a new password from now on; its link stays up. Raises NodeError."""
        ask(self.settings, self.settings.address, "CONFIG", "SET", "masterauth", passwords[USER])


def directives(passwords: Mapping[str, str]) -> list[str]:
    """Return the lines of the configuration with which the server logs in at its primary."""
    return [f"masteruser {USER}", f"masterauth {passwords[USER]}"]


def wait_for_no_follower(settings: Settings) -> None:
    """Let the server stop at once, when no other node needs what it has; if it does not answer, it stops later.

    Redis waits for up to ten seconds until all that follow it have everything. The change log of backups follows a node
    as a replica, and never confirms anything (``backup.stream``).
    """
    # A Sentinel that makes this node a replica closes its connections.
    with suppress(NodeError):
        ask(settings, settings.address, "CONFIG", "SET", "shutdown-timeout", 0)


def holds_data(data: Path) -> bool:
    """Tell whether a volume has an append-only file that is not older than what its node held in memory."""
    manifest = _manifest(data)
    return manifest != "" and not (data / FILES / _ACCUMULATING).exists() and _marked(data) != manifest


def mark(data: Path, facts: Mapping[str, str], *, serves: bool) -> bool:
    """Mark the volume while a copy is not on its disk, and remove the mark once it is; return whether it is.

    A node that is promoted meanwhile and dies would start as the primary with its former data, and all would copy that.
    ``facts``: the sections ``replication`` and ``persistence`` of its INFO. ``serves``: it is the primary of its data.
    """
    names = "aof_rewrite_in_progress", "aof_rewrite_scheduled", "loading"
    written = facts["aof_enabled"] != "0" and all(facts[name] == "0" for name in names)
    whole = written and (serves or facts.get("master_link_status") == "up")
    if whole:
        for name in (INCOMPLETE, f"{FILES}/{_ACCUMULATING}"):
            (data / name).unlink(missing_ok=True)
    elif (data / FILES / _ACCUMULATING).exists() and _marked(data) != (manifest := _manifest(data)):
        atomic_write(data / INCOMPLETE, manifest)
    return whole


def _manifest(data: Path) -> str:
    """Return the list of the files that are the append-only file; empty if there is none."""
    return _text(data / FILES / "appendonly.aof.manifest")


def _marked(data: Path) -> str:
    return _text(data / INCOMPLETE)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""
