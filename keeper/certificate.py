"""The certificate of the stack, in the directory where each manager stores it with its key."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

RENEWED_BELOW = 1 / 3
"""A certificate is renewed when less than this part of its lifetime is left, as in plugins/filter."""


class Store:
    """The files of a directory: ``account.pem``, ``key.pem``, ``certificate.pem`` with its chain, ``directory``."""

    def __init__(self, directory: Path) -> None:
        """Use these files; a deployment may change them at any time."""
        self.directory = directory

    def read(self, name: str) -> str:
        """Return the content of a file; raises OSError."""
        return (self.directory / name).read_text(encoding="ascii")

    def write(self, name: str, text: str) -> None:
        """Replace a file such that no crash leaves a part of it."""
        new = self.directory / f".{name}.keeper"
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.directory / name)

    def chain(self) -> str:
        """Return the certificate and its chain, as PEM."""
        return self.read("certificate.pem")

    def adopt(self, chain: str) -> bool:
        """Store a chain if it belongs to the key and began later than the present one; return whether it did."""
        key = load_pem_private_key(self.read("key.pem").encode(), password=None).public_key()
        new = first(chain)
        form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        fits = new.public_key().public_bytes(*form) == key.public_bytes(*form)
        if not fits or new.not_valid_before_utc <= first(self.chain()).not_valid_before_utc:
            return False
        self.write("certificate.pem", chain)
        return True


def first(chain: str) -> x509.Certificate:
    """Return the certificate itself; raises ValueError."""
    return x509.load_pem_x509_certificate(chain.encode())


def part_left(certificate: x509.Certificate) -> float:
    """Return the part of the lifetime that is left, from 1 to 0; negative after the end."""
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return (certificate.not_valid_after_utc - datetime.now(UTC)) / lifetime
