"""What every store takes, gives and raises."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Counted:
    """A counter's value and the Redis node that said so."""

    value: int
    node: str
    role: str


@dataclass(frozen=True, slots=True)
class NodeState:
    """One Redis node as seen from this replica; ``error`` says why it is not reachable."""

    name: str
    role: str = "unknown"
    reachable: bool = False
    version: str = ""
    error: str = ""
    counters: dict[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Description:
    """What the store consists of; ``counters`` is None where the nodes may diverge (see each node's)."""

    nodes: tuple[NodeState, ...]
    counters: dict[str, int] | None = field(default=None)
    notes: tuple[str, ...] = ()


class StoreError(Exception):
    """The store could not answer in time."""


class UnavailableError(StoreError):
    """Nothing was done: no Redis node took the operation."""


class IndeterminateError(StoreError):
    """The increment may or may not have happened; repeating its operation id settles it."""


class Store(Protocol):
    """The counters. Every method ends within the configured deadline."""

    @property
    def promise(self) -> str:
        """A sentence for people: what an acknowledged increment survives."""

    @property
    def warning(self) -> str | None:
        """A sentence shown with emphasis where the arrangement is not safe."""

    def increment(self, name: str, operation_id: str) -> Counted:
        """Add one to ``name`` and return the new value once it is as durable as promised.

        Raises:
            UnavailableError: not counted.
            IndeterminateError: counted or not; the caller may repeat the same ``operation_id``.

        """

    def read(self, name: str) -> Counted:
        """Return the value of ``name`` (0 for a counter never counted).

        Raises:
            UnavailableError: no node answered.

        """

    def describe(self) -> Description:
        """Return what is reachable; never raises for an unreachable node."""

    def ready(self) -> None:
        """Return when an increment would be taken now.

        Raises:
            UnavailableError: it would not.

        """
