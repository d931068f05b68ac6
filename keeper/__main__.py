"""Renews the certificate, serves its chain to the edges, which have the key, looks for problems, and tells of them."""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from base64 import b64decode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import FrameType
from typing import Any

from cryptography import x509

from keeper import answers, metrics, problems
from keeper.certificate import Store, first
from keeper.notify import Heartbeat, Messages
from keeper.plan import Plan
from keeper.renewal import Renewal
from keeper.watch import LOOK_SECONDS, Watch

LOG = logging.getLogger("keeper")
STATE = "state.json"
OVERDUE_LOOKS = 20
"""A keeper that has not looked for so long knows nothing."""


class Keeper:
    """What keeps one stack."""

    def __init__(self, plan: Plan) -> None:
        """Go on with what an earlier process on this manager has told."""
        self.plan, self._store = plan, Store(plan.files)
        self.renewal = Renewal(plan) if plan.edge_tls == "acme" else None
        self._messages = Messages(plan.stack, plan.notify_urls, plan.hurry)
        self._watch = Watch(self._messages.tell, self._told(), plan.hurry)
        self._heartbeat = Heartbeat(plan.heartbeat_url, self.is_well, plan.hurry)
        self._looked, self._written = float("-inf"), ""

    def run(self, stopped: threading.Event) -> None:
        """Do all of it until ``stopped``."""
        threads = [threading.Thread(target=self._look_all, args=(stopped,), daemon=True, name="looks")]
        threads += [self._heartbeat] if self.plan.heartbeat_url else []
        for thread in threads:
            thread.start()
        while not stopped.wait(self.renewal.renew() if self.renewal else 60):
            pass

    def _look_all(self, stopped: threading.Event) -> None:
        while not stopped.wait(LOOK_SECONDS * self.plan.hurry):
            try:
                self.look()
            # Otherwise nobody would look any more. The next look may succeed.
            except Exception:
                LOG.exception("a look failed")

    def look(self) -> None:
        """Look for problems."""
        seen = answers.look(self.plan)
        failure = self.renewal.failure if self.renewal else ""
        self._watch.note(problems.found(self.plan, seen, failure), problems.unknown(seen))
        self._looked = time.monotonic()
        self.report()

    def is_well(self) -> bool:
        """Tell whether there is no problem that was told, and whether looks go on."""
        is_looking = time.monotonic() - self._looked < OVERDUE_LOOKS * LOOK_SECONDS * self.plan.hurry
        return is_looking and not self._watch.told

    def status(self) -> dict[str, Any]:
        """Return what `./counter status` reads, and what the next process goes on with."""
        renewal = self.renewal
        failed = {receiver.title: receiver.failure for receiver in self._messages.receivers if receiver.failure}
        return {
            "renewal": {"attempted": renewal.attempted, "failure": renewal.failure, "ends": renewal.ends()}
            if renewal
            else {},
            "problems": self._watch.told,
            "unreached": failed | ({"heartbeat_url": failure} if (failure := self._heartbeat.failure) else {}),
        }

    def report(self) -> None:
        """Write the status, if it has changed."""
        try:
            text = json.dumps(self.status(), sort_keys=True) + "\n"
            if text != self._written:
                self._store.write(STATE, text)
                self._written = text
        except (OSError, ValueError) as error:
            LOG.warning("no status: %s", error)

    def _told(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self._store.read(STATE))["problems"])
        except (OSError, ValueError, KeyError):
            return {}


class Handler(BaseHTTPRequestHandler):
    """Answers the edges, and whoever reads metrics."""

    timeout = 10
    keeper: Keeper

    def do_GET(self) -> None:
        """Serve the certificate, ``/status`` and ``/metrics``."""
        try:
            match self.path:
                case "/status":
                    self.answer(200, json.dumps(self.keeper.status()))
                case "/metrics":
                    self.answer(200, metrics.exposition().decode(), metrics.CONTENT_TYPE)
                case "/certificate.pem" if self.keeper.renewal:
                    self.certificate(self.keeper.renewal.store.chain())
                case _:
                    self.answer(404)
        except (OSError, ValueError, TypeError) as error:
            self.answer(500, str(error))

    def certificate(self, chain: str) -> None:
        """Serve the chain if it began later than what the edge serves (``Certificate``)."""
        theirs = x509.load_der_x509_certificate(b64decode(self.headers["Certificate"]))
        newer = first(chain).not_valid_before_utc > theirs.not_valid_before_utc
        self.answer(200, chain) if newer else self.answer(204)

    def answer(self, status: int, text: str = "", kind: str = "text/plain; charset=utf-8") -> None:
        """Send a response."""
        self.send_response(status)
        if status != 204:  # noqa: PLR2004
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log no requests: each edge asks every minute."""


def main() -> None:
    """Run until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    # What it says of receivers may name their secrets (keeper/notify.py).
    logging.getLogger("apprise").propagate = False
    stopped = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    signal.signal(signal.SIGTERM, stop)
    Handler.keeper = keeper = Keeper(Plan.read())
    server = ThreadingHTTPServer(("", keeper.plan.port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    keeper.run(stopped)
    server.shutdown()


if __name__ == "__main__":
    main()
