"""What each kind of node can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from redis_node.settings import Settings


class Kind(ABC):
    """One node, by what it is for."""

    def __init__(self, settings: Settings) -> None:
        """Take the settings of the node."""
        self.settings = settings

    @abstractmethod
    def command(self) -> Sequence[str]:
        """Decide how the server starts and return its command. Waits until the decision is certain."""

    @abstractmethod
    def after_start(self) -> None:
        """Watch the running server, in a thread of its own; may run until the process ends."""

    @abstractmethod
    def before_stop(self) -> None:
        """Prepare the others for the stop of this node; takes a limited time. If it fails, the node stops anyway."""

    @abstractmethod
    def role(self) -> str:
        """Return ``primary``, ``replica`` or ``sentinel``; raises NodeError."""

    @abstractmethod
    def what_is_missing(self) -> str:
        """Return why the set could not lose any one node without harm; empty if it could."""

    @abstractmethod
    def use(self, passwords: Mapping[str, str]) -> None:
        """Make the running server log in to the others with new passwords; raises NodeError."""
