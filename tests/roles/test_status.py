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
