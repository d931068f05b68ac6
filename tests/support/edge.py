"""HAProxy with the configuration that is deployed, on loopback, in front of one app."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

HAPROXY = "/usr/sbin/haproxy"
FILES = ("haproxy.cfg", "errors.map")
"""What HAProxy reads without HTTPS; templates of these names make it."""
SERVERS = "server-template app 1-128 app:8000 resolvers swarm resolve-prefer ipv4 init-addr last,none"


def on_loopback(texts: Mapping[str, str], directory: Path, *, edge: int, app: int, operator: int) -> list[str]:
    """Write the rendered files with these ports and one server; return the command that runs HAProxy with them."""
    configuration = texts["haproxy.cfg"]
    for there, here in (
        ("bind :8080", f"bind 127.0.0.1:{edge}"),
        ("bind :::8080", f"bind ::1:{edge}"),
        ("bind :8404", f"bind 127.0.0.1:{operator}"),
        ("/run/edge/", f"{directory}/"),
        (SERVERS, f"server app 127.0.0.1:{app}"),
    ):
        assert there in configuration, there
        configuration = configuration.replace(there, here)
    for name, text in texts.items():
        (directory / name).write_text(text, encoding="utf-8")
    path = directory / "haproxy.cfg"
    path.write_text(configuration, encoding="utf-8")
    return [HAPROXY, "-db", "-f", str(path)]
