"""The kinds of operations: for each its key, its command, and what the reply means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import Template
from typing import Any, Self

from counter.store.attempt import Attempt, Command
from counter.store.ids import IdRetention, claim_place, place_of
from counter.store.keys import COUNTERS, NEW_KEY, PROBE_KEY, log_key, operation_key, value_key


def _packed(script: str) -> str:
    """Return a script without comments and indentation: Redis hashes its text whenever it runs."""
    return re.sub(r"\s*(--.*)?\n\s*", "\n", script)


_MAKE_ROOM = """
local lifetime = tonumber(ARGV[1])

-- Prepares a hash for more ids; returns when it has to expire once it has them, nil if that is set already. Each id
-- lives for at least one lifetime and at most two, or three after the lifetime was raised.
local function make_room(hash, previous)
  if previous == hash then return lifetime end
  local left = redis.call('PTTL', hash)
  if left >= lifetime then return nil end
  -- If the lifetime was raised, ids in the renamed hash may still live. Then this hash goes on instead.
  if left >= 0 and redis.call('EXISTS', previous) == 0 then redis.call('RENAME', hash, previous) end
  return 2 * lifetime
end
"""

_INCREMENT = Template(
    _MAKE_ROOM
    + """
if ARGV[3] == '0' and redis.call('EXISTS', KEYS[1]) == 0 then return {} end
local answers, at = {}, 4$begin
for group = 1, tonumber(ARGV[2]) do
  local hash, previous, size = KEYS[2 * group], KEYS[2 * group + 1], tonumber(ARGV[at])
  local fields = {unpack(ARGV, at + 1, at + size)}
  local values = redis.call('HMGET', hash, unpack(fields))
  local earlier = previous == hash and {} or redis.call('HMGET', previous, unpack(fields))
  local fresh, written = {}, {}
  for i = 1, size do
    local value = values[i] or earlier[i]$known
    if value then values[i] = tonumber(value) else fresh[#fresh + 1] = i end
  end
  if #fresh > 0 then
    local expiry = make_room(hash, previous)
    local value = redis.call('INCRBY', KEYS[1], #fresh) - #fresh
    for n, i in ipairs(fresh) do
      values[i] = value + n
      written[2 * n - 1], written[2 * n] = fields[i], value + n
    end
    -- Redis does not roll back what a script did before an error, and what is counted must have its id.
    local stored = redis.pcall('HSET', hash, unpack(written))
    if type(stored) == 'table' then
      redis.call('INCRBY', KEYS[1], -#fresh)
      return redis.error_reply('ERR ' .. stored.err)
    end
    if expiry then redis.call('PEXPIRE', hash, expiry) end$counted
  end
  for i = 1, size do answers[#answers + 1] = values[i] end
  at = at + 1 + size
end
return answers
"""
)

INCREMENT = _packed(_INCREMENT.substitute(begin="", known="", counted=""))
"""Count the ids that are new, and return the value of each id; nothing if the counter would be made and must not be.

KEYS: the value, then for each group of ids its hash and the renamed one. ARGV: the lifetime of ids (ms), the number of
groups, 1 if the counter may be made, then for each group the number of its ids, and their fields.
"""

INCREMENT_AND_MORE = _packed(
    _INCREMENT.substitute(
        begin="""
local former, logged = 2 + 2 * tonumber(ARGV[2]), #ARGV - tonumber(ARGV[#ARGV]) - 1""",
        known="""
    value = value or former < #KEYS and redis.call('GET', KEYS[former + #answers + i])""",
        counted="""
    for _, i in ipairs(fresh) do
      if former < #KEYS then redis.call('SET', KEYS[former + #answers + i], values[i], 'PX', lifetime) end
      if logged + 1 < #ARGV then redis.call('SADD', KEYS[former], ARGV[logged + #answers + i]) end
    end""",
    )
)
"""The same in a transition (see ``counter.store.transition``) and in tests that log the ids.

KEYS: then also the log, and in a transition a key for each id. ARGV: then also the ids if they are logged, and how many
are.
"""

RECOGNISE = """
local values = {}
for i, field in ipairs(ARGV) do
  values[i] = tonumber(redis.call('HGET', KEYS[2 * i - 1], field) or redis.call('GET', KEYS[2 * i]) or 0)
end
return values
"""
"""Return the value of each id of the application; 0 if it is not known.

KEYS: for each id its hash, and the key in which a replica stored it in a transition. ARGV: the fields.
"""

CLAIM = _packed(
    _MAKE_ROOM
    + """
local owners = {}
for i = 3, #ARGV, 2 do
  local owner = redis.call('HGET', KEYS[1], ARGV[i]) or redis.call('HGET', KEYS[2], ARGV[i])
  if not owner and ARGV[2] == '0' then
    owner = ''
  elseif not owner then
    owner = ARGV[i + 1]
    local expiry = make_room(KEYS[1], KEYS[2])
    redis.call('HSET', KEYS[1], ARGV[i], owner)
    if expiry then redis.call('PEXPIRE', KEYS[1], expiry) end
  end
  owners[#owners + 1] = owner
end
return owners
"""
)
"""Give each Idempotency-Key to the first counter that uses it, and return the counter that has it.

KEYS: the hash, and the renamed one. ARGV: the lifetime (ms), 0 if nothing may be stored (then the counter of an unknown
key is empty), then for each Idempotency-Key its field and the counter that uses it.
"""


ADMIT = _packed("""
local most, per_minute, answers = tonumber(ARGV[1]), tonumber(ARGV[2]), {}
local new = tonumber(redis.call('GET', KEYS[2]) or 0)
-- It ends at a time of day. If the clock was set back since, the minute begins anew.
if redis.call('PTTL', KEYS[2]) > 60000 then new = 0 end
for i = 3, #ARGV do
  if redis.call('SISMEMBER', KEYS[1], ARGV[i]) == 1 then
    answers[i - 2] = 0
  elseif redis.call('SCARD', KEYS[1]) >= most then
    answers[i - 2] = -1
  elseif new >= per_minute then
    answers[i - 2] = math.max(1, redis.call('PTTL', KEYS[2]))
  else
    if new == 0 then redis.call('SET', KEYS[2], 0, 'PX', 60000) end
    new = redis.call('INCRBY', KEYS[2], 1)
    redis.call('SADD', KEYS[1], ARGV[i])
    answers[i - 2] = 0
  end
end
return answers
""")
"""Admit names that are not in the set of names, within limits, and return for how long each is refused (ms).

KEYS: the set, and how many names were new in this minute. ARGV: how many names there may be, and may be new in a
minute, then the names.
"""


class Increment(Attempt):
    """Add one to a counter, once per id; the value is the counter's new value, 0 if there is no such counter."""

    __slots__ = ("creates", "identifier", "name", "place", "retention")

    def __init__(
        self, name: str, identifier: str, retention: IdRetention, deadline: float, *, creates: bool = True
    ) -> None:
        """Take the counter's name, the operation's id and how ids are stored; ``creates``: it may make the counter."""
        super().__init__(value_key(name), deadline)
        self.creates = creates
        self.name = name
        self.identifier = identifier
        self.retention = retention
        self.place = place_of(name, identifier)

    @classmethod
    def command(cls, group: Sequence[Self]) -> Command:
        """Return one EVAL for all increments of one counter."""
        retention, hashes = group[0].retention, _hashes(group)
        keys = [group[0].key]
        arguments: list[str | int] = [retention.lifetime, len(hashes), int(any(one.creates for one in group))]
        for (key, previous), fields in hashes.items():
            keys += (key, previous)
            arguments += (len(fields), *fields.values())
        if not (retention.logged or any(one.retention.in_former_keys for one in group)):
            return ("EVAL", INCREMENT, len(keys), *keys, *arguments)
        ids = [identifier for fields in hashes.values() for identifier in fields]
        keys.append(log_key(group[0].name))
        if any(one.retention.in_former_keys for one in group):
            keys += [operation_key(group[0].name, identifier) for identifier in ids]
        logged = ids if retention.logged else []
        return ("EVAL", INCREMENT_AND_MORE, len(keys), *keys, *arguments, *logged, len(logged))

    @classmethod
    def settle(cls, group: Sequence[Self], reply: Any) -> None:
        """Give each increment the value of its id."""
        ids = [identifier for ids in _hashes(group).values() for identifier in ids]
        values = dict(zip(ids, reply or [0] * len(ids), strict=True))
        for one in group:
            one.value = values[one.identifier]


def _hashes(group: Sequence[Increment]) -> dict[tuple[str, str], dict[str, str]]:
    """Return where these ids are stored: hash and its renamed predecessor -> id -> field."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for one in group:
        found.setdefault((one.place.hash, one.place.previous), {})[one.identifier] = one.place.field
    return found


class Recognition(Attempt):
    """Read the value that an id of the application was answered with; 0 if it is not known. Nothing is counted."""

    __slots__ = ("former", "place")

    def __init__(self, name: str, identifier: str, deadline: float) -> None:
        """Take the counter's name and the operation's id."""
        super().__init__(value_key(name), deadline)
        self.place, self.former = place_of(name, identifier), operation_key(name, identifier)

    @classmethod
    def command(cls, group: Sequence[Self]) -> Command:
        """Return one EVAL for all ids of one counter."""
        keys = [key for one in group for key in (one.place.hash, one.former)]
        return ("EVAL", RECOGNISE, len(keys), *keys, *(one.place.field for one in group))

    @classmethod
    def settle(cls, group: Sequence[Self], reply: Any) -> None:
        """Give each id its value."""
        for one, value in zip(group, reply, strict=True):
            one.value = value


class Read(Attempt):
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


class Creation(Attempt):
    """Make a counter with the value 0; the value tells whether there was none."""

    __slots__ = ()

    def __init__(self, name: str, deadline: float) -> None:
        """Take the counter's name."""
        super().__init__(value_key(name), deadline)

    @classmethod
    def command(cls, group: Sequence[Self]) -> Command:
        """Return one SET for all, which changes no counter that exists."""
        return ("SET", group[0].key, 0, "NX")

    @classmethod
    def settle(cls, group: Sequence[Self], reply: Any) -> None:
        """Tell the first that it made the counter, unless there was one."""
        for number, one in enumerate(group):
            one.value = number == 0 and reply is not None


class Note(Attempt):
    """Read the text of a key, such as ``BACKUP_KEY`` or ``SITE_KEY``; empty if there is none."""

    __slots__ = ()

    @classmethod
    def command(cls, group: Sequence[Self]) -> Command:
        """Return one GET for all."""
        return ("GET", group[0].key)

    @classmethod
    def settle(cls, group: Sequence[Self], reply: Any) -> None:
        """Give all of them the same text."""
        super().settle(group, reply or "")


class Claim(Attempt):
    """Give a client's Idempotency-Key to the first counter that uses it; the value is the counter that has it.

    It is empty if no counter has the key and none may have it.
    """

    __slots__ = ("name", "place", "retention", "stores")

    def __init__(
        self, name: str, identifier: str, retention: IdRetention, deadline: float, *, stores: bool = True
    ) -> None:
        """Take the counter's name, the client's key and how keys are stored; ``stores``: an unknown key may be."""
        self.place = claim_place(identifier)
        self.stores = stores
        super().__init__(self.place.hash, deadline)
        self.name = name
        self.retention = retention

    @classmethod
    def command(cls, group: Sequence[Self]) -> Command:
        """Return one EVAL for all keys that share a hash."""
        first = group[0]
        pairs = [text for one in group for text in (one.place.field, one.name)]
        stores = int(any(one.stores for one in group))
        return ("EVAL", CLAIM, 2, first.place.hash, first.place.previous, first.retention.lifetime, stores, *pairs)

    @classmethod
    def settle(cls, group: Sequence[Self], reply: Any) -> None:
        """Give each claim the counter that has its key."""
        for one, owner in zip(group, reply, strict=True):
            one.value = owner


class Admission(Attempt):
    """Admit a new counter, and add its name to the set of names; the value says for how long it is refused, in ms.

    0: it is admitted; -1: there are too many counters.
    """

    __slots__ = ("most", "name", "per_minute")

    def __init__(self, name: str, most: int, per_minute: int, deadline: float) -> None:
        """Take the counter's name, and how many there may be, and may be new in a minute, in the whole stack."""
        super().__init__(COUNTERS, deadline)
        self.name, self.most, self.per_minute = name, most, per_minute

    @classmethod
    def command(cls, group: Sequence[Self]) -> Command:
        """Return one EVAL for all names."""
        first = group[0]
        names = (one.name for one in group)
        return ("EVAL", ADMIT, 2, COUNTERS, NEW_KEY, first.most, first.per_minute, *names)

    @classmethod
    def settle(cls, group: Sequence[Self], reply: Any) -> None:
        """Give each name its answer."""
        for one, refused in zip(group, reply, strict=True):
            one.value = refused


class Probe(Attempt):
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
