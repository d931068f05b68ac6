"""What the keeper needs to know: one document, which a deployment writes (roles/counter/vars/main.yml)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from keeper.certificate import RENEWED_BELOW


@dataclass(frozen=True, slots=True)
class Plan:
    """What should run, and who is told if it does not. Names of settings mean what they mean in the inventory.

    ``edges``: how many there are. ``has_sentinels``, ``slots``, ``is_own``: of the topology; ``is_own`` says whether
    the project runs its Redis nodes. ``certificate_ends``: when that of Redis ends, as YYYYMMDD and more; empty: none.
    """

    stack: str
    replicas: int
    edges: int
    has_sentinels: bool = False
    slots: int = 0
    is_own: bool = True
    certificate_ends: str = ""
    edge_tls: str = "none"
    edge_domains: tuple[str, ...] = ()
    acme_directory: str = ""
    acme_email: str = ""
    acme_root: str = ""
    backup_repository: str = ""
    backup_copy_repository: str = ""
    backup_max_age: int = 0
    backup_log_interval: int = 0
    notify_urls: tuple[str, ...] = field(default=(), repr=False)
    heartbeat_url: str = field(default="", repr=False)
    app_at: str = "tasks.app:8000"
    """Where replicas of the app answer: HOST:PORT, separated by commas. A name of the network has several addresses."""
    edge_at: str = "tasks.edge:8080"
    files: Path = Path("/keeper")
    """A directory of the keeper's own."""
    acme_files: Path = Path("/acme")
    port: int = 8406
    hurry: float = 1.0
    """Tests shorten pauses by this factor."""
    renewed_below: float = RENEWED_BELOW

    @property
    def option(self) -> str:
        """What commands need besides their verb."""
        return "" if self.stack == "counter" else f" -e stack_name={self.stack}"

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> Plan:
        """Read the document in ``KEEPER_PLAN``, or the secret ``keeper.json``."""
        values = json.loads(environ.get("KEEPER_PLAN") or Path("/run/secrets/keeper.json").read_text("utf-8"))
        tuples = {key: tuple(values[key]) for key in ("edge_domains", "notify_urls") if key in values}
        paths = {key: Path(values[key]) for key in ("files", "acme_files") if key in values}
        return cls(**values | tuples | paths)
