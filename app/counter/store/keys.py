"""Names of keys in Redis. The braces put all keys of a counter into one slot of a cluster."""

from __future__ import annotations

import itertools
import re
from functools import cache

from redis.crc import key_slot

from counter.names import NAME_PATTERN

COUNTERS = "counters"
"""The set of counters' names that are shown, and whose number is limited. A name is added before it is counted on."""

NEW_KEY = "{counters}:new"
"""How many counters were new in this minute, in the slot of the set. It expires."""

PROOF_SUFFIX = ":proof"
"""The end of keys that are written to prove that a node is still the primary. They expire within a second."""

PROBE_KEY = "{.ready}:value"
"""Written to find out whether Redis accepts writes. No counter's name begins with a dot."""

BACKUP_KEY = "{.backup}:value"
"""What is known of the newest proved backup (``backup.newest``), as JSON."""

REMOVED_KEY = "{.removed}:names"
"""The set of counters that were removed since the newest backup (``counter.remove``), which has more than is left."""

SITE_KEY = "{.site}:value"
"""Whose data this is (``counter.store.site.Mark``). In a cluster, one primary has it."""


def proof_key(key: str) -> str:
    """Return a key in the slot of ``key``, for the write that proves the primary."""
    tag, closed, _ = key.partition("{")[2].partition("}")
    if not (tag and closed):  # Redis hashes the whole key then
        tag = tag_in(key_slot(key.encode())) if "}" in key else key
    return f"{{{tag}}}{PROOF_SUFFIX}"


@cache
def tag_in(slot: int) -> str:
    """Return a tag that leads to a slot. The search takes about 20 ms."""
    return next(tag for tag in map(str, itertools.count()) if key_slot(tag.encode()) == slot)


def value_key(name: str) -> str:
    """Return the key of a counter's value."""
    return f"{{{name}}}:value"


def all_keys(name: str) -> str:
    """Return a pattern of Redis for all keys of a counter, or of those that a pattern names."""
    return f"{{{name}}}:*"


_VALUE = re.compile(rf"\{{({NAME_PATTERN})\}}:value")


def counter_of(key: str) -> str:
    """Return the counter whose value a key holds; empty for other keys."""
    found = _VALUE.fullmatch(key)
    return found[1] if found else ""


def operation_key(name: str, operation_id: str) -> str:
    """Return the key in which the previous version stored an operation's value (``counter.store.transition``)."""
    return f"{{{name}}}:op:{operation_id}"


def log_key(name: str) -> str:
    """Return the key of the set of all operation ids ever counted (only with ``COUNTER_HISTORY_LOG``)."""
    return f"{{{name}}}:log"


def imports_key(name: str) -> str:
    """Return the key of the set of all imports that have changed a counter (``counter.data``)."""
    return f"{{{name}}}:imports"


def claim_key(operation_id: str) -> str:
    """Return the key in which the previous version stored the counter that an Idempotency-Key belongs to."""
    return f"key:{operation_id}"
