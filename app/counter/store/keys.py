"""Names of keys in Redis. The braces put all keys of a counter into one slot of a cluster."""

from __future__ import annotations

COUNTERS = "counters"
"""The set of all counters' names."""

PROBE_KEY = "{.ready}:value"
"""Written to find out whether writes are taken; no counter's name begins with a dot."""


def value_key(name: str) -> str:
    """Return the key of a counter's value."""
    return f"{{{name}}}:value"


def operation_key(name: str, operation_id: str) -> str:
    """Return the key that remembers the value which an operation was answered with."""
    return f"{{{name}}}:op:{operation_id}"


def log_key(name: str) -> str:
    """Return the key of the set of all operation ids ever counted (only with ``COUNTER_HISTORY_LOG``)."""
    return f"{{{name}}}:log"


def claim_key(operation_id: str) -> str:
    """Return the key that remembers which counter a client's Idempotency-Key was used for."""
    return f"key:{operation_id}"
