"""Names of keys in Redis. The braces put all keys of a counter into one slot of a cluster."""

from __future__ import annotations

COUNTERS = "counters"
"""The set of all counters' names."""

PROOF_SUFFIX = ":proof"
"""Of keys that are written to prove that a node still is the primary; they expire at once."""

PROBE_KEY = "{.ready}:value"
"""Written to find out whether writes are taken; no counter's name begins with a dot."""


def proof_key(key: str) -> str:
    """Return a key in the same slot as ``key``, to write what proves the primary."""
    tag = key.partition("{")[2].partition("}")[0] or key
    return f"{{{tag}}}{PROOF_SUFFIX}"


def value_key(name: str) -> str:
    """Return the key of a counter's value."""
    return f"{{{name}}}:value"


def operation_key(name: str, operation_id: str) -> str:
    """Return the key by which the version before remembered an operation (``counter.store.transition``)."""
    return f"{{{name}}}:op:{operation_id}"


def log_key(name: str) -> str:
    """Return the key of the set of all operation ids ever counted (only with ``COUNTER_HISTORY_LOG``)."""
    return f"{{{name}}}:log"


def claim_key(operation_id: str) -> str:
    """Return the key by which the version before remembered whose an Idempotency-Key is."""
    return f"key:{operation_id}"
