"""Ids of operations, and where Redis stores them: many ids share one hash, which expires as a whole.

A Redis key for each id takes 150 bytes. In a small hash, an id takes about 16 bytes if the application made it. A
client's Idempotency-Key takes 50 to 75 bytes, including the record of the counter that it belongs to; as two Redis keys
it took 344 (Redis 8.0, 20,000 to 50,000 ids).

- The application's own id consists of the random name of a series, a secret and a number. Numbers of a series that are
  close to each other share a hash, if they are of one counter. Each process has so many series that few counters share
  one, whatever names are asked for. The secret makes it impossible to guess the ids of others from an id that a client
  was told. Redis stores secret and number as one integer.
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
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

TOGETHER = 128
"""How many of the application's own ids share a hash."""
SERIES = 10_000
"""How many series a process has. With ten times as many counters in turn, an id takes 32 bytes."""
DIGEST_BYTES = 12
"""The probability that any two of a billion keys have the same digest is below 1 in 10**10."""
SECRET_BITS = 48
SECRETS_TOGETHER = 128
"""How many secrets are drawn at a time."""
_OURS = re.compile(rf"([0-9a-f]{{16}})([0-9a-f]{{{SECRET_BITS // 4}}})?-(0|[1-9][0-9]{{0,14}})")
"""Series, secret and number. The previous version made ids without a secret, and places them as this one does."""


@dataclass(frozen=True, slots=True)
class IdRetention:
    """How ids are stored: for at least ``lifetime`` ms; if ``logged``, also in a set that never expires (for tests).

    ``in_former_keys``: also where the previous version looks (see ``counter.store.transition``).
    """

    lifetime: int
    logged: bool = False
    in_former_keys: bool = False


class Place(NamedTuple):
    """Where an id is stored: the hash, the renamed one (the same if it is never renamed), and the field."""

    hash: str
    previous: str
    field: str


def place_of(name: str, identifier: str) -> Place:
    """Return where the counter ``name`` stores the value that the operation was answered with."""
    if ours := _OURS.fullmatch(identifier):
        together, number = divmod(int(ours[3]), TOGETHER)
        key = f"{{{name}}}:ids:{ours[1]}:{together}"
        return Place(key, key, str(number << SECRET_BITS | int(ours[2], 16) if ours[2] else number))
    digest = _digest(identifier)
    key = f"{{{name}}}:keys:{digest[:2]}"
    return Place(key, f"{key}:before", digest[2:])


def is_ours(identifier: str) -> bool:
    """Tell whether it is an id of the application. Its place binds it to one counter, so it needs no claim."""
    return _OURS.fullmatch(identifier) is not None


def claim_place(identifier: str) -> Place:
    """Return where the counter is stored that a client's Idempotency-Key was used for.

    No counter's name begins with a dot. In a cluster, claims spread over the slots.
    """
    digest = _digest(identifier)
    key = f"{{.{digest[:2]}}}:keys"
    return Place(key, f"{key}:before", digest[2:])


@lru_cache  # several places of a key depend on it
def _digest(identifier: str) -> str:
    return urlsafe_b64encode(blake2b(identifier.encode(), digest_size=DIGEST_BYTES).digest()).decode()


_series: dict[int, tuple[str, Iterator[int]]] = {}
_secrets: list[str] = []
"""Random ones that no id has yet."""


def new_id(name: str, *, former: bool = False) -> str:
    """Return a unique id for an increment of the counter ``name``; ``former``: as the previous version makes them."""
    place = hash(name) % SERIES  # which nobody outside can predict
    if (found := _series.get(place)) is None:
        found = _series.setdefault(place, (secrets.token_hex(8), itertools.count()))
    series, numbers = found
    return f"{series}{'' if former else _secret()}-{next(numbers)}"


def _secret() -> str:
    while True:
        try:
            return _secrets.pop()
        except IndexError:
            # Many at a time: while a thread asks the system for random numbers, Python runs another one.
            size = SECRET_BITS // 8
            _secrets.extend(secrets.token_bytes(SECRETS_TOGETHER * size).hex("-", size).split("-"))


def _forget() -> None:
    _series.clear()
    _secrets.clear()


# Otherwise a forked worker would continue its parent's series, with the same secrets.
os.register_at_fork(after_in_child=_forget)
