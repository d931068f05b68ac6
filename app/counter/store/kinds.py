"""The kinds of operations: for each its key, its command, and what the reply means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from counter.store.ids import Memory, claim_place, place_of
from counter.store.keys import BACKUP_KEY, COUNTERS, PROBE_KEY, log_key, operation_key, value_key
from counter.store.operation import Command, Operation

_REMEMBER = """
local lifetime = tonumber(ARGV[1])

-- Adds ids to a hash. Each lives for at least one lifetime and at most two, or three after the lifetime was raised.
local function remember(hash, before, ...)
  if before == hash then
    redis.call('HSET', hash, ...)
    redis.call('PEXPIRE', hash, lifetime)
    return
  end
  local left = redis.call('PTTL', hash)
  if left >= 0 and left < lifetime then
    -- If the lifetime was raised, ids in the renamed hash may still live. Then this hash goes on instead.
    if redis.call('EXISTS', before) == 0 then redis.call('RENAME', hash, before) end
    left = -2
  end
  redis.call('HSET', hash, ...)
  if left < 0 then redis.call('PEXPIRE', hash, 2 * lifetime) end
end
"""

INCREMENT = (
    _REMEMBER
    + """
local logged, groups = ARGV[2] == '1', tonumber(ARGV[3])
local answers, at, former = {}, 4, 2 + 2 * groups
for group = 1, groups do
  local hash, before, size = KEYS[1 + 2 * group], KEYS[2 + 2 * group], tonumber(ARGV[at])
  local fields = {unpack(ARGV, at + 1, at + size)}
  local values = redis.call('HMGET', hash, unpack(fields))
  local earlier = before == hash and {} or redis.call('HMGET', before, unpack(fields))
  local fresh, written = {}, {}
  for i = 1, size do
    local value = values[i] or earlier[i] or (former < #KEYS and redis.call('GET', KEYS[former + #answers + i]))
    if value then values[i] = tonumber(value) else fresh[#fresh + 1] = i end
  end
  if #fresh > 0 then
    local value = redis.call('INCRBY', KEYS[1], #fresh) - #fresh
    for n, i in ipairs(fresh) do
      values[i] = value + n
      written[2 * n - 1], written[2 * n] = fields[i], value + n
      if logged then redis.call('SADD', KEYS[2], ARGV[at + size + i]) end
      if former < #KEYS then redis.call('SET', KEYS[former + #answers + i], value + n, 'PX', lifetime) end
    end
    remember(hash, before, unpack(written))
  end
  for i = 1, size do answers[#answers + 1] = values[i] end
  at = at + 1 + size * (logged and 2 or 1)
end
return answers
"""
)
"""Count the ids that are new, and return the value of each id.

KEYS: the value, the log, then for each group of ids its hash and the renamed one, then in a transition a key for each
id (see ``counter.store.transition``). ARGV: the lifetime of ids (ms), 1 to log them, the number of groups, then for
each group the number of its ids, their fields, and the ids if they are logged.
"""

CLAIM = (
    _REMEMBER
    + """
local owners = {}
for i = 2, #ARGV, 2 do
  local owner = redis.call('HGET', KEYS[1], ARGV[i]) or redis.call('HGET', KEYS[2], ARGV[i])
  if not owner then
    owner = ARGV[i + 1]
    remember(KEYS[1], KEYS[2], ARGV[i], owner)
  end
  owners[i / 2] = owner
end
return owners
"""
)
"""Give each Idempotency-Key to the first counter that uses it, and return the counter that has it.

KEYS: the hash, and the renamed one. ARGV: the lifetime (ms), then for each Idempotency-Key its field and the counter
that uses it.
"""


class Increment(Operation):
    """Add one to a counter, once per id; the value is the counter's new value."""

    __slots__ = ("identifier", "memory", "name", "place")

    def __init__(self, name: str, identifier: str, memory: Memory, deadline: float) -> None:
        """Take the counter's name, the operation's id and how ids are stored."""
        super().__init__(value_key(name), deadline)
        self.name = name
        self.identifier = identifier
        self.memory = memory
        self.place = place_of(name, identifier)

    @classmethod
    def command(cls, group: Sequence[Self]) -> Command:
        """Return one EVAL for all increments of one counter."""
        name, memory = group[0].name, group[0].memory
        hashes = _hashes(group)
        keys = [value_key(name), log_key(name)]
        arguments: list[str | int] = [memory.lifetime, int(memory.logged), len(hashes)]
        for (key, before), ids in hashes.items():
            keys += (key, before)
            arguments += (len(ids), *ids.values())
            if memory.logged:
                arguments += ids
        if any(one.memory.both for one in group):
            keys += [operation_key(name, identifier) for ids in hashes.values() for identifier in ids]
        return ("EVAL", INCREMENT, len(keys), *keys, *arguments)

    @classmethod
    def settle(cls, group: Sequence[Self], reply: Any) -> None:
        """Give each increment the value of its id."""
        values = dict(zip((identifier for ids in _hashes(group).values() for identifier in ids), reply, strict=True))
        for one in group:
            one.value = values[one.identifier]


def _hashes(group: Sequence[Increment]) -> dict[tuple[str, str], dict[str, str]]:
    """Return where these ids are stored: hash and its renamed predecessor -> id -> field."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for one in group:
        found.setdefault((one.place.hash, one.place.before), {})[one.identifier] = one.place.field
    return found


class Read(Operation):
    """Read a counter; the value is 0 for one that was never counted."""

    __slots__ = ()

    def __init__(self, name: str, deadline: float) -> None:
        """Take the counter's name."""
        super().__init__(value_key(name), deadline)

    @classmethod
    def command(cls, group: Sequence[Self]) -> Command:
        """Return one GET for all reads of one counter."""
        return ("GET", group[0].key)

    @classmethod
    def settle(cls, group: Sequence[Self], reply: Any) -> None:
        """Give all of them the same value."""
        super().settle(group, int(reply or 0))


class BackupNote(Operation):
    """Read what is noted of the newest proved backup, as text; empty if there is none."""

    __slots__ = ()

    def __init__(self, deadline: float) -> None:
        """Take the time to give up."""
        super().__init__(BACKUP_KEY, deadline)

    @classmethod
    def command(cls, group: Sequence[Self]) -> Command:
        """Return one GET for all."""
        return ("GET", group[0].key)

    @classmethod
    def settle(cls, group: Sequence[Self], reply: Any) -> None:
        """Give all of them the same text."""
        super().settle(group, reply or "")


class Claim(Operation):
    """Give a client's Idempotency-Key to the first counter that uses it; the value is the counter that has it."""

    __slots__ = ("memory", "name", "place")

    def __init__(self, name: str, identifier: str, memory: Memory, deadline: float) -> None:
        """Take the counter's name, the client's key and how keys are stored."""
        self.place = claim_place(identifier)
        super().__init__(self.place.hash, deadline)
        self.name = name
        self.memory = memory

    @classmethod
    def command(cls, group: Sequence[Self]) -> Command:
        """Return one EVAL for all keys that share a hash."""
        first = group[0]
        pairs = [text for one in group for text in (one.place.field, one.name)]
        return ("EVAL", CLAIM, 2, first.place.hash, first.place.before, first.memory.lifetime, *pairs)

    @classmethod
    def settle(cls, group: Sequence[Self], reply: Any) -> None:
        """Give each claim the counter that has its key."""
        for one, owner in zip(group, reply, strict=True):
            one.value = owner


class Listing(Operation):
    """Add counters to the set of names."""

    __slots__ = ("names",)

    def __init__(self, names: Sequence[str], deadline: float) -> None:
        """Take the counters' names."""
        super().__init__(COUNTERS, deadline)
        self.names = names

    @classmethod
    def command(cls, group: Sequence[Self]) -> Command:
        """Return one SADD for all names."""
        return ("SADD", COUNTERS, *(name for one in group for name in one.names))


class Probe(Operation):
    """Write a key that expires, to find out whether Redis accepts writes."""

    __slots__ = ()

    def __init__(self, deadline: float) -> None:
        """Take the time to give up."""
        super().__init__(PROBE_KEY, deadline)

    @classmethod
    def command(cls, group: Sequence[Self]) -> Command:
        """Return one SET for all."""
        del group
        return ("SET", PROBE_KEY, 1, "PX", 60_000)
