"""Closed-loop load over HTTP or HTTPS: each client increments one counter as fast as answers arrive, without retries.

One half of the clients keeps its connections, the other half opens a new one for each request.

Prints one JSON object:
  acknowledged  increments that were answered with 2xx
  failed        increments that were not: another status, or a refused or broken connection
  errors        the number of failures by kind
  before, after value of the counter; with nothing failed, after - before == acknowledged
  replicas      the number of acknowledged increments by name of the replica
  per_second    acknowledged / seconds
  p50_ms, p99_ms, longest_ms   latency of acknowledged increments in milliseconds
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 10.0
VALUE_SECONDS = 60
# The certificate names a domain, and not the address that is used here.
ANY_CERTIFICATE = ssl.create_default_context()
ANY_CERTIFICATE.check_hostname = False
ANY_CERTIFICATE.verify_mode = ssl.CERT_NONE


class Client:
    """One connection to one node; with ``keep``, it stays open after a response."""

    def __init__(self, url: str, *, keep: bool = True) -> None:
        self._keep = keep
        node = urlsplit(url)
        self._connection = (
            http.client.HTTPSConnection(node.netloc, timeout=TIMEOUT_SECONDS, context=ANY_CERTIFICATE)
            if node.scheme == "https"
            else http.client.HTTPConnection(node.netloc, timeout=TIMEOUT_SECONDS)
        )

    def request(self, method: str, path: str) -> tuple[http.client.HTTPResponse, bytes]:
        """Return the response and its body; after OSError or HTTPException the next request opens a new connection."""
        try:
            self._connection.request(method, path)
            response = self._connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise
        if not self._keep:
            self._connection.close()
        return response, body


class Load:
    """Counts the results of all connections; each connection's thread has separate lists, so no locks are needed."""

    def __init__(self, urls: list[str], counter: str, connections: int, think_seconds: float) -> None:
        self._think_seconds = think_seconds
        self._path = f"/api/counters/{counter}"
        self._urls = urls
        self._connections = connections
        self._stop = threading.Event()
        self._durations: list[list[float]] = [[] for _ in range(connections)]
        self._errors: list[Counter[str]] = [Counter() for _ in range(connections)]
        self._replicas: list[Counter[str]] = [Counter() for _ in range(connections)]

    def _value(self) -> int:
        """Return the value from the first node that answers; a node may be lost before the first request."""
        deadline = time.monotonic() + VALUE_SECONDS
        for url in itertools.cycle(self._urls):
            try:
                response, body = Client(url).request("GET", self._path)
                if response.status == http.client.OK:
                    return int(json.loads(body)["value"])
                failure = f"{response.status} {body.decode(errors='replace')}"
            except (OSError, http.client.HTTPException) as error:
                failure = str(error)
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        sys.exit(f"no node told the value of {self._path} within {VALUE_SECONDS} s: {failure}")

    def _increment_until_stopped(self, index: int) -> None:
        client = Client(self._urls[index // 2 % len(self._urls)], keep=index % 2 == 0)
        while not self._stop.wait(self._think_seconds):
            began = time.monotonic()
            try:
                response, body = client.request("POST", f"{self._path}/increment")
            except (OSError, http.client.HTTPException) as error:
                self._errors[index][f"{type(error).__name__}: {error}"] += 1
                time.sleep(0.1)
                continue
            if response.status // 100 == 2:  # noqa: PLR2004
                self._durations[index].append(time.monotonic() - began)
                self._replicas[index][response.headers["X-Counter-Replica"]] += 1
            else:
                self._errors[index][f"{response.status}: {body[:200].decode(errors='replace')}"] += 1

    def _announce_until_stopped(self, slow: int) -> None:
        """Hold connections on which a body is announced and never sent; replace them now and then."""
        request = f"POST {self._path}/increment HTTP/1.1\r\nHost: slow\r\nContent-Length: 9\r\n\r\n".encode()
        while not self._stop.is_set():
            with contextlib.ExitStack() as held:
                for index in range(slow):
                    node = urlsplit(self._urls[index % len(self._urls)])
                    with contextlib.suppress(OSError):
                        address = (str(node.hostname), node.port or 80)
                        held.enter_context(socket.create_connection(address, 2)).sendall(request)
                self._stop.wait(3)

    def run(self, seconds: float, until: Path | None, mark: Path | None, slow: int) -> dict[str, Any]:
        """Run for ``seconds``, or until the file ``until`` exists, and return what the module's docstring lists.

        The file ``mark`` is created after the first answer.
        """
        before = self._value()
        threads = [
            threading.Thread(target=self._increment_until_stopped, args=(index,)) for index in range(self._connections)
        ]
        if slow:
            threads.append(threading.Thread(target=self._announce_until_stopped, args=(slow,)))
        began = time.monotonic()
        for thread in threads:
            thread.start()
        while time.monotonic() - began < seconds and not (until and until.exists()):
            time.sleep(0.1)
            if mark and not mark.exists() and any(self._durations):
                mark.touch()
        elapsed = time.monotonic() - began
        self._stop.set()
        for thread in threads:
            thread.join()
        if until and not until.exists():
            sys.exit(f"{until} did not exist after {seconds} s, so the load ended before what it accompanies")
        durations = sorted(duration for each in self._durations for duration in each)
        errors = sum(self._errors, Counter())
        return {
            "acknowledged": len(durations),
            "failed": errors.total(),
            "errors": dict(errors.most_common(10)),
            "before": before,
            "after": self._value(),
            "replicas": dict(sorted(sum(self._replicas, Counter()).items())),
            "per_second": round(len(durations) / elapsed, 1),
            "p50_ms": round(1000 * durations[len(durations) // 2], 1) if durations else None,
            "p99_ms": round(1000 * durations[int(0.99 * len(durations))], 1) if durations else None,
            "longest_ms": round(1000 * durations[-1], 1) if durations else None,
        }


def main() -> None:
    """Read the arguments, run the load and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("urls", nargs="+", help="where the counter is served; the connections are spread over them")
    parser.add_argument("--counter", required=True)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument(
        "--think", type=float, default=0.0, help="seconds between an answer and the next request of a connection"
    )
    parser.add_argument("--seconds", type=float, required=True, help="end after this time at the latest")
    parser.add_argument("--until", type=Path, help="end as soon as this file exists; fail if it never does")
    parser.add_argument("--mark", type=Path, help="create this file after the first answer")
    parser.add_argument("--slow", type=int, default=0, help="connections that announce a body and never send it")
    arguments = parser.parse_args()
    load = Load(arguments.urls, arguments.counter, arguments.connections, arguments.think)
    print(json.dumps(load.run(arguments.seconds, arguments.until, arguments.mark, arguments.slow)))


if __name__ == "__main__":
    main()
