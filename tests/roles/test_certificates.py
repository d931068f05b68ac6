"""The certificates of a stack: whom they are for, how long they are good, and what stays when they are renewed."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from support import certificates
from support.ansible import ROOT, play, results_by_host
from support.certificates import Certificates
from support.workers import made_once

DAY = 86400
SETTINGS = {"ansible.builtin.import_role": {"name": "preflight", "tasks_from": "settings"}}
RENEW = {"ansible.builtin.import_role": {"name": "redis", "tasks_from": "credentials/tls"}}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Return new certificates."""
    return made_once(tmp_path_factory, "certificates", certificates.make)


def openssl(directory: Path, *words: str) -> str:
    return subprocess.run(["openssl", *words], cwd=directory, capture_output=True, text=True, check=True).stdout


def test_the_authority_vouches_for_every_node_by_name(made: Certificates, tmp_path: Path) -> None:
    certificates.write(made, tmp_path)
    for name in ("redis-1", "redis-64", "sentinel-3"):
        for purpose in ("sslserver", "sslclient"):
            check = ["verify", "-CAfile", "ca.crt", "-purpose", purpose, "-verify_hostname", name, "redis.crt"]
            assert "redis.crt: OK" in openssl(tmp_path, *check)
    with pytest.raises(subprocess.CalledProcessError):
        openssl(tmp_path, "verify", "-CAfile", "ca.crt", "-verify_hostname", "redis-65", "redis.crt")


def test_it_is_good_for_years(made: Certificates, tmp_path: Path) -> None:
    certificates.write(made, tmp_path)
    openssl(tmp_path, "x509", "-in", "redis.crt", "-noout", "-checkend", str(1800 * DAY))
    openssl(tmp_path, "x509", "-in", "ca.crt", "-noout", "-checkend", str(10900 * DAY))
    assert len(made["ends"]) == len("20310101000000Z")


def test_a_certificate_that_is_valid_for_a_year_is_renewed_after_half_of_it(made: Certificates, tmp_path: Path) -> None:
    hosts = {}
    for days in (200, 180):
        ends = (datetime.now(UTC) + timedelta(days)).strftime("%Y%m%d%H%M%SZ")
        stored = {"redis/certificates.json": {"content": json.dumps(made | {"ends": ends})}}
        given = {"deployed_store": {"files": stored}, "redis_credentials_certificate_days": 365}
        hosts[f"days-{days}"] = {"ansible_connection": "local", **given}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": hosts}}))
    show = {"ansible.builtin.debug": {"msg": "{{ redis_credentials_certificates.certificate }}"}}
    (tmp_path / "play.yml").write_text(yaml.safe_dump(play(SETTINGS, RENEW, show)))
    found = results_by_host(tmp_path / "play.yml", tmp_path / "hosts.yml", ANSIBLE_ROLES_PATH=str(ROOT / "roles"))
    assert found["days-200"]["msg"] == made["certificate"]
    assert found["days-180"]["msg"] != made["certificate"]


def test_a_renewal_keeps_authority_and_keys(made: Certificates, tmp_path: Path) -> None:
    renewed = certificates.make(tmp_path, made)
    assert {name for name in made if renewed[name] == made[name]} >= {"ca", "ca_key", "key"}
    assert renewed["certificate"] != made["certificate"]
    assert renewed["ends"] >= made["ends"]
