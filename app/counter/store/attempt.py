"""One attempt at a request to Redis: how it waits, and how it ends."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from redis.exceptions import RedisError

type Command = tuple[str | int, ...]


def key_of(command: Command) -> str:
    """Return the first key of a command."""
    return str(command[3 if command[0] == "EVAL" else 1])


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt did not succeed."""

    reason: str
    uncertain: bool = False
    """The attempt may have been applied."""
    permanent: bool = False
    """Another attempt would end the same way."""
    full: bool = False
    """Redis has no room for writes. It goes on answering reads, and another primary would have no more room."""


class Attempt:
    """One attempt at one operation; each kind of operation is a subclass (see ``counter.store.operations``).

    ``value`` or ``failure`` is set when it is settled, and neither is ever cleared: a caller that gives up at the
    deadline keeps its failure, which is uncertain, even if a value arrives later.
    """

    __slots__ = ("deadline", "failure", "key", "leads", "node", "value", "wake")

    def __init__(self, key: str, deadline: float) -> None:
        """Take the key, whose slot decides which primary is asked, and the monotonic time at which to give up."""
        self.key = key
        self.deadline = deadline
        self.value: Any = None
        self.node = ""
        self.failure: Failure | None = None
        self.leads = False
        self.wake = threading.Lock()
        self.wake.acquire()

    @property
    def settled(self) -> bool:
        """Tell whether the result is in."""
        return self.value is not None or self.failure is not None

    @classmethod
    def command(cls, group: Sequence[Self]) -> Command:
        """Return one command for a group of operations of this kind that have the same ``key``."""
        raise NotImplementedError

    @classmethod
    def settle(cls, group: Sequence[Self], reply: Any) -> None:
        """Give each operation of such a group its part of the reply."""
        for operation in group:
            operation.value = reply


def groups_of(batch: Sequence[Attempt]) -> list[list[Attempt]]:
    """Return the operations of one round, grouped by the command that they share."""
    groups: dict[tuple[type[Attempt], str], list[Attempt]] = {}
    for operation in batch:
        groups.setdefault((type(operation), operation.key), []).append(operation)
    return list(groups.values())


_NOT_APPLIED = frozenset(
    "ASK BUSY CLUSTERDOWN CROSSSLOT LOADING MASTERDOWN MISCONF MOVED NOAUTH NOPERM NOREPLICAS OOM READONLY TRYAGAIN "
    "WRONGTYPE".split()
)
_PERMANENT = frozenset({"CROSSSLOT", "NOPERM", "WRONGTYPE"})
_FULL = frozenset({"MISCONF", "OOM"})


def failure_of(error: RedisError) -> Failure:
    """Tell what an error reply means for the effect of its command."""
    code = getattr(error, "status_code", None) or str(error).partition(" ")[0]
    text = str(error) if str(error).startswith(code) else f"{code} {error}"
    return Failure(text, uncertain=code not in _NOT_APPLIED, permanent=code in _PERMANENT, full=code in _FULL)
