"""Prometheus metrics of the keeper."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, generate_latest

CONTENT_TYPE = CONTENT_TYPE_LATEST

PROBLEM = Gauge(
    "counter_keeper_problem", "1 from the message that a problem began until the one that it ended.", ["problem"]
)
LOOKED = Gauge("counter_keeper_look_timestamp_seconds", "When the keeper last looked for problems.")
MESSAGES = Counter(
    "counter_keeper_messages",
    "Messages by receiver (its number in `notify_urls`) and result: `sent`, `failed` (an attempt) or `given up`.",
    ["receiver", "result"],
)
HEARTBEAT = Gauge(
    "counter_keeper_heartbeat_success", "Whether the last call of `heartbeat_url` succeeded, or none was made: 1 or 0."
)
RENEWED = Gauge(
    "counter_keeper_renewal_success",
    "Whether the last attempt to renew the certificate succeeded, or none was needed: 1 or 0.",
)
ATTEMPTED = Gauge(
    "counter_keeper_renewal_attempt_timestamp_seconds", "When the keeper last tried to renew the certificate; 0: never."
)
ENDS = Gauge(
    "counter_keeper_certificate_end_timestamp_seconds", "When the certificate ends that the keeper has; 0: it has none."
)
# Nothing has failed yet.
HEARTBEAT.set(1)
RENEWED.set(1)


def exposition() -> bytes:
    """Return all metrics in the text format."""
    return generate_latest()
