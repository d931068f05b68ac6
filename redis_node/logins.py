"""The login of a data node at its primary."""

from __future__ import annotations

from collections.abc import Mapping

from redis_node.ask import ask
from redis_node.settings import Settings

USER = "replication"


def directives(passwords: Mapping[str, str]) -> list[str]:
    """Return the lines of its configuration."""
    return [f"masteruser {USER}", f"masterauth {passwords[USER]}"]


def use(settings: Settings, passwords: Mapping[str, str]) -> None:
    """Make the running server use a new password from now on; its link stays up. Raises NoAnswerError."""
    ask(settings, settings.address, "CONFIG", "SET", "masterauth", passwords[USER])
