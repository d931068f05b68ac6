"""Prometheus metrics: the few that an operator of a counter looks at."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = CONTENT_TYPE_LATEST

REQUESTS = Counter("counter_http_requests", "HTTP requests answered.", ["route", "status"])
INCREMENTS = Counter("counter_increments", "Increments by outcome.", ["outcome"])
INCREMENT_SECONDS = Histogram(
    "counter_increment_seconds",
    "Time from an increment's request to its acknowledgement.",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
ROUND_TRIPS = Counter("counter_store_round_trips", "Rounds of the group commit, each one round trip to Redis.")
ROUND_OPERATIONS = Counter("counter_store_operations", "Operations that these rounds carried.")
MEMORY_USED = Gauge(
    "counter_store_memory_used_bytes", "Memory that a Redis node used when it last was the primary.", ["node"]
)
MEMORY_LIMIT = Gauge(
    "counter_store_memory_limit_bytes", "Memory at which this node refuses increments; 0: no limit.", ["node"]
)
BACKUP = {
    "time": Gauge("counter_backup_timestamp_seconds", "When the newest proved backup was made."),
    "failed": Gauge("counter_backup_failure_timestamp_seconds", "When a backup, a copy or the log last failed."),
    "copied": Gauge("counter_backup_copy_timestamp_seconds", "When the newest backup with a proved copy was made."),
    "seconds": Gauge("counter_backup_duration_seconds", "How long the last backup took."),
    "repository_bytes": Gauge("counter_backup_repository_bytes", "The room that the repository of backups takes."),
    "log_began": Gauge("counter_backup_log_first_timestamp_seconds", "The first moment that can be restored."),
    "log_until": Gauge("counter_backup_log_timestamp_seconds", "The last moment that can be restored."),
}
"""By the field of ``Store.newest_backup`` that they show: a number, or a moment."""
DRAINING = Gauge("counter_draining", "1 while this replica is about to stop.")
INFO = Gauge("counter_info", "Always 1; what runs.", ["image", "topology", "replica"])


def exposition() -> bytes:
    """Return all metrics in the text format."""
    return generate_latest()
