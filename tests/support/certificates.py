"""The certificates of a stack, as the role redis makes them."""

from __future__ import annotations

from pathlib import Path

from support.ansible import PLAYBOOKS, Ansible

Certificates = dict[str, str]
"""``ca``, ``ca_key``, ``certificate``, ``key``: PEM; ``ends``: when the certificate does, as YYYYMMDDHHMMSSZ."""


def make(site: Path, given: Certificates | None = None) -> Certificates:
    """Run the role's task file, with the certificates that there are already; ``site`` is a directory."""
    ansible = Ansible(site)
    ansible.hosts({"one": {"given": given} if given else {}})
    found: Certificates = ansible.results(PLAYBOOKS / "certificates.yml")["one"]["msg"]
    return found


def files(certificates: Certificates) -> dict[str, str]:
    """Return the files that servers and app read, by name."""
    return {"ca.crt": certificates["ca"], "redis.crt": certificates["certificate"], "redis.key": certificates["key"]}


def write(certificates: Certificates, directory: Path) -> None:
    """Write them."""
    for name, text in files(certificates).items():
        (directory / name).write_text(text)
