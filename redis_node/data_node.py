"""What all kinds of data nodes have in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from redis_node.ask import ask
from redis_node.settings import Settings

USER = "replication"


def directives(passwords: Mapping[str, str]) -> list[str]:
    """Return the lines of the configuration with which the server logs in at its primary."""
    return [f"masteruser {USER}", f"masterauth {passwords[USER]}"]


def use(settings: Settings, passwords: Mapping[str, str]) -> None:
    """Make the running server use a new password from now on; its link stays up. Raises NoAnswerError."""
    ask(settings, settings.address, "CONFIG", "SET", "masterauth", passwords[USER])


def role(settings: Settings) -> str:
    """Return ``primary`` or ``replica``; raises NoAnswerError."""
    return "primary" if ask(settings, settings.address, "ROLE")[0] == "master" else "replica"


def holds_data(data: Path) -> bool:
    """Tell whether a volume has an append-only file."""
    return any((data / "appendonlydir").glob("*.manifest"))
