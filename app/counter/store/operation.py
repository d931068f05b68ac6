"""What is asked of Redis, how it is written as commands, and what the replies mean."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from redis.exceptions import ResponseError

COUNTERS = "counters"
"""The set of all counters' names."""

PROBE_KEY = "{.ready}:value"
"""Written to find out whether writes are taken; no counter's name begins with a dot."""

type Command = tuple[str | int, ...]


def value_key(name: str) -> str:
    """Return the key of a counter's value; the braces put all keys of a counter into one slot of a cluster."""
    return f"{{{name}}}:value"


def operation_key(name: str, operation_id: str) -> str:
    """Return the key that remembers the value which an operation was answered with."""
    return f"{{{name}}}:op:{operation_id}"


def log_key(name: str) -> str:
    """Return the key of the set of all operation ids ever counted (only with ``COUNTER_HISTORY_LOG``)."""
    return f"{{{name}}}:log"


def claim_key(operation_id: str) -> str:
    """Return the key that remembers which counter a client's Idempotency-Key was used for."""
    return f"key:{operation_id}"


INCREMENT = """
local answers = {}
for i = 3, #KEYS do
  local value = redis.call('GET', KEYS[i])
  if value then
    redis.call('PEXPIRE', KEYS[i], ARGV[i - 1])
  else
    value = redis.call('INCR', KEYS[1])
    redis.call('SET', KEYS[i], value, 'PX', ARGV[i - 1])
    if ARGV[1] == '1' then redis.call('SADD', KEYS[2], string.sub(KEYS[i], #KEYS[1] - 1)) end
  end
  answers[i - 2] = tonumber(value)
end
return answers
"""
"""KEYS: the value, the log, then one operation key each. ARGV: 1 to keep the log, then one time to live (ms) each.

A repeated operation answers with its first value and writes too (PEXPIRE): WAIT compares with this connection's last
write, so after a mere read it would confirm what no replica has seen.
"""

CLAIM = """
local owner = redis.call('GET', KEYS[1]) or ARGV[1]
redis.call('SET', KEYS[1], owner, 'PX', ARGV[2])
return owner
"""
"""Give an Idempotency-Key to the first counter that uses it; return whose it is. Always writes, as above."""

CONFIRMED_READ = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
return redis.call('INCRBY', KEYS[1], 0)
"""
"""Read by a write that changes nothing, so that the WAIT after it proves that this node still is the primary."""


class Kind(Enum):
    """What an operation does."""

    INCREMENT = "increment"
    READ = "read"
    CLAIM = "claim"
    LIST = "list"
    PROBE = "probe"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt did not succeed."""

    reason: str
    uncertain: bool = False
    """The attempt may have been applied."""
    permanent: bool = False
    """Another attempt would end the same way."""


class Operation:
    """One attempt at one operation, waiting for its turn and then for its result.

    ``value`` or ``failure`` is set when it is settled, and neither is taken back: who gives up at the deadline while
    the round goes on has an uncertain failure, and goes by it though a value may follow.
    """

    __slots__ = ("deadline", "failure", "identifier", "kind", "leads", "name", "node", "ttl", "value", "wake")

    def __init__(self, kind: Kind, name: str, identifier: str, ttl: int, deadline: float) -> None:
        """Take the counter's name, the operation id, its time to live (ms) and the monotonic time to give up."""
        self.kind = kind
        self.name = name
        self.identifier = identifier
        self.ttl = ttl
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


def commands_for(batch: Sequence[Operation], *, confirmed: bool, log: bool) -> list[tuple[Command, list[Operation]]]:
    """Return the commands of one round, each with the operations that it settles.

    All increments of one counter are one EVAL. ``confirmed``: reads must prove the primary (see CONFIRMED_READ).
    ``log``: also remember every id counted.
    """
    commands: list[tuple[Command, list[Operation]]] = []
    increments: dict[str, list[Operation]] = {}
    reads: dict[str, list[Operation]] = {}
    for operation in batch:
        match operation.kind:
            case Kind.INCREMENT:
                increments.setdefault(operation.name, []).append(operation)
            case Kind.READ:
                reads.setdefault(operation.name, []).append(operation)
            case Kind.CLAIM:
                key = claim_key(operation.identifier)
                commands.append((("EVAL", CLAIM, 1, key, operation.name, operation.ttl), [operation]))
            case Kind.LIST:
                commands.append((("SADD", COUNTERS, operation.name), [operation]))
            case Kind.PROBE:
                commands.append((("SET", PROBE_KEY, 1, "PX", 60_000), [operation]))
    for name, operations in increments.items():
        keys = [operation_key(name, operation.identifier) for operation in operations]
        times = [operation.ttl for operation in operations]
        evaluate: Command = ("EVAL", INCREMENT, len(keys) + 2, value_key(name), log_key(name), *keys, int(log), *times)
        commands.append((evaluate, operations))
    for name, operations in reads.items():
        key = value_key(name)
        commands.append((("EVAL", CONFIRMED_READ, 1, key) if confirmed else ("GET", key), operations))
    return commands


_NOT_APPLIED = frozenset(
    "ASK BUSY CLUSTERDOWN CROSSSLOT LOADING MASTERDOWN MISCONF MOVED NOAUTH NOPERM NOREPLICAS OOM READONLY TRYAGAIN "
    "WRONGTYPE".split()
)
_PERMANENT = frozenset({"CROSSSLOT", "NOPERM", "WRONGTYPE"})


def failure_of(error: ResponseError) -> Failure:
    """Tell what an error reply to a script says about its effect."""
    code = error.status_code or str(error).partition(" ")[0]
    text = str(error) if str(error).startswith(code) else f"{code} {error}"
    return Failure(text, uncertain=code not in _NOT_APPLIED, permanent=code in _PERMANENT)


def settle(operations: Sequence[Operation], reply: Any) -> None:
    """Hand every operation its own part of the reply."""
    match operations[0].kind:
        case Kind.INCREMENT:
            for operation, value in zip(operations, reply, strict=True):
                operation.value = value
        case Kind.READ:
            for operation in operations:
                operation.value = int(reply or 0)
        case _:
            operations[0].value = reply
