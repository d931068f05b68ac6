"""Renews the certificate in time, and serves its chain to the edges, which have the key."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import ssl
import threading
import time
from base64 import b64decode
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType

from cryptography import x509

from keeper.authority import order
from keeper.certificate import RENEWED_BELOW, Store, first, part_left

PAUSES = [300, 600, 1200, 2400, 3600]
"""Seconds before the next attempt after a failure; the last one repeats. Let's Encrypt allows five failures an hour."""
DEPLOYED_SECONDS = 900
"""How long a deployment, which starts the keeper, may take to order the first certificate itself."""
LOG = logging.getLogger("keeper")


class Keeper:
    """The certificate of one stack."""

    def __init__(self, environ: dict[str, str]) -> None:
        """Take the settings from the environment."""
        self.store = Store(Path(environ["KEEPER_DIRECTORY"]))
        self.authority = environ["ACME_DIRECTORY"]
        self.email = environ["ACME_EMAIL"]
        self.domains = environ["EDGE_DOMAINS"].split(",")
        self.edge = environ["KEEPER_EDGE"]
        # Tests shorten both.
        self.renewed_below = float(environ.get("KEEPER_RENEWED_BELOW", RENEWED_BELOW))
        self.hurry = float(environ.get("KEEPER_HURRY", "1"))
        self.failures, self.began = 0, time.monotonic()
        self.status: dict[str, str] = {"attempted": "", "failure": ""}

    def adopt(self) -> None:
        """Take a newer certificate from the edges: the keeper on another manager may have renewed."""
        for chain in served(self.edge, self.domains[0]):
            if self.store.adopt(chain):
                LOG.info("adopted the certificate of an edge, which ends on %s", self.ends())

    def renew(self) -> float:
        """Renew if it is due; return the seconds until the next look."""
        try:
            self.adopt()
            if self.is_due():
                self.status = {"attempted": now(), "failure": self.status["failure"]}
                keys = self.store.read("account.pem"), self.store.read("key.pem")
                self.store.write("certificate.pem", order(self.authority, self.email, self.domains, *keys))
                self.store.write("directory", f"{self.authority}\n")
                LOG.info("renewed the certificate; it ends on %s", self.ends())
        # Whatever it is, the next attempt may succeed. A new task would order at once, past the authority's limits.
        except Exception as error:  # noqa: BLE001
            pause = PAUSES[min(self.failures, len(PAUSES) - 1)]
            self.failures += 1
            self.status["failure"] = f"{type(error).__name__}: {error}"
            LOG.warning("no renewal, next attempt in %d s: %s", pause, self.status["failure"])
        else:
            self.failures, pause = 0, 60
            self.status["failure"] = ""
        self.report()
        return pause * self.hurry

    def is_due(self) -> bool:
        """Tell whether it ends soon, or is the placeholder of a deployment that did not get one."""
        present = first(self.store.chain())
        left_over = present.issuer == present.subject and time.monotonic() > self.began + DEPLOYED_SECONDS * self.hurry
        return left_over or part_left(present) < self.renewed_below

    def ends(self) -> str:
        """Return the end of the certificate."""
        return f"{first(self.store.chain()).not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"

    def described(self) -> str:
        """Return the status as JSON."""
        return json.dumps(self.status | {"ends": self.ends()})

    def report(self) -> None:
        """Write the status beside the certificate, where `./counter status` reads it."""
        try:
            self.store.write("keeper.json", self.described() + "\n")
        except (OSError, ValueError) as error:
            LOG.warning("no status: %s", error)


def served(edge: str, domain: str) -> list[str]:
    """Return the chain that each edge serves; ``edge`` is HOST:PORT. Edges that do not answer are left out."""
    host, _, port = edge.rpartition(":")
    context = ssl.create_default_context()
    # What counts is that the certificate belongs to the key.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    chains = []
    try:
        addresses = {one[4][:2] for one in socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)}
    except OSError:
        return []
    for address in addresses:
        try:
            with (
                socket.create_connection((str(address[0]), int(address[1])), 5) as plain,
                context.wrap_socket(plain, server_hostname=domain) as connection,
            ):
                chains.append("".join(map(ssl.DER_cert_to_PEM_cert, connection.get_unverified_chain())))
        except OSError as error:
            LOG.info("an edge did not say what it serves: %s", error)
    return chains


def now() -> str:
    """Return the time, as ISO 8601 in UTC."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


class Handler(BaseHTTPRequestHandler):
    """Answers the edges."""

    timeout = 10
    keeper: Keeper

    def do_GET(self) -> None:
        """Serve ``/certificate.pem`` if it began later than what the edge serves (``Certificate``), and ``/status``."""
        try:
            if self.path == "/status":
                self.answer(200, self.keeper.described())
            elif self.path == "/certificate.pem":
                theirs = x509.load_der_x509_certificate(b64decode(self.headers["Certificate"]))
                chain = self.keeper.store.chain()
                newer = first(chain).not_valid_before_utc > theirs.not_valid_before_utc
                self.answer(200, chain) if newer else self.answer(204)
            else:
                self.answer(404)
        except (OSError, ValueError, TypeError) as error:
            self.answer(500, str(error))

    def answer(self, status: int, text: str = "") -> None:
        """Send a response."""
        self.send_response(status)
        if status != 204:  # noqa: PLR2004
            self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log no requests: each edge asks every minute."""


def main() -> None:
    """Run until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    stopped = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    signal.signal(signal.SIGTERM, stop)
    Handler.keeper = keeper = Keeper(dict(os.environ))
    server = ThreadingHTTPServer(("", int(os.environ.get("KEEPER_PORT", "8406"))), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while not stopped.wait(keeper.renew()):
        pass
    server.shutdown()


if __name__ == "__main__":
    main()
