"""Filters for the certificates of HTTPS.

They run on the control machine, where the files are, with the library that Ansible itself needs.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

from ansible.module_utils.common.text.converters import to_text
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

PARTS = {"certificate", "key"}
RENEWED_BELOW = 1 / 3
"""An authority's certificate is renewed when less than this part of its lifetime is left."""


def https_certificates(pairs: Any, *, judged: bool = True) -> list[dict[str, Any]]:
    """Read certificates with their keys.

    ``pairs``: a list of mappings with ``certificate`` (with its chain) and ``key``, each PEM text or a file.
    Returns for each pair ``pem`` (as HAProxy reads it), ``certificate`` (PEM of the first one), ``names``, ``ends`` (an
    ISO 8601 date and time in UTC), and ``fault``: what is wrong, empty if nothing is; then the others may be missing.
    What is served already is not ``judged``: a certificate that has ended is still better than none.
    """
    if not isinstance(pairs, list):
        return [{"fault": "is not a list"}]
    return [_checked(number, pair, judged=judged) for number, pair in enumerate(pairs, 1)]


def renewal_reason(certificates: Iterable[Mapping[str, Any]], domains: Iterable[str]) -> str:
    """Return why the certificate (from `https_certificates`) of an authority must be renewed; empty if it must not."""
    for one in certificates:
        first = x509.load_pem_x509_certificate(one["certificate"].encode())
        if first.issuer == first.subject:
            return "no certificate has been issued yet"
        if set(one["names"]) != set(domains):
            return f"the present one is for {', '.join(one['names'])}"
        if _part_left(first) < RENEWED_BELOW:
            return f"the present one ends on {one['ends']}"
        return ""
    return "there is none"


def ending(certificates: Iterable[Mapping[str, Any]], edge_tls: str, *, late: bool = False) -> list[Mapping[str, Any]]:
    """Return the certificates (from `https_certificates`) that end soon, or so soon that it is ``late`` to renew them.

    Those of an authority may live for a few days only. It is soon when they are renewed (`renewal_reason`), and late
    after half of the time that was left then. For others, it is 30 and 7 days before the end.
    """
    if edge_tls == "acme":
        limit = RENEWED_BELOW / 2 if late else RENEWED_BELOW
        read = x509.load_pem_x509_certificate
        return [one for one in certificates if _part_left(read(one["certificate"].encode())) < limit]
    day = datetime.now(UTC) + timedelta(days=7 if late else 30)
    return [one for one in certificates if one["ends"] < f"{day:%Y-%m-%dT%H:%M:%SZ}"]


def newest_issued(states: Iterable[Mapping[str, Mapping[str, Any]]]) -> dict[str, str]:
    """Return the files of the newest certificate of an authority; empty if the first of the ``states`` has no key.

    ``states``: the files (path -> ``content``) of each manager, those of the first one first. The keeper stores what it
    renews on its own manager only. What is not a certificate of the first one's key does not count.
    """
    first, *others = states
    if "acme/key.pem" not in first:
        return {}
    key = first["acme/key.pem"]["content"]
    ours = [files for files in (first, *others) if files.get("acme/key.pem", {}).get("content") == key]
    began = [(moment, files) for files in ours if (moment := _began(files, key))]
    _, newest = max(began, key=itemgetter(0), default=(None, {}))
    return {path: newest[path]["content"] for path in ("acme/certificate.pem", "acme/directory") if path in newest}


def _began(files: Mapping[str, Mapping[str, Any]], key: str) -> datetime | None:
    """Return when the certificate began; None if it cannot be read, or is not of the key."""
    try:
        first = x509.load_pem_x509_certificate(files["acme/certificate.pem"]["content"].encode())
        fits = _public_key(first) == _public_key(_private_key(key))
    except (KeyError, ValueError):
        return None
    return first.not_valid_before_utc if fits else None


def acme_thumbprint(account_key: str) -> str:
    """Return the thumbprint (RFC 7638) of an account's key (PEM, P-256), which ends each answer to a challenge."""
    key = load_pem_private_key(account_key.encode(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("the key of the account is not an ECDSA key")
    point = key.public_key().public_numbers()
    x, y = (_base64url(number.to_bytes(32, "big")) for number in (point.x, point.y))
    return _base64url(sha256(f'{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}'.encode()).digest())


def _part_left(certificate: x509.Certificate) -> float:
    """Return the part of the lifetime that is left, from 1 to 0; negative after the end."""
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return (certificate.not_valid_after_utc - datetime.now(UTC)) / lifetime


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def unserved(domains: Any, certificates: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the domains (a list) that no certificate names, itself or by a wildcard."""
    if not isinstance(domains, list):
        return []
    names = {name for one in certificates for name in one.get("names", [])}
    return [
        domain for domain in map(str, domains) if not names & {domain.lower(), "*." + domain.lower().partition(".")[2]}
    ]


def _checked(number: int, pair: Any, *, judged: bool) -> dict[str, Any]:
    if not isinstance(pair, Mapping) or set(pair) != PARTS:
        return {"fault": f"number {number} is not a mapping of certificate and key"}
    try:
        return _read(_text(pair["certificate"]), _text(pair["key"]), judged=judged)
    except (OSError, ValueError, TypeError, RuntimeError, UnsupportedAlgorithm) as error:
        return {"fault": f"number {number}: {error}"}


def _read(certificate: str, key: str, *, judged: bool) -> dict[str, Any]:
    """Return the pair; raises ValueError with what is wrong."""
    chain, own = _chain(certificate), _public_key(_private_key(key))
    first, now = chain[0], datetime.now(UTC)
    names = _names(first)
    title = f"the certificate for {', '.join(names) or first.subject.rfc4514_string()}"
    order = f"the chain of {title} is in the wrong order: first the certificate, then its issuer"
    faults = {
        order: any(_public_key(other) == own for other in chain[1:]),
        f"the key does not belong to {title}": _public_key(first) != own,
        f"{order}, then that one's issuer": any(one.issuer != issuer.subject for one, issuer in pairwise(chain)),
        f"{title} has no subject alternative name, which clients require": not names,
        f"{title} ended on {first.not_valid_after_utc:%Y-%m-%d %H:%M} UTC": now > first.not_valid_after_utc,
        f"{title} begins on {first.not_valid_before_utc:%Y-%m-%d %H:%M} UTC": now < first.not_valid_before_utc,
    }
    if judged and (found := [text for text, applies in faults.items() if applies]):
        raise ValueError(found[0])
    return {
        "pem": f"{certificate.strip()}\n{key.strip()}\n",
        "certificate": first.public_bytes(Encoding.PEM).decode(),
        "names": names,
        "ends": f"{first.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
        "fault": "",
    }


def _chain(text: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        raise ValueError("the certificate is neither PEM text nor a PEM file") from None


def _private_key(text: str) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(text.encode(), password=None)
    except ValueError:
        raise ValueError("the key is neither PEM text nor a PEM file") from None
    except TypeError:
        raise ValueError("the key is encrypted; HAProxy needs it without a password") from None
    if isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        return key
    raise ValueError("the key is neither RSA nor ECDSA")


def _public_key(holder: x509.Certificate | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return holder.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [name.lower() for name in names.get_values_for_type(x509.DNSName)] + [
        str(address) for address in names.get_values_for_type(x509.IPAddress)
    ]


def _text(value: Any) -> str:
    """Return PEM text, or the content of a file. Raises OSError."""
    text = to_text(value).strip()
    if text.startswith("-----BEGIN"):
        return text
    if "\n" in text:  # it may be a secret, so it is not shown as the name of a missing file
        raise ValueError("a text of several lines does not begin with -----BEGIN")
    return Path(text).expanduser().read_text(encoding="utf-8")


class FilterModule:
    """The filters by name, for Ansible."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Return the filters by name."""
        return {
            "https_certificates": https_certificates,
            "unserved": unserved,
            "renewal_reason": renewal_reason,
            "ending": ending,
            "acme_thumbprint": acme_thumbprint,
            "newest_issued": newest_issued,
        }
