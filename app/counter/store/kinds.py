"""The kinds of operations: for each its key, its command, and what the reply means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from counter.store.keys import COUNTERS, PROBE_KEY, claim_key, log_key, operation_key, value_key
from counter.store.operation import Command, Operation

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


class Increment(Operation):
    """Add one to a counter, once per id; the value is the counter's new value."""

    __slots__ = ("identifier", "logged", "name", "ttl")

    def __init__(self, name: str, identifier: str, ttl: int, deadline: float, *, logged: bool = False) -> None:
        """Take the counter's name, the operation's id and its time to live (ms); ``logged``: keep the id for good."""
        super().__init__(value_key(name), deadline)
        self.name = name
        self.identifier = identifier
        self.ttl = ttl
        self.logged = logged

    @classmethod
    def command(cls, group: Sequence[Self]) -> Command:
        """Return one EVAL for all increments of one counter."""
        name = group[0].name
        keys = [operation_key(name, one.identifier) for one in group]
        times = [one.ttl for one in group]
        logged = int(group[0].logged)
        return ("EVAL", INCREMENT, len(keys) + 2, value_key(name), log_key(name), *keys, logged, *times)

    @classmethod
    def settle(cls, group: Sequence[Self], reply: Any) -> None:
        """Hand each increment its own value."""
        for one, value in zip(group, reply, strict=True):
            one.value = value


class Read(Operation):
    """Read a counter; the value is 0 for one that was never counted."""

    __slots__ = ("confirmed",)

    def __init__(self, name: str, deadline: float, *, confirmed: bool) -> None:
        """Take the counter's name; ``confirmed``: prove the primary (see CONFIRMED_READ)."""
        super().__init__(value_key(name), deadline)
        self.confirmed = confirmed

    @classmethod
    def command(cls, group: Sequence[Self]) -> Command:
        """Return one command for all who read the same counter."""
        key = group[0].key
        return ("EVAL", CONFIRMED_READ, 1, key) if group[0].confirmed else ("GET", key)

    @classmethod
    def settle(cls, group: Sequence[Self], reply: Any) -> None:
        """Hand everybody the same value."""
        super().settle(group, int(reply or 0))


class Claim(Operation):
    """Give a client's Idempotency-Key to the first counter that uses it; the value is the counter that has it."""

    __slots__ = ("name", "ttl")

    def __init__(self, name: str, identifier: str, ttl: int, deadline: float) -> None:
        """Take the counter's name, the client's key and its time to live (ms)."""
        super().__init__(claim_key(identifier), deadline)
        self.name = name
        self.ttl = ttl

    @classmethod
    def command(cls, group: Sequence[Self]) -> Command:
        """Return one EVAL: the first of the group is the first to use the key, unless somebody was before."""
        return ("EVAL", CLAIM, 1, group[0].key, group[0].name, group[0].ttl)


class Listing(Operation):
    """Add a counter to the set of names."""

    __slots__ = ("name",)

    def __init__(self, name: str, deadline: float) -> None:
        """Take the counter's name."""
        super().__init__(COUNTERS, deadline)
        self.name = name

    @classmethod
    def command(cls, group: Sequence[Self]) -> Command:
        """Return one SADD for all names."""
        return ("SADD", COUNTERS, *(one.name for one in group))


class Probe(Operation):
    """Write something that expires, to find out whether writes are taken."""

    __slots__ = ()

    def __init__(self, deadline: float) -> None:
        """Take the time to give up."""
        super().__init__(PROBE_KEY, deadline)

    @classmethod
    def command(cls, group: Sequence[Self]) -> Command:
        """Return one SET, whoever asks."""
        del group
        return ("SET", PROBE_KEY, 1, "PX", 60_000)
