"""Ids of operations, and where Redis remembers them: many in one hash, which expires as a whole.

A key for each id takes 150 bytes; in small hashes an id takes about 10 bytes when this application made it, and 30 when
a client did (MEMORY USAGE, Redis 8.0).

- An id of our own is a process's random name and a number. Numbers that follow each other share a hash, whose keys and
  values Redis stores as small integers.
- Of a client's id only a digest is stored. Its first characters choose the hash, which is replaced once it is as old as
  an id must live: it is renamed, and looked into until it expires.
"""

from __future__ import annotations

import itertools
import os
import re
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from hashlib import blake2b

TOGETHER = 128
"""Ids of our own in one hash."""
DIGEST_BYTES = 12
"""Two of a billion keys are alike with a probability of less than one to 10**10."""
_OURS = re.compile(r"([0-9a-f]{16})-(0|[1-9][0-9]{0,14})")


@dataclass(frozen=True, slots=True)
class Memory:
    """How ids are remembered: for ``lifetime`` ms at least; ``logged``: also in a set, for good (for tests).

    ``both``: where the version before looks too (see ``counter.store.transition``).
    """

    lifetime: int
    logged: bool = False
    both: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where an id is remembered: the hash, the hash that it was before (the same if it is never renamed), the field."""

    hash: str
    before: str
    field: str


def place_of(name: str, identifier: str) -> Place:
    """Return where the counter ``name`` remembers the value that an operation was answered with."""
    if ours := _OURS.fullmatch(identifier):
        together, field = divmod(int(ours[2]), TOGETHER)
        key = f"{{{name}}}:ids:{ours[1]}:{together}"
        return Place(key, key, str(field))
    digest = _digest(identifier)
    key = f"{{{name}}}:keys:{digest[:2]}"
    return Place(key, f"{key}:before", digest[2:])


def claim_place(identifier: str) -> Place:
    """Return where it is remembered which counter a client's Idempotency-Key was used for.

    No counter's name begins with a dot. In a cluster claims spread over the slots.
    """
    digest = _digest(identifier)
    key = f"{{.{digest[:2]}}}:keys"
    return Place(key, f"{key}:before", digest[2:])


def _digest(identifier: str) -> str:
    return urlsafe_b64encode(blake2b(identifier.encode(), digest_size=DIGEST_BYTES).digest()).decode()


_process, _numbers = secrets.token_hex(8), itertools.count()


def new_id() -> str:
    """Return an id that nobody else has."""
    return f"{_process}-{next(_numbers)}"


def _name_process() -> None:
    """Begin a series of ids. A forked worker would go on with its parent's."""
    global _process, _numbers
    _process, _numbers = secrets.token_hex(8), itertools.count()


os.register_at_fork(after_in_child=_name_process)
