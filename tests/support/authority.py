"""An authority for certificates: Pebble."""

from __future__ import annotations

import json
from pathlib import Path

from support.https import AUTHORITY, certificate, pem
from support.ports import free_port, listens
from support.processes import Process
from support.waiting import wait_until


class Authority:
    """Pebble, and a DNS server that has the same address for every name."""

    def __init__(self, directory: Path, asks: int) -> None:
        """Use files in ``directory``; ``asks`` is the port at which the authority expects the answers to challenges."""
        self.directory, self.asks = directory, asks
        self.port = free_port()
        # At 127.0.0.1, the UDP port is held (support.ports).
        self.dns = f"127.0.0.2:{free_port()}"
        self.trusted = directory / "authority.pem"
        self.trusted.write_text(certificate(AUTHORITY, names=("localhost",)))
        (directory / "authority.key").write_text(pem(AUTHORITY))
        names = ["pebble-challtestsrv", "-defaultIPv6", "", "-defaultIPv4", "127.0.0.1", "-dns01", self.dns]
        others = [
            "-http01",
            "",
            "-https01",
            "",
            "-tlsalpn01",
            "",
            "-doh",
            "",
            "-management",
            f"127.0.0.1:{free_port()}",
        ]
        self.names = Process([*names, *others], directory / "names.log")
        self.pebble: Process | None = None

    @property
    def address(self) -> str:
        """Where its directory is."""
        return f"https://localhost:{self.port}/dir"

    def start(self) -> None:
        """Issue certificates that are valid for three months; a second start forgets all accounts."""
        self.kill()
        settings = {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{free_port()}",
            "certificate": str(self.trusted),
            "privateKey": str(self.directory / "authority.key"),
            "httpPort": self.asks,
            "tlsPort": free_port(),
            "domainBlocklist": ["blocked.example"],
            "certificateValidityPeriod": 90 * 86400,
        }
        config = self.directory / "pebble.json"
        config.write_text(json.dumps({"pebble": settings}))
        command = ["env", "PEBBLE_VA_NOSLEEP=1", "pebble", "-config", str(config), "-dnsserver", self.dns]
        self.pebble = Process(command, self.directory / "pebble.log")
        self.pebble.start()
        wait_until("the authority", lambda: listens(self.port))

    def kill(self) -> None:
        """Stop issuing."""
        if self.pebble:
            self.pebble.kill()
