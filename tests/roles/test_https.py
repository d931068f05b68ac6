"""What is refused as a certificate for HTTPS before anything changes, and the names that are served."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from support.https import AUTHORITY, NOW, SITE, Key, authority, certificate, pem

from plugins.filter.certificates import ending, https_certificates, newest_issued, renewal_reason, unserved


def fault(pair: object) -> str:
    (found,) = https_certificates([pair])
    return str(found["fault"])


@pytest.mark.parametrize("key", [SITE, rsa.generate_private_key(65537, 2048)], ids=["ECDSA", "RSA"])
def test_a_certificate_with_its_chain_and_key_is_read_from_files_and_from_text(key: Key, tmp_path: Path) -> None:
    chain = certificate(key, ("counter.example", "*.example.org")) + authority()
    (tmp_path / "site.pem").write_text(chain)
    (tmp_path / "site.key").write_text(pem(key))
    files = {"certificate": str(tmp_path / "site.pem"), "key": str(tmp_path / "site.key")}
    from_files, from_text = https_certificates([files, {"certificate": chain, "key": pem(key)}])
    assert from_files == from_text
    assert from_text["fault"] == ""
    assert from_text["names"] == ["counter.example", "*.example.org"]
    assert from_text["ends"].startswith(f"{NOW + timedelta(days=90):%Y-%m-%d}")
    assert from_text["pem"].count("-----BEGIN") == 3


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        (
            {"certificate": certificate(SITE), "key": pem(AUTHORITY)},
            "key does not belong to the certificate for",
        ),
        ({"certificate": certificate(SITE, days=(-9, -1)), "key": pem(SITE)}, "ended on"),
        ({"certificate": certificate(SITE, days=(1, 9)), "key": pem(SITE)}, "begins on"),
        ({"certificate": certificate(SITE, names=()), "key": pem(SITE)}, "no subject alternative name"),
        ({"certificate": authority() + certificate(SITE), "key": pem(SITE)}, "in the wrong order"),
        ({"certificate": certificate(SITE) + certificate(SITE), "key": pem(SITE)}, "in the wrong order"),
        ({"certificate": certificate(SITE), "key": pem(SITE, "secret")}, "encrypted"),
        ({"certificate": "/nonexistent.pem", "key": pem(SITE)}, "No such file"),
        ({"certificate": pem(SITE), "key": pem(SITE)}, "certificate is neither PEM"),
        ({"certificate": certificate(SITE), "key": certificate(SITE)}, "key is neither PEM"),
        ({"certificate": certificate(SITE)}, "not a mapping of certificate and key"),
        ("site.pem", "not a mapping"),
    ],
)
def test_what_cannot_be_served_is_named(pair: object, said: str) -> None:
    assert said in fault(pair)


def test_a_broken_key_is_not_shown() -> None:
    broken = "junk\n" + pem(SITE)
    assert pem(SITE).splitlines()[1] not in fault({"certificate": certificate(SITE), "key": broken})


def test_only_domains_that_a_certificate_names_are_served() -> None:
    served = https_certificates([{"certificate": certificate(SITE, ("a.example", "*.b.example")), "key": pem(SITE)}])
    assert unserved(["a.example", "A.example", "x.b.example"], served) == []
    assert unserved(["b.example", "x.y.b.example", "other"], served) == ["b.example", "x.y.b.example", "other"]


@pytest.mark.parametrize(
    ("present", "reason"),
    [
        ([certificate(SITE, days=(-59, 31))], ""),
        ([certificate(SITE, days=(-61, 29))], "the present one ends on"),
        ([certificate(SITE, days=(-90, -1))], "the present one ends on"),
        ([certificate(SITE, ("www.counter.example",))], "the present one is for www.counter.example"),
        ([authority()], "no certificate has been issued yet"),
        ([], "there is none"),
    ],
    ids=["young", "old", "ended", "other names", "placeholder", "none"],
)
def test_a_certificate_is_renewed_for_a_reason(present: list[str], reason: str) -> None:
    served = https_certificates([{"certificate": one, "key": pem(SITE)} for one in present], judged=False)
    found = renewal_reason(served, ["counter.example"])
    assert found.startswith(reason)
    assert bool(found) == bool(reason)


@pytest.mark.parametrize(
    ("edge_tls", "days", "soon", "late"),
    [
        ("acme", (-4, 3), False, False),
        ("acme", (-5, 2), True, False),
        ("acme", (-6, 1), True, True),
        ("acme", (-60, 31), False, False),
        ("acme", (-70, 20), True, False),
        ("acme", (-80, 10), True, True),
        ("acme", (-90, -1), True, True),
        ("own", (-4, 31), False, False),
        ("own", (-300, 29), True, False),
        ("own", (-300, 6), True, True),
    ],
)
def test_what_is_soon_for_an_authority_is_when_it_renews(
    edge_tls: str, days: tuple[int, int], *, soon: bool, late: bool
) -> None:
    served = https_certificates([{"certificate": certificate(SITE, days=days), "key": pem(SITE)}], judged=False)
    assert [bool(ending(served, edge_tls, late=each)) for each in (False, True)] == [soon, late]
    if edge_tls == "acme":
        assert bool(renewal_reason(served, ["counter.example"])) == soon


def test_the_newest_certificate_of_the_managers_is_used_if_it_belongs_to_the_key() -> None:
    def manager(began: int, key: Key = SITE, directory: str = "") -> dict[str, dict[str, str]]:
        texts = {"acme/key.pem": pem(key), "acme/certificate.pem": certificate(key, days=(began, 80))}
        texts |= {"acme/directory": directory} if directory else {}
        return {path: {"content": text} for path, text in texts.items()}

    other = rsa.generate_private_key(65537, 2048)
    old, new, foreign = manager(-10), manager(-2, directory="https://authority.example"), manager(-1, other)
    mixed = {**manager(-1), "acme/certificate.pem": foreign["acme/certificate.pem"]}
    broken = {**manager(-1), "acme/certificate.pem": {"content": "junk"}}
    wanted = {path: new[path]["content"] for path in ("acme/certificate.pem", "acme/directory")}
    assert newest_issued([old, new, foreign, mixed, broken, {}]) == newest_issued([new, old]) == wanted
    # Its directory goes with a certificate.
    assert newest_issued([manager(-1), new]).keys() == {"acme/certificate.pem"}
    assert newest_issued([{}, new]) == newest_issued([{}]) == {}
