"""The keeper, with a real authority (Pebble) and a server that answers its challenges as the edges do."""

from __future__ import annotations

import json
import shutil
import ssl
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPSConnection
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from keeper_process import KeeperProcess, Received, taken, webhook
from support.authority import Authority
from support.edge import HAPROXY
from support.https import SITE, certificate, pem
from support.ports import free_port, listens
from support.processes import Process, running
from support.waiting import wait_until

from keeper.certificate import RENEWED_BELOW, Store, first
from plugins.filter import certificates as deployed

pytestmark = pytest.mark.skipif(not shutil.which("pebble"), reason="no Pebble here")
ROOT = Path(__file__).resolve().parents[2]
OLD = (-80, 10)
"""Days from now of a certificate that is due."""
LOADER = ROOT / "templates/certificate.lua.j2"
EDGE = """
global
    log stdout format raw local0 notice
    default-path config
    stats socket {admin} mode 600 level admin
    lua-load certificate.lua edge.pem http://127.0.0.1:{keeper}/certificate.pem {admin} 1
defaults
    mode http
    timeout connect 2s
    timeout client 10s
    timeout server 10s
frontend public
    bind 127.0.0.1:{challenges}
    bind 127.0.0.1:{https} ssl crt edge.pem
    http-request return status 200 content-type text/plain lf-string "%[path,field(-1,/)].{thumbprint}"
"""


class Manager:
    """A manager's directory, its keeper, and an edge."""

    hooks: Received
    """What the keeper tells."""

    def __init__(self, directory: Path, authority: Authority) -> None:
        self.directory, self.authority = directory, authority
        self.files = directory / "acme"
        self.files.mkdir()
        self.store = Store(self.files)
        self.admin = directory / "admin"
        self.https = free_port()
        self.account = pem(ec.generate_private_key(ec.SECP256R1()))
        for name, text in (("account.pem", self.account), ("key.pem", pem(SITE))):
            (self.files / name).write_text(text)
        (self.files / "certificate.pem").write_text(certificate(SITE, days=OLD))
        self.edge = Process([HAPROXY, "-db", "-f", str(directory / "edge.cfg")], directory / "edge.log")
        (self.files / "root.pem").write_text(authority.trusted.read_text())
        self.keeper = KeeperProcess(
            directory,
            acme_files=str(self.files),
            acme_directory=authority.address,
            acme_email="admin@counter.example",
            acme_root="its root",
            edge_tls="acme",
            edge_domains=["counter.example", "www.counter.example"],
            edge_at=f"127.0.0.1:{self.https}",
            edges=1,
            # What answers challenges answers anything.
            app_at=f"127.0.0.1:{authority.asks}",
            replicas=1,
        )
        self.port = self.keeper.port

    def start_edge(self, chain: str, key: ec.EllipticCurvePrivateKey = SITE) -> None:
        """Serve a certificate, and the answers to challenges."""
        (self.directory / "edge.pem").write_text(chain + pem(key))
        text = EDGE.format(
            challenges=self.authority.asks,
            https=self.https,
            keeper=self.port,
            # The name of a socket has 108 characters at most.
            admin=self.admin,
            thumbprint=deployed.acme_thumbprint(self.account),
        )
        (self.directory / "edge.cfg").write_text(text)
        # Without its first line, which is the template's.
        (self.directory / "certificate.lua").write_text(LOADER.read_text().partition("\n")[2])
        self.edge.start()
        wait_until("the edge", lambda: listens(self.https))

    def ask(self, path: str, serving: str = "") -> tuple[int, str]:
        """Return what the keeper answers, once it runs, to an edge that serves a certificate."""
        wait_until("the keeper", lambda: listens(self.port))
        headers = {"Certificate": "".join(serving.splitlines()[1:-1])}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()

    def served(self) -> x509.Certificate:
        """Return the certificate that the edge serves."""
        return first(ssl.get_server_certificate(("127.0.0.1", self.https), timeout=10))

    def status(self) -> dict[str, str]:
        """Return what the keeper says of renewals."""
        found: dict[str, str] = json.loads(self.ask("/status")[1])["renewal"]
        return found

    def present(self) -> x509.Certificate:
        return first(self.store.chain())


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Authority]:
    """Return an authority that issues certificates, not started."""
    authority = Authority(tmp_path, asks=free_port())
    with running(authority.names):
        authority.names.start()
        try:
            yield authority
        finally:
            authority.kill()


@pytest.fixture
def manager(tmp_path: Path, authority: Authority) -> Iterator[Manager]:
    """Return a manager with a certificate that is due; nothing runs."""
    manager = Manager(tmp_path, authority)
    with running(manager.keeper), running(manager.edge), webhook() as (place, manager.hooks):
        manager.keeper.plan["notify_urls"] = [f"json://{place}"]
        yield manager


def test_a_failure_is_noted_and_the_next_attempt_renews_with_the_same_key(manager: Manager) -> None:
    manager.start_edge(manager.store.chain())
    old = manager.present()
    manager.keeper.start()
    failed = wait_until("a failure", lambda: status if (status := manager.status())["failure"] else None)
    assert "Connection refused" in failed["failure"]
    assert failed["attempted"]
    assert manager.present() == old
    assert manager.keeper.metric("counter_keeper_renewal_success") == 0
    wait_until("the problem", lambda: "renewal" in manager.keeper.written()["problems"])
    # That it ends soon is a problem, too.
    assert "the certificate was not renewed (" in told(manager)

    manager.authority.start()
    wait_until("the renewal", lambda: manager.present() != old)
    renewed = manager.present()
    assert "Pebble" in renewed.issuer.rfc4514_string()
    assert renewed.public_key() == old.public_key()
    names = renewed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["counter.example", "www.counter.example"]
    assert (manager.files / "certificate.pem").stat().st_mode & 0o777 == 0o600
    wait_until("its report", lambda: manager.status()["failure"] == "")
    attempted = manager.status()["attempted"]
    assert manager.store.read("directory").strip() == manager.authority.address
    ends = f"{renewed.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"
    wait_until("its file", lambda: manager.keeper.written()["renewal"]["ends"] == ends)
    assert manager.keeper.metric("counter_keeper_renewal_success") == 1
    assert (
        manager.keeper.metric("counter_keeper_certificate_end_timestamp_seconds")
        == renewed.not_valid_after_utc.timestamp()
    )

    wait_until("the end of the problem", lambda: manager.keeper.written()["problems"] == {})
    assert "the certificate was not renewed (" in told(manager)

    # It is not due now: some looks later, it is the same.
    time.sleep(2)
    assert manager.present() == renewed
    assert manager.status()["attempted"] == attempted


def told(manager: Manager) -> str:
    """Return the texts of all messages since the last time."""
    manager.keeper.looks(2)
    return "\n".join(message["message"] for message in taken(manager.hooks))


def test_the_chain_is_served_to_edges_that_have_an_older_one(manager: Manager) -> None:
    present = certificate(SITE, days=(-10, 80))
    (manager.files / "certificate.pem").write_text(present)
    manager.keeper.start()
    assert manager.ask("/certificate.pem", certificate(SITE, days=(-11, 300))) == (200, present)
    assert manager.ask("/certificate.pem", present) == (204, "")
    assert manager.ask("/certificate.pem", certificate(SITE, days=(-9, 79))) == (204, "")


def test_a_newer_chain_of_an_edge_is_adopted_and_none_is_ordered(manager: Manager) -> None:
    newer = certificate(SITE, days=(-2, 88))
    manager.start_edge(newer)
    manager.keeper.start()
    wait_until("the adoption", lambda: manager.present() == first(newer))
    assert manager.status()["attempted"] == ""


def test_edges_load_five_renewals_under_load_without_a_failed_request(manager: Manager) -> None:
    manager.authority.start()
    manager.start_edge(manager.store.chain())
    manager.keeper.plan["renewed_below"] = 2
    ended = threading.Event()
    with ThreadPoolExecutor() as clients:
        loads = [clients.submit(requests, manager.https, ended, kept=kept) for kept in (True, False)]
        try:
            manager.keeper.start()
            serials: set[int] = set()

            def five() -> bool:
                serials.add(manager.served().serial_number)
                return len(serials) > 5

            wait_until("five renewals", five)
        finally:
            ended.set()
    assert all(load.result() > 50 for load in loads)
    assert manager.served().public_key() == first(manager.store.chain()).public_key()
    # It asked in vain at first, before the keeper ran.
    log = (manager.directory / "edge.log").read_text()
    assert log.count("loaded a certificate") >= 5
    assert "Proxy public stopped" not in log


def test_an_edge_logs_once_that_there_is_no_keeper_and_loads_its_certificate_later(manager: Manager) -> None:
    chain = certificate(SITE, days=(-10, 80))
    manager.start_edge(chain)
    old = manager.served()
    log = manager.directory / "edge.log"
    wait_until("the warning", lambda: "no certificate from the keeper" in log.read_text())
    time.sleep(3)
    assert log.read_text().count("no certificate from the keeper") == 1
    assert manager.served() == old

    newer = certificate(SITE, days=(-2, 88))
    (manager.files / "certificate.pem").write_text(newer)
    manager.keeper.start()
    wait_until("the newer certificate", lambda: manager.served() == first(newer))

    # Neither an older one nor that of another key is loaded.
    (manager.files / "certificate.pem").write_text(certificate(SITE, days=(-3, 300)))
    time.sleep(2.5)
    assert manager.served() == first(newer)
    (manager.files / "certificate.pem").write_text(certificate(ec.generate_private_key(ec.SECP256R1())))
    wait_until("the refusal", lambda: "HAProxy refuses the keeper's certificate" in log.read_text())
    assert manager.served() == first(newer)
    assert manager.admin.stat().st_mode & 0o777 == 0o600


def requests(port: int, ended: threading.Event, *, kept: bool) -> int:
    """Send requests, on one connection or each on a new one; return how many, all of which succeeded."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    count = 0
    connection = HTTPSConnection("127.0.0.1", port, timeout=30, context=context)
    # Otherwise http.client would connect again.
    connection.connect()
    connection.auto_open = 0
    while not ended.wait(0.01):
        if not kept:
            connection.close()
            connection.connect()
        connection.request("GET", "/")
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200
        count += 1
    connection.close()
    return count


def test_a_chain_is_stored_only_if_it_is_newer_and_belongs_to_the_key(manager: Manager) -> None:
    present = manager.store.chain()
    other = ec.generate_private_key(ec.SECP256R1())
    assert not manager.store.adopt(certificate(other, days=(-2, 88)))
    assert not manager.store.adopt(certificate(SITE, days=(-81, 300)))
    assert not manager.store.adopt(present)
    assert manager.store.chain() == present
    assert manager.store.adopt(newer := certificate(SITE, days=(-2, 88)))
    assert manager.store.chain() == newer


def test_a_certificate_is_renewed_when_deployments_would_renew_it() -> None:
    assert RENEWED_BELOW == deployed.RENEWED_BELOW
