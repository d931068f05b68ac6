"""Certificates of an authority: Pebble issues them, and asks HAProxy with the rendered configuration."""

from __future__ import annotations

import json
import re
import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from support.ansible import PLAYBOOKS, run
from support.authority import Authority
from support.edge import on_loopback
from support.https import AUTHORITY, SITE, certificate
from support.ports import free_port, listens
from support.processes import Process, running
from support.waiting import wait_until

pytestmark = pytest.mark.skipif(not shutil.which("pebble"), reason="no Pebble here")


class Site:
    """A first manager of which only the state directory exists, and the files of its edge."""

    def __init__(self, directory: Path, authority: Authority) -> None:
        """Use files in ``directory``."""
        self.written = directory / "edge.json"
        self.inventory = directory / "hosts.yml"
        self.authority = authority
        self.settings = {
            "ansible_connection": "local",
            "docker_host_engine": {"host_info": {"ServerVersion": "26.1.5"}},
            "edge_tls": "acme",
            "acme_directory": authority.address,
        }
        self.state = directory / "state"

    def deploy(self, *domains: str, renew: bool = True) -> str:
        """Do what a deployment does; return what it prints, in one line, and begin with ``failed: `` if it failed."""
        groups = {"managers": {"hosts": {"one": self.settings | {"edge_domains": list(domains)}}}}
        self.inventory.write_text(yaml.safe_dump({"all": {"children": groups}}))
        given = {"state_dir": str(self.state), "edge_json": str(self.written), "renew": renew}
        trusted = {"SSL_CERT_FILE": str(self.authority.trusted)}
        done = run("ansible-playbook", "-i", self.inventory, PLAYBOOKS / "acme.yml", "-e", json.dumps(given), **trusted)
        return ("failed: " if done.returncode else "") + re.sub(r"\s+", " ", done.stdout + done.stderr)

    def files(self) -> dict[str, str]:
        """Return the files of the edge by name."""
        found: dict[str, str] = json.loads(self.written.read_text())
        return found

    def served(self) -> x509.Certificate:
        """Return the first certificate that HAProxy would load."""
        return x509.load_pem_x509_certificate(self.files()["certificate-1.pem"].encode())


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Authority]:
    """Return an authority that issues certificates."""
    authority = Authority(tmp_path, asks=free_port())
    with running(authority.names):
        authority.names.start()
        authority.start()
        try:
            yield authority
        finally:
            authority.kill()


@pytest.fixture
def site(tmp_path: Path, authority: Authority) -> Iterator[Site]:
    """Return a site whose edge runs with a placeholder."""
    site = Site(tmp_path, authority)
    output = site.deploy("counter.example", renew=False)
    assert not output.startswith("failed"), output
    texts = site.files()
    texts["haproxy.cfg"] = texts["haproxy.cfg"].replace("bind :8443", f"bind 127.0.0.1:{free_port()}")
    command = on_loopback(texts, tmp_path, edge=authority.asks, app=free_port(), operator=free_port())
    haproxy = Process(command, tmp_path / "haproxy.log")
    with running(haproxy):
        haproxy.start()
        wait_until("the edge", lambda: listens(authority.asks))
        yield site


def test_a_certificate_is_issued_renewed_when_due_and_kept_when_refused(site: Site, authority: Authority) -> None:
    placeholder = site.served()
    assert placeholder.issuer == placeholder.subject

    output = site.deploy("counter.example")
    assert not output.startswith("failed"), output
    issued = site.served()
    assert "Pebble" in issued.issuer.rfc4514_string()
    names = issued.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["counter.example"]

    output = site.deploy("counter.example")
    assert "changed=0" in output, output
    assert site.served() == issued

    (site.state / "acme/directory").write_text("https://former.example/directory\n")
    output = site.deploy("counter.example")
    assert site.served() != issued
    issued = site.served()

    output = site.deploy("counter.example", "blocked.example")
    assert output.startswith("failed"), output
    assert "issued no certificate for counter.example, blocked.example" in output
    assert "The edges keep what they serve now." in output
    assert "Why a certificate is due: the present one is for counter.example." in output
    assert site.served() == issued

    # One that has ended is renewed, also by an authority that has forgotten the account.
    authority.start()
    domains = ("counter.example", "www.counter.example")
    (site.state / "acme/certificate.pem").write_text(certificate(SITE, domains, days=(-90, -1)))
    output = site.deploy(*domains)
    assert not output.startswith("failed"), output
    renewed = site.served()
    assert renewed != issued
    assert "Pebble" in renewed.issuer.rfc4514_string()


def test_an_authority_that_is_not_trusted_is_named(authority: Authority, tmp_path: Path) -> None:
    authority.trusted = tmp_path / "other.pem"
    authority.trusted.write_text(
        ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(certificate(AUTHORITY, names=("a",))))
    )
    # It is not asked for anything, so no edge needs to answer it.
    output = Site(tmp_path, authority).deploy("counter.example")
    assert output.startswith("failed"), output
    assert "issued no certificate for counter.example" in output
    assert "CERTIFICATE_VERIFY_FAILED" in output
