"""``python -m counter.site SITE STACK GENERATION [--anyway]``: marks the data in Redis as that of a stack.

Data that another stack has marked, or whose mark is older than GENERATION, is left as it is, unless ``--anyway`` says
that somebody has looked. Otherwise its mark gets the next generation, confirmed as increments are, and all counters are
listed. Data without a mark is marked if GENERATION is 0: the stack has marked nothing yet.

Standard input: one line, a JSON object. ``environment``: ``COUNTER_*`` that describe the store; ``password``: of Redis.
Standard output: a JSON object, see ``Found``.
Exit status 1: the data cannot be read or marked; standard error says why.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import batched

from counter.config import Config, ConfigError, Topology
from counter.data import read_all
from counter.store import open_route
from counter.store.keys import COUNTERS, SITE_KEY
from counter.store.primaries import BATCH, Primaries
from counter.store.site import Mark
from counter.store.types import UnavailableError


@dataclass(frozen=True, slots=True)
class Found:
    """What was found.

    ``others``: marks that speak against serving the data, or are missing; nothing was marked where there are any,
    unless ``--anyway`` was given. ``generation``: that of the data now. ``counters`` and ``sum``: what it holds.
    """

    others: list[Mark]
    generation: int
    counters: int
    sum: int


def mark(homes: Sequence[Primaries], ours: Mark, *, anyway: bool = False) -> Found:
    """Mark the data of each home, unless it is somebody else's or older than ``ours``.

    Raises:
        UnavailableError, ValueError: the data cannot be read or marked.

    """
    marks = [Mark.parse(home.run([("GET", SITE_KEY)])[0]) for home in homes]
    # A node that was added to independent ones has no mark yet.
    others = [
        found
        for found in marks
        if (found.site and (found.site != ours.site or found.generation < ours.generation))
        or (ours.generation and not any(other.site for other in marks))
    ]
    generation = max(found.generation for found in [ours, *marks])
    held = [read_all(home) for home in homes]
    if anyway or not others:
        generation += 1
        for home, records in zip(homes, held, strict=True):
            home.run([("SET", SITE_KEY, replace(ours, generation=generation).text())])
            # A removal that was killed may have left counters that are not listed.
            for batch in batched(records, BATCH):
                home.run([("SADD", COUNTERS, *(record.name for record in batch))])
    all_records = [record for records in held for record in records]
    names = {record.name for record in all_records}
    return Found(others, generation, len(names), sum(record.value for record in all_records))


def homes_of(config: Config) -> list[Primaries]:
    """Return what holds data of its own: all primaries together, or each node if they are independent."""
    if config.topology is not Topology.INDEPENDENT:
        return [Primaries(open_route(config))]
    alone = replace(config, topology=Topology.STANDALONE)
    return [Primaries(open_route(replace(alone, redis_nodes=(node,)))) for node in config.redis_nodes]


def main(arguments: Sequence[str]) -> int:
    """Mark; return the exit status."""
    site, stack, generation, *options = arguments
    given = json.loads(sys.stdin.readline())
    try:
        config = replace(Config.from_env(given["environment"]), password=given["password"] or None)
        found = mark(homes_of(config), Mark(site, stack, int(generation)), anyway="--anyway" in options)
    except (ConfigError, UnavailableError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(asdict(found)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
