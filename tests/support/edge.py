"""HAProxy with the configuration that is deployed, on loopback, in front of one app."""

from __future__ import annotations

from pathlib import Path

HAPROXY = "/usr/sbin/haproxy"
SERVERS = "server-template app 1-64 app:8000 resolvers swarm resolve-prefer ipv4 init-addr last,none"


def on_loopback(configuration: str, *, edge: int, app: int, operator: int, state: Path) -> str:
    """Return the configuration with these ports and one server; ``state`` is where it keeps the servers' addresses."""
    for there, here in (
        ("bind :8080", f"bind 127.0.0.1:{edge}"),
        ("bind :8404", f"bind 127.0.0.1:{operator}"),
        ("/run/edge/servers", str(state)),
        (SERVERS, f"server app 127.0.0.1:{app}"),
    ):
        assert there in configuration, there
        configuration = configuration.replace(there, here)
    return configuration.rstrip("\n") + "\n"
