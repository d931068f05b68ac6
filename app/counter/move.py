"""``python -m counter.move HOST:PORT...``: copies what Redis nodes of another topology hold, and proves the copy.

The nodes on the command line held the counters before. They are only read, and nothing counts during the copy.
``COUNTER_*`` describes the new store. Writes to it are confirmed by its replicas, as increments are. Keys that expire
keep the time that they have left. If a run is interrupted, run the program again: it completes the copy.

Standard input: one line, a JSON object of the last known counters, name -> value. The copy must hold at least these.
Standard output: one JSON object, ``counters`` and their ``sum``, and ``keys``, the number of all that was copied.
Exit status 1: the copy was not made or is not equal; standard error says why.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain

from redis import Redis
from redis.exceptions import RedisError

from counter.config import Address, Config
from counter.entries import Entry, EntryError, Value, copy, read, some
from counter.store import open_route
from counter.store.client import client, connection_options
from counter.store.keys import BACKUP_KEY
from counter.store.primaries import PATIENCE_SECONDS, POLL_SECONDS, ROUND_SECONDS, Primaries
from counter.store.types import UnavailableError


class MoveError(Exception):
    """The copy cannot be made, or is not equal; the text says which key or node."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What the new store holds after a move."""

    keys: int
    counters: int
    sum: int


def move(sources: Sequence[Redis], target: Primaries, seen: Mapping[str, int]) -> Moved:
    """Copy everything, then read both sides again and compare; raises MoveError, EntryError, UnavailableError."""
    for source in sources:
        # A backup does not have it, so `read` leaves it out. It says which backups the counters are compared with.
        if note := source.get(BACKUP_KEY):
            target.run([("SET", BACKUP_KEY, str(note))])
    keys, counters = copy(partial(_entries, sources), target.run)
    if short := [
        f"{name}: {value} seen, {counters.get(name, 0)} moved"
        for name, value in seen.items()
        if counters.get(name, 0) < value
    ]:
        raise MoveError(f"the new nodes hold less than the app returned before the move: {some(short)}")
    return Moved(keys, len(counters), sum(counters.values()))


def _entries(sources: Sequence[Redis]) -> Iterator[list[Entry]]:
    """Yield what the old nodes hold; raises MoveError where two of them have different values of a key that stays."""
    held: dict[str, Value] = {}
    for entries in chain.from_iterable(map(read, sources)):
        stay = [entry for entry in entries if entry.left is None]
        if other := [entry.key for entry in stay if held.setdefault(entry.key, entry.value) != entry.value]:
            raise MoveError(f"two of the old nodes hold different values: {some(other)}")
        yield entries


def _await(source: Redis) -> None:
    """Wait until a node has loaded its data; raises MoveError."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            source.ping()
        except (RedisError, OSError) as error:
            if time.monotonic() > deadline:
                raise MoveError(f"an old Redis node does not answer: {error}") from error
            time.sleep(POLL_SECONDS)
        else:
            return


def main(arguments: Sequence[str]) -> int:
    """Move; return the exit status."""
    config = Config.from_env()
    # One reply can be all that a counter ever logged.
    options = connection_options(config) | {"socket_timeout": ROUND_SECONDS}
    sources = [client(Address.parse(argument, 6379), options) for argument in arguments]
    try:
        for source in sources:
            _await(source)
        moved = move(sources, Primaries(open_route(config)), json.loads(sys.stdin.readline() or "{}"))
    except UnavailableError as error:
        sys.stderr.write(f"the new Redis nodes did not confirm the copy: {error}\n")
        return 1
    except (MoveError, EntryError, RedisError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(asdict(moved)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
