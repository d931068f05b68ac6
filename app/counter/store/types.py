"""What the store gives and raises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

NO_ROOM = "no-room"


class Counted(NamedTuple):
    """A counter's value and the Redis node that said so (always its primary)."""

    value: int
    node: str


@dataclass(frozen=True, slots=True)
class NodeState:
    """One Redis node as seen from this replica; ``error`` says why it is not reachable.

    ``slots``: how many of a cluster's slots it serves; None outside a cluster. ``memory`` in bytes, used and allowed
    (0: without a limit). ``promotable``: whether a replica may become the primary; None for other nodes.
    """

    name: str
    role: str = "unknown"
    reachable: bool = False
    version: str = ""
    error: str = ""
    counters: dict[str, int] | None = None
    memory: tuple[int, int] | None = None
    promotable: bool | None = None
    slots: int | None = None


@dataclass(frozen=True, slots=True)
class Description:
    """What the store consists of; ``counters`` is None where the nodes may diverge (see each node's) or are gone.

    ``more``: whether there are more counters than are shown (``client.SHOWN_COUNTERS``).
    """

    nodes: tuple[NodeState, ...]
    counters: dict[str, int] | None = None
    more: bool = False


class StoreError(Exception):
    """The store could not answer in time; ``operation_id`` names the increment, where it was one."""

    def __init__(self, reason: str, operation_id: str = "") -> None:
        """Take a reason for the log."""
        super().__init__(reason)
        self.operation_id = operation_id


class UnavailableError(StoreError):
    """Nothing was done: no Redis node accepted the operation."""


class IndeterminateError(StoreError):
    """The increment may or may not have happened. Repeating it with ``operation_id`` as Idempotency-Key settles it."""

    def __init__(self, reason: str, operation_id: str, seconds: float) -> None:
        """Take how long after its first attempt the operation may be repeated."""
        super().__init__(reason, operation_id)
        self.seconds = seconds


class ReusedKeyError(StoreError):
    """The client's Idempotency-Key belongs to another counter."""


class UnsupportedKeyError(StoreError):
    """The nodes share nothing, so a key that one node has seen is unknown to the others."""


class RefusedError(StoreError):
    """A new counter or key was refused, and nothing was counted; the text says why.

    ``code``: ``no-room`` in Redis, ``too-many-counters``, or ``too-many-new-counters`` in this minute. ``seconds``:
    when to try again.
    """

    def __init__(self, reason: str, code: str = NO_ROOM, seconds: int = 60) -> None:
        """Take why, and when to try again."""
        super().__init__(reason)
        self.code, self.seconds = code, seconds
