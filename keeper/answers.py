"""What the replicas of the app and the edges answer. The keeper asks them as a client would, and not the engine."""

from __future__ import annotations

import json
import logging
import socket
import ssl
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import Any

from cryptography import x509

from keeper.certificate import first
from keeper.plan import Plan

LOG = logging.getLogger("keeper")
SECONDS = 5
"""As long as the app may take for an increment, by default."""
ASKED_AT_ONCE = 16

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Answer:
    """A status (0: none within `SECONDS`), and the JSON object that came with it; empty if none did."""

    status: int = 0
    document: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Seen:
    """One look. ``replicas``: answers to ``/readyz`` by address; ``edges``: to ``/healthz``.

    ``store``: what a replica says of Redis and the newest backup; empty if none does. ``certificates``: what the edges
    serve, by domain.
    """

    replicas: Mapping[Address, Answer] = field(default_factory=dict)
    edges: Mapping[Address, Answer] = field(default_factory=dict)
    store: Mapping[str, Any] = field(default_factory=dict)
    certificates: Mapping[str, list[x509.Certificate]] = field(default_factory=dict)


def look(plan: Plan) -> Seen:
    """Ask all of them."""
    secure = plan.edge_tls != "none"
    # Clients that name no domain get the first certificate.
    domains = (plan.edge_domains or ("",)) if secure else ()
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        replicas, edges = addresses(plan.app_at), addresses(plan.edge_at)
        ready = pool.map(lambda one: ask(one, "/readyz"), replicas)
        well = pool.map(lambda one: ask(one, "/healthz", domains[0] if secure else None), edges)
        served = {domain: pool.map(lambda one, name=domain: chain(one, name), edges) for domain in domains}
        answered = dict(zip(replicas, ready, strict=True))
        stores = (ask(one, "/api/store") for one, answer in answered.items() if answer.status)
        return Seen(
            answered,
            dict(zip(edges, well, strict=True)),
            next((answer.document for answer in stores if answer.status == 200), {}),  # noqa: PLR2004
            {domain: [first(pem) for pem in chains if pem] for domain, chains in served.items()},
        )


def addresses(places: str) -> list[Address]:
    """Return the addresses of HOST:PORT, separated by commas; those of unknown names are left out."""
    found: dict[Address, None] = {}
    for place in places.split(","):
        host, _, port = place.rpartition(":")
        try:
            known = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
        except OSError:
            continue
        found |= dict.fromkeys((str(one[4][0]), int(one[4][1])) for one in known)
    return list(found)


def ask(address: Address, path: str, domain: str | None = None) -> Answer:
    """Return what is answered to a GET. ``domain``: what a client of HTTPS names, which may be empty; None: HTTP."""
    connection = HTTPConnection(*address, timeout=SECONDS)
    try:
        connection.connect()
        if domain is not None:
            connection.sock = _any_certificate().wrap_socket(connection.sock, server_hostname=domain or None)
        # With this header, the app tells no values of counters.
        connection.request("GET", path, headers={"Host": domain or "keeper", "X-Forwarded-For": "keeper"})
        response = connection.getresponse()
        document = json.loads(response.read() or b"{}")
    except (OSError, HTTPException):
        return Answer()
    except ValueError:
        return Answer(response.status)
    finally:
        connection.close()
    return Answer(response.status, document if isinstance(document, dict) else {})


def chain(address: Address, domain: str) -> str:
    """Return the chain that an edge serves, as PEM; empty if it does not answer."""
    try:
        with (
            socket.create_connection(address, SECONDS) as plain,
            _any_certificate().wrap_socket(plain, server_hostname=domain or None) as connection,
        ):
            return "".join(map(ssl.DER_cert_to_PEM_cert, connection.get_unverified_chain()))
    except OSError as error:
        LOG.info("an edge did not say what it serves: %s", error)
        return ""


def _any_certificate() -> ssl.SSLContext:
    """Return a context that judges no certificate: `renewal` compares it with the key, `problems` looks at its end."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
