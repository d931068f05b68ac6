"""What ``./counter status`` takes for a problem."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from support.ansible import PLAYBOOKS, results_by_host


def test_a_certificate_that_ends_soon_is_a_problem(tmp_path: Path) -> None:
    ends = {name: datetime.now(UTC) + timedelta(days=days) for name, days in {"soon": 59, "later": 62}.items()}
    hosts = {name: {"redis_endpoint": {"certificate_ends": f"{end:%Y%m%d%H%M%SZ}"}} for name, end in ends.items()} | {
        "plain": {"redis_endpoint": {"certificate_ends": ""}},
        "earlier": {"redis_endpoint": {}},
    }
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": hosts}}))
    found = results_by_host(PLAYBOOKS / "status.yml", tmp_path / "hosts.yml")
    assert {name: result["msg"] for name, result in found.items()} == {
        "soon": [f"the certificate of Redis expires on {ends['soon']:%Y-%m-%d}: ./counter deploy renews it"],
        "later": [],
        "plain": [],
        "earlier": [],
    }


def test_a_set_without_a_primary_or_with_a_replica_that_may_not_lead_is_a_problem(tmp_path: Path) -> None:
    primary, replica, barred = (
        {"name": "redis-1", "role": "primary", "reachable": True},
        {"name": "redis-2", "role": "replica", "reachable": True, "promotable": True},
        {"name": "redis-3", "role": "replica", "reachable": True, "promotable": False},
    )
    cases = {
        "healthy": [primary, replica],
        "barred": [primary, barred],
        "waiting": [{"name": "redis-1", "role": "unknown", "reachable": False}, replica],
    }
    hosts = {
        name: {
            "redis_topology": "sentinel",
            "redis_endpoint": {},
            "counter_addresses": ["192.0.2.1"],
            "__status_store": {"status": 200, "json": {"nodes": nodes}},
        }
        for name, nodes in cases.items()
    }
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": hosts}}))
    found = results_by_host(PLAYBOOKS / "status.yml", tmp_path / "hosts.yml")
    assert {name: result["msg"] for name, result in found.items()} == {
        "healthy": [],
        "barred": ["the Sentinels may not promote redis-3 yet; its log says why"],
        "waiting": [
            "Redis at redis-1 is not reachable",
            "no Redis node is the primary, so counting waits; this shows what each node holds: ./counter promote",
        ],
    }
