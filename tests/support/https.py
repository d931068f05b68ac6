"""Certificates for HTTPS, issued by an authority that exists for one run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
NOW = datetime.now(UTC)
AUTHORITY = ec.generate_private_key(ec.SECP256R1())
SITE = ec.generate_private_key(ec.SECP256R1())


def named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(key: Key, names: tuple[str, ...] = ("counter.example",), days: tuple[int, int] = (-1, 90)) -> str:
    """Return a certificate that the authority issued."""
    built = (
        x509.CertificateBuilder()
        .subject_name(named("site"))
        .issuer_name(named("authority"))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW + timedelta(days=days[0]))
        .not_valid_after(NOW + timedelta(days=days[1]))
    )
    if names:
        built = built.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
    return built.sign(AUTHORITY, SHA256()).public_bytes(Encoding.PEM).decode()


def authority() -> str:
    built = (
        x509.CertificateBuilder()
        .subject_name(named("authority"))
        .issuer_name(named("authority"))
        .public_key(AUTHORITY.public_key())
        .serial_number(2)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=900))
    )
    return built.sign(AUTHORITY, SHA256()).public_bytes(Encoding.PEM).decode()


def pem(key: Key, password: str = "") -> str:
    protection = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection).decode()
