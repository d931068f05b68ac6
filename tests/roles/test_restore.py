"""What a restore takes from a backup, and what it leaves to the command line and to the deployment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.ansible import PLAYBOOKS, results_by_host

SETTINGS = {"redis_topology": "cluster", "redis_replicas": 8, "http_port": 8080, "app_threads": 7, "gone": "of old"}
SITE = {"backup_repository": "/mnt/gone", "image_registry": "192.0.2.1:5000", "docker_host_manage": False}
"""Where things were at the site that is lost: a new one says that itself."""
DEPLOYED = {"format": 2, "settings": SETTINGS | SITE}
RELEASES = {"format": 1, "releases": [{"number": 3, "verdict": "serving", "replicas": 6}]}
FILES = {
    "deployed.json": json.dumps(DEPLOYED),
    "releases.json": json.dumps(RELEASES),
    "redis/passwords": "secret\n",
    "redis/internal": "internal\n",
    "redis/certificates.json": "{}",
    "redis/move.json": "{}",
    "redis/stack.yml": "services: {}\n",
    "counter/redis_password": "secret\n",
    "acme/account.pem": "key\n",
    "backup/passwords": "password\n",
    "backup/backup.json": "{}",
}
GIVEN = {"backup_password": "a secret"}
COMES_BACK = {
    *("redis/passwords", "redis/internal", "redis/certificates.json"),
    *("acme/account.pem", "backup/passwords", "releases.json"),
}


def adopted(site: Path, **given: Any) -> dict[str, Any]:
    """Return what is said with these extra variables."""
    source = site / "source.json"
    source.write_text(json.dumps({"backup": {"stack": "counter"}, "manifest": {}, "files": FILES}))
    inventory = site / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"managers": {"hosts": {"host": {"ansible_connection": "local"}}}}))
    given_as = ("-e", json.dumps(given))
    found: dict[str, Any] = results_by_host(PLAYBOOKS / "restore.yml", inventory, *given_as, BACKUP_SOURCE=str(source))
    return found["host"]["msg"]


def test_new_hosts_get_what_nobody_gives(tmp_path: Path) -> None:
    found = adopted(tmp_path, backup="latest", http_port=8081, **GIVEN)
    known = {name: value for name, value in SETTINGS.items() if name not in ("gone", "http_port")}
    assert found["settings"] == known | {"replicas": 6}
    assert set(found["files"]) == COMES_BACK
    assert found["command"] == "./counter restore -e backup=latest -e http_port=8081 -e @file-with-backup_password"


def test_another_stack_in_another_topology(tmp_path: Path) -> None:
    found = adopted(
        tmp_path, backup="latest", stack_name="beside", redis_topology="standalone", replicas=2, confirm="beside"
    )
    assert found["settings"] == {"http_port": 8080, "app_threads": 7}
    assert set(found["files"]) == COMES_BACK - {"releases.json"}
    assert found["command"].endswith(" -e stack_name=beside -e redis_topology=standalone -e replicas=2")


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({"backup": "latest"}, "latest"),
        ({"backup": "counter/latest"}, "counter/latest"),
        ({"to": "latest"}, "log"),
        ({"to": "counter/latest"}, "counter/log"),
        ({"backup": "20261127T030000Z"}, "20261127T030000Z"),
        ({"backup": "other/latest"}, "other/latest"),
    ],
)
def test_the_latest_backup_stays_the_same_until_the_restore_has_ended(
    tmp_path: Path, asked: dict[str, str], wanted: str
) -> None:
    """The restore itself has made a later one, of what it replaces."""
    stays = wanted.removeprefix("counter/") in ("latest", "log")
    assert adopted(tmp_path, **asked, **GIVEN)["wanted"] == wanted
    # An earlier version recorded only the id.
    for chosen in ("counter/20261126T030000Z", "20261126T030000Z"):
        begun = {"backup": chosen, "before": "20261126T040000Z"}
        assert adopted(tmp_path, unfinished=begun, **asked, **GIVEN)["wanted"] == (chosen if stays else wanted)
