"""The configurations of Redis nodes as the project deploys them, rendered once in a run of the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.ansible import render
from support.workers import made_once

FILES = ("redis.conf", "users.acl", "sentinel.conf", "sentinel.acl", "source.conf")
DOWN_MILLISECONDS = 3000
"""How long a node is silent before it counts as down. Less, and one that waits for its turn on a busy machine does."""
COMMON: dict[str, Any] = {"backup_repository": "/backups", "redis_down_after_milliseconds": DOWN_MILLISECONDS}
VARIANTS: dict[str, dict[str, Any]] = {
    "standalone": {},
    "sentinel": {"redis_topology": "sentinel"},
    "sentinel-tls": {"redis_topology": "sentinel", "redis_tls": True},
    "cluster": {"redis_topology": "cluster"},
    "cluster-of-three": {"redis_topology": "cluster", "redis_replicas": 3},
    "cluster-tls": {"redis_topology": "cluster", "redis_tls": True},
}


def rendered(site: Path, variant: str) -> dict[str, str]:
    """Return the texts of the files by name; ``site`` is an empty directory."""
    return render(site, {variant: COMMON | VARIANTS[variant]}, *FILES)[variant]


def configuration(factory: pytest.TempPathFactory, variant: str) -> dict[str, str]:
    """Return them too, rendered by the first of pytest's workers that asks for the variant."""
    return made_once(factory, f"configuration-{variant}", lambda site: rendered(site, variant))
