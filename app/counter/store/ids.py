"""Ids of operations, and where Redis stores them: many ids share one hash, which expires as a whole.

A Redis key for each id takes 150 bytes. In a small hash, an id takes about 10 bytes if the application made it. A
client's Idempotency-Key takes 50 to 75 bytes, including the record of the counter that it belongs to; as two Redis keys
it took 344 (Redis 8.0, 20,000 to 50,000 ids).

- The application's own id consists of the random name of a series and a number. Each counter has a series of its own,
  of which consecutive numbers share a hash. Redis stores fields and values as small integers.
- Of a client's key, only a digest is stored. Its first characters select the hash. When a hash is as old as the
  lifetime of an id, it is renamed and a new one begins; the renamed hash is still searched until it expires.
"""

from __future__ import annotations

import itertools
import os
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

TOGETHER = 128
"""How many of the application's own ids share a hash."""
SERIES_KEPT = 10_000
"""How many counters have a series at the same time. A new series begins with a hash of its own."""
DIGEST_BYTES = 12
"""The probability that any two of a billion keys have the same digest is below 1 in 10**10."""
_OURS = re.compile(r"([0-9a-f]{16})-(0|[1-9][0-9]{0,14})")


@dataclass(frozen=True, slots=True)
class Memory:
    """How ids are stored: for at least ``lifetime`` ms; if ``logged``, also in a set that never expires (for tests).

    ``both``: also where the previous version looks (see ``counter.store.transition``).
    """

    lifetime: int
    logged: bool = False
    both: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where an id is stored: the hash, the renamed one (the same if it is never renamed), and the field."""

    hash: str
    before: str
    field: str


def place_of(name: str, identifier: str) -> Place:
    """Return where the counter ``name`` stores the value that the operation was answered with."""
    if ours := _OURS.fullmatch(identifier):
        together, field = divmod(int(ours[2]), TOGETHER)
        key = f"{{{name}}}:ids:{ours[1]}:{together}"
        return Place(key, key, str(field))
    digest = _digest(identifier)
    key = f"{{{name}}}:keys:{digest[:2]}"
    return Place(key, f"{key}:before", digest[2:])


def claim_place(identifier: str) -> Place:
    """Return where the counter is stored that a client's Idempotency-Key was used for.

    No counter's name begins with a dot. In a cluster, claims spread over the slots.
    """
    digest = _digest(identifier)
    key = f"{{.{digest[:2]}}}:keys"
    return Place(key, f"{key}:before", digest[2:])


def _digest(identifier: str) -> str:
    return urlsafe_b64encode(blake2b(identifier.encode(), digest_size=DIGEST_BYTES).digest()).decode()


_series: dict[str, tuple[str, Iterator[int]]] = {}


def new_id(name: str) -> str:
    """Return a unique id for an increment of the counter ``name``."""
    if (found := _series.get(name)) is None:
        if len(_series) >= SERIES_KEPT:
            _series.clear()
        found = _series.setdefault(name, (secrets.token_hex(8), itertools.count()))
    series, numbers = found
    return f"{series}-{next(numbers)}"


def begin_series(name: str) -> None:
    """Begin another series for the counter, so that a client that knows an id cannot guess the next."""
    _series.pop(name, None)


# Otherwise a forked worker would continue its parent's series.
os.register_at_fork(after_in_child=_series.clear)
