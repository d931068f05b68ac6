"""``python -m counter.rights``: tries each command that the app needs of an external Redis.

``COUNTER_*`` describes this Redis. Each command is sent to keys that no counter has and that expire within a minute, or
changes nothing, so this works with any version of Redis and needs no right to ask for rights.
Exit status 1: Redis does not answer, or refuses commands; standard error says which.
"""

from __future__ import annotations

import sys

from redis.exceptions import RedisError

from counter.config import Config
from counter.store.attempt import Command
from counter.store.client import client
from counter.store.external import ExternalRoute
from counter.store.keys import COUNTERS, NEW_KEY, PROBE_KEY, value_key

VALUE, HASH, BEFORE, MARKS = PROBE_KEY, "{.ready}:keys", "{.ready}:keys:before", "{.ready}:imports"
SECONDS = 60
TRIED: tuple[Command, ...] = (
    ("EVAL", "return redis.call('SET', KEYS[1], 1)", 1, VALUE),
    ("SET", VALUE, 1, "EX", SECONDS),
    ("GET", VALUE),
    ("INCRBY", VALUE, 1),
    ("HSET", HASH, "field", 1),
    ("HGET", HASH, "field"),
    ("HMGET", HASH, "field"),
    ("PTTL", HASH),
    ("EXISTS", HASH),
    ("PEXPIRE", HASH, SECONDS * 1000),
    ("RENAME", HASH, BEFORE),
    ("SADD", MARKS, "mark"),
    ("PEXPIRE", MARKS, SECONDS * 1000),
    ("SCARD", MARKS),
    ("SISMEMBER", MARKS, "mark"),
    ("SMEMBERS", MARKS),
    ("SCAN", 0, "MATCH", value_key("*"), "COUNT", 1),
    ("SREM", MARKS, "mark"),
    ("UNLINK", BEFORE, MARKS),
    ("ROLE",),
    ("EXISTS", COUNTERS),
    # These two keys have names of their own, and a user may have the right to only read them.
    ("SREM", COUNTERS, VALUE),
    ("SET", NEW_KEY, 0, "NX", "PX", SECONDS * 1000),
)


def refused(config: Config) -> list[str]:
    """Return what an external Redis answers to the commands that it refuses; raises RedisError, OSError."""
    route = ExternalRoute(config)
    with client(route.address, route.options) as redis, redis.pipeline(transaction=False) as pipeline:
        for command in TRIED:
            pipeline.execute_command(*command)
        replies = pipeline.execute(raise_on_error=False)
    return [
        f"{command[0]}: {reply}"
        for command, reply in zip(TRIED, replies, strict=True)
        # RENAME also fails if HSET was refused.
        if isinstance(reply, RedisError) and "no such key" not in str(reply)
    ]


def main() -> int:
    """Try, and return the exit status."""
    try:
        found = refused(Config.from_env())
    except (RedisError, OSError) as error:
        sys.stderr.write(f"it does not answer as the app needs it: {error}\n")
        return 1
    if found:
        sys.stderr.write(f"it refuses commands that the app needs: {'; '.join(found)}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
