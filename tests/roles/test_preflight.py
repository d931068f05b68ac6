"""What cannot work is refused before any host is changed, with the value, the rule and an option that works."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from engines import engine, interpreter, serve
from support.ansible import ROOT, project_environment, run
from support.https import SITE, certificate, pem
from support.ports import closed_port
from support.workers import made_once

from plugins.filter.commands import as_options
from plugins.filter.rules import broken_rules, misplaced
from plugins.filter.settings import refused as refused_values
from plugins.filter.settings import settings_options, typed

DEFAULTS: dict[str, Any] = yaml.safe_load((ROOT / "roles/settings/defaults/main.yml").read_text(encoding="utf-8"))
# A value of each setting that cannot work. `status_file` may have any name, and `confirm` matters with others only.
WRONG = {
    "stack_name": "Counter stack",
    "replicas": "many",
    "http_port": "http",
    "edge": "nginx",
    "app_cpus": "all",
    "app_memory": "128",
    "redis_topology": "sentinl",
    "redis_replicas": "two",
    "redis_url": "redis://192.0.2.20",
    "redis_memory": "much",
    "redis_tls": "strict",
    "write_concern": "some",
    "redis_password": "two words",
    "base_image_source": "download",
    "image_distribution": "copy",
    "image_registry": "bad registry",
    "image_revision": "",
    "build_ca_bundle": "ca.crt",
    "keep_releases": "0",
    "release": "last",
    "service": "all of them",
    "since": "yesterday",
    "level": "loud",
    "lines": "some",
    "docker_host_manage": "perhaps",
    "docker_package_source": "snap",
    "overlay_encrypted": "maybe",
    "app_threads": "1",
    "app_drain_seconds": "3.5",
    "app_deadline_seconds": "5s",
    "app_max_counters": 0,
    "app_new_counters_per_minute": 1_000_001,
    "app_environment": "INFO",
    "app_update_parallelism": "-1",
    "app_update_monitor": "4",
    "edge_max_requests": "0",
    "edge_memory": "1M",
    "edge_requests_per_second": "-1",
    "edge_connections_per_client": "many",
    "edge_tls": "maybe",
    "https_port": "80",
    "edge_certificates": "site.pem",
    "edge_domains": "counter.example",
    "edge_hsts_seconds": "60",
    "acme_email": "me@example.org",
    "acme_directory": "http://authority.example/directory",
    "redis_down_after_milliseconds": "1",
    "backup_repository": "backups",
    "backup_copy_repository": "copies",
    "backup_password": "short",
    "backup_environment": "AWS_ACCESS_KEY_ID",
    "backup_ssh_key": "/no/such/key",
    "backup_known_hosts": "/no/such/file",
    "backup_environment_files": {"RESTIC_CACERT": "/no/such/file"},
    "backup_schedule": "at night",
    "backup_keep": {"sometimes": 1},
    "backup_max_age": "a day",
    "backup_log_interval": "5",
    "backup_log_days": "0",
    "backup_memory": "64M",
    "backup_report_url": "me@example.org",
    "backup_heartbeat_url": "example.org/ping",
    "backup": "the last one",
    "to": "2026-11-26T10:00:05",
    "safety": "perhaps",
    "list": "perhaps",
    "verify": "some",
    "repair": "perhaps",
    "hold": "latest",
    "unhold": "latest",
    "copies": "perhaps",
    "delete": "latest",
    "backup_rotate": "now",
    "hook_timeout": "0",
    "lock_wait": "forever",
    "redis_move": "now",
    "redis_rotate": "now",
    "purge": "all",
    "yes": "perhaps",
    "redis_primary": "the-last",
    "on": "perhaps",
    "allow": "everybody",
    "text": "",
    "leave_swarm": "later",
    "file": "counters.txt",
    "mode": "replace",
    "counter": "[a-z]",
    "edge_trusted_proxies": ["192.0.2.7/24"],
    "edge_proxy_protocol": "v2",
    "json": "pretty",
    "edge_request_log": "all",
    "follow": "perhaps",
    "image_max_age": "-1",
    "acme_root": "/etc/ssl/root.pem",
    "notify_urls": ["hooks.example/counter"],
    "heartbeat_url": "example.org/ping",
    "cors_origins": ["https://blog.example/"],
    "host": "node 2",
    "state": "gone",
    "allow_pause": "perhaps",
    "rebalance": "sometimes",
    "packages": "some",
    "dead": "perhaps",
    "firewall": "ufw",
    "firewall_open": ["8080"],
}
SECRETS = {name for name, spec in settings_options(str(ROOT)).items() if spec.get("no_log") is True}
# Those without a playbook at the root.
OTHER_VERBS = [
    f"playbooks/{verb}"
    for verb in (
        *(
            "promote",
            "unlock",
            "releases",
            "rollback",
            "logs",
            "maintenance",
            "certificates",
            "node",
            "reboot",
            "upgrade",
        ),
        *("export", "import", "remove", "backup", "restore"),
    )
]
# The wrong values are tried in groups.
GROUPS = [list(WRONG)[first::8] for first in range(8)]
# The options that are said to work contain the name of the stack.
OTHERS = set(DEFAULTS) - {"stack_name"}
# Name of the case: what is set, and the variables that are refused. Each group of wrong values is a case, too.
CASES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "nothing set": ({}, set()),
    "replicas 0": ({"replicas": "0"}, {"replicas"}),
    "replicas no number": ({"replicas": "abc"}, {"replicas"}),
    "replicas negative": ({"replicas": "-1"}, {"replicas"}),
    "replicas broken": ({"replicas": "2.5"}, {"replicas"}),
    "replicas empty": ({"replicas": ""}, {"replicas"}),
    "replicas 64": ({"replicas": "64"}, set()),
    "replicas 65": ({"replicas": "65"}, {"replicas"}),
    "replicas a number": ({"replicas": 4}, set()),
    "standalone with 2 nodes": ({"redis_replicas": "2"}, {"redis_replicas"}),
    "independent with 1 node": ({"redis_topology": "independent", "redis_replicas": "1"}, {"redis_replicas"}),
    "independent with 2 nodes": ({"redis_topology": "independent", "redis_replicas": "2"}, set()),
    "sentinel with 1 node": ({"redis_topology": "sentinel", "redis_replicas": "1"}, {"redis_replicas"}),
    "sentinel with 2 nodes": ({"redis_topology": "sentinel", "redis_replicas": "2"}, {"redis_replicas"}),
    "sentinel with 3 nodes": ({"redis_topology": "sentinel"}, set()),
    "sentinel with 4 nodes": ({"redis_topology": "sentinel", "redis_replicas": "4"}, {"redis_replicas"}),
    "sentinel with 5 nodes": ({"redis_topology": "sentinel", "redis_replicas": "5"}, set()),
    "nodes no number": ({"redis_topology": "independent", "redis_replicas": "many"}, {"redis_replicas"}),
    "cluster": ({"redis_topology": "cluster"}, set()),
    "cluster without replicas": ({"redis_topology": "cluster", "redis_replicas": "3"}, set()),
    "cluster of 8": ({"redis_topology": "cluster", "redis_replicas": "8"}, set()),
    "cluster with 2 nodes": ({"redis_topology": "cluster", "redis_replicas": "2"}, {"redis_replicas"}),
    "cluster with 4 nodes": ({"redis_topology": "cluster", "redis_replicas": "4"}, {"redis_replicas"}),
    "cluster with 5 nodes": ({"redis_topology": "cluster", "redis_replicas": "5"}, {"redis_replicas"}),
    "cluster with 7 nodes": ({"redis_topology": "cluster", "redis_replicas": "7"}, {"redis_replicas"}),
    "cluster with 66 nodes": ({"redis_topology": "cluster", "redis_replicas": "66"}, {"redis_replicas"}),
    "external without URL": ({"redis_topology": "external"}, {"redis_url"}),
    "external with another URL": ({"redis_topology": "external", "redis_url": "http://192.0.2.20"}, {"redis_url"}),
    "external without host": ({"redis_topology": "external", "redis_url": "redis://"}, {"redis_url"}),
    "external with a database of another name": (
        {"redis_topology": "external", "redis_url": "redis://192.0.2.20/counters"},
        {"redis_url"},
    ),
    "external with a port that does not exist": (
        {"redis_topology": "external", "redis_url": "redis://192.0.2.20:65536"},
        {"redis_url"},
    ),
    "external with a bracket": ({"redis_topology": "external", "redis_url": "redis://a[b.example"}, {"redis_url"}),
    "external on the host itself": (
        {"redis_topology": "external", "redis_url": "redis://me:it@127.0.0.1:6379/0"},
        {"redis_url"},
    ),
    "external on localhost": ({"redis_topology": "external", "redis_url": "redis://localhost"}, {"redis_url"}),
    "external on localhost, IPv6": ({"redis_topology": "external", "redis_url": "redis://[::1]:6379"}, {"redis_url"}),
    "external with a name like it": ({"redis_topology": "external", "redis_url": "redis://localhost.example"}, set()),
    "external with the last port": ({"redis_topology": "external", "redis_url": "redis://192.0.2.20:65535"}, set()),
    "external with a login": ({"redis_topology": "external", "redis_url": "redis://me:it@[2001:db8::1]:6379/1"}, set()),
    "external with a password beside": (
        {"redis_topology": "external", "redis_url": "redis://192.0.2.20", "redis_password": "given"},
        {"redis_password"},
    ),
    "external with TLS": ({"redis_topology": "external", "redis_url": "rediss://192.0.2.20:6380/0"}, set()),
    "TLS": ({"redis_tls": "true"}, set()),
    "TLS of an external Redis": (
        {"redis_tls": "true", "redis_topology": "external", "redis_url": "redis://192.0.2.20"},
        {"redis_tls"},
    ),
    "registry on the port of the edge": (
        {"image_distribution": "registry", "image_registry": "localhost:5000", "http_port": "5000"},
        {"image_registry"},
    ),
    "registry on the other port of the edge": (
        {"image_distribution": "registry", "image_registry": "localhost:5001", "http_port": "5001"},
        {"image_registry"},
    ),
    "drain shorter than the edge needs": ({"app_drain_seconds": "1"}, {"app_drain_seconds"}),
    "external with options": (
        {"redis_topology": "external", "redis_url": "rediss://192.0.2.20:6380/0?ssl_cert_reqs=none"},
        {"redis_url"},
    ),
    "replicas of an external Redis": (
        {"write_concern": "majority", "redis_topology": "external", "redis_url": "redis://192.0.2.20"},
        {"write_concern"},
    ),
    "rotation": ({"redis_rotate": "true"}, set()),
    "rotation with yes": ({"redis_rotate": True}, set()),
    "rotation of an external password": (
        {"redis_rotate": "true", "redis_topology": "external", "redis_url": "redis://192.0.2.20"},
        {"redis_rotate"},
    ),
    "rotation of a given password": ({"redis_rotate": "true", "redis_password": "given"}, {"redis_rotate"}),
    "password": ({"redis_password": "a;'\"#}b"}, set()),
    "password of digits": ({"redis_password": 12345}, set()),
    "password with the end of its line": ({"redis_password": "given\n"}, set()),
    "port 0": ({"http_port": "0"}, {"http_port"}),
    "port of the swarm": ({"http_port": "2377"}, {"http_port"}),
    "port 65536": ({"http_port": "65536"}, {"http_port"}),
    "stack name in capitals": ({"stack_name": "Counter"}, {"stack_name"}),
    "stack name of the other stack": ({"stack_name": "counter-redis"}, {"stack_name"}),
    "stack name of the third stack": ({"stack_name": "counter-backup"}, {"stack_name"}),
    "backups": ({"backup_repository": "/srv/backups", "backup_keep": {"last": 3}}, set()),
    "backups elsewhere": ({"backup_repository": "s3:https://s3.example/bucket", "backup_schedule": ""}, set()),
    "backups with a user": ({"backup_repository": "rest:https://a:b@backup.example/"}, {"backup_repository"}),
    "backups over sftp": ({"backup_repository": "sftp:me@backup.example:/srv"}, {"backup_ssh_key"}),
    "backups with copies": (
        {"backup_repository": "/srv/backups", "backup_copy_repository": "rest:https://backup.example/"},
        set(),
    ),
    "copies of nothing": ({"backup_copy_repository": "/srv/backups"}, {"backup_copy_repository"}),
    "copies beside the backups": (
        {"backup_repository": "/srv/backups", "backup_copy_repository": "/srv/backups"},
        {"backup_copy_repository"},
    ),
    "copies over sftp": (
        {"backup_repository": "/srv/backups", "backup_copy_repository": "sftp:me@backup.example:/srv"},
        {"backup_ssh_key"},
    ),
    "no safety": ({"safety": "false"}, {"safety"}),
    "no safety, confirmed": ({"safety": "false", "confirm": "counter"}, set()),
    "an export of a copy": ({"copies": True, "backup": "latest"}, set()),
    "copies of no list": ({"copies": True, "backup": ""}, {"copies"}),
    "backups of nodes that differ": (
        {"redis_topology": "independent", "backup_repository": "/srv/backups"},
        {"backup_repository"},
    ),
    "backups with little memory": (
        {"redis_memory": "1G", "backup_memory": "512M", "backup_repository": "/srv/backups"},
        {"backup_memory"},
    ),
    "backups with a password for restic": ({"backup_environment": {"RESTIC_PASSWORD": "mine"}}, {"backup_environment"}),
    "backups with a file of it": (
        {"backup_environment_files": {"RESTIC_PASSWORD_FILE": __file__}},
        {"backup_environment_files"},
    ),
    "backups with an authority": ({"backup_environment_files": {"RESTIC_CACERT": __file__}}, set()),
    "backups with a list": ({"backup_environment": {"AWS_REGION": ["one"]}}, {"backup_environment"}),
    "backups at no time": ({"backup_schedule": "at night", "backup_repository": "/srv/backups"}, {"backup_schedule"}),
    "a day that does not exist": ({"to": "2026-02-30T10:00:05Z"}, {"to"}),
    "a moment": ({"to": "2026-11-26T10:00:05+01:00"}, set()),
    "a service of one's own": ({"service": "my-cache.1"}, set()),
    "a task at a node with another name": ({"service": "edge.node_1"}, set()),
    "another stack's moment": ({"to": "counter-2/latest"}, set()),
    "another stack's backup": ({"backup": "counter-2/20261126T030000Z"}, set()),
    "a backup of no stack": ({"backup": "/latest"}, {"backup"}),
    "a moment and a backup": ({"to": "2026-11-26T10:00:05Z", "backup": "latest"}, {"to"}),
    "no log of changes": ({"backup_log_interval": "0"}, set()),
    "a new password without backups": ({"backup_rotate": True}, {"backup_rotate"}),
    "backups each second": (
        {"backup_schedule": "* * * * * *", "backup_repository": "/srv/backups"},
        {"backup_schedule"},
    ),
    "stack name too long": ({"stack_name": "a" * 32}, {"stack_name"}),
    "stack name with an option": ({"stack_name": "a --prune"}, {"stack_name"}),
    "no CPU": ({"app_cpus": "0"}, {"app_cpus"}),
    "part of a CPU": ({"app_cpus": "0.25"}, set()),
    "too little memory": ({"app_memory": "1M", "redis_memory": "63M"}, {"app_memory", "redis_memory"}),
    "promotion": ({"redis_primary": "redis-3", "confirm": "counter"}, set()),
    "promotion unconfirmed": ({"redis_primary": "redis-3"}, {"confirm"}),
    "limits of a mesh": (
        {"edge": "mesh", "edge_requests_per_second": "5", "edge_connections_per_client": "5"},
        {"edge_requests_per_second", "edge_connections_per_client"},
    ),
    "limits of a proxy": ({"edge_requests_per_second": "5", "edge_connections_per_client": "5"}, set()),
    "mesh": ({"edge": "mesh"}, set()),
    "proxies in front": ({"edge_trusted_proxies": "192.0.2.7,198.51.100.0/24", "edge_proxy_protocol": True}, set()),
    "proxies that a mesh hides": ({"edge": "mesh", "edge_trusted_proxies": "192.0.2.7"}, {"edge_trusted_proxies"}),
    "a protocol of no proxy": ({"edge_proxy_protocol": True}, {"edge_proxy_protocol"}),
    "maintenance": ({"on": True, "allow": "192.0.2.7,198.51.100.0/24,2001:db8::/32"}, set()),
    "a client of IPv6 in its network": ({"on": True, "allow": "2001:db8::7/32"}, {"allow"}),
    "a client in its network": ({"on": True, "allow": "192.0.2.7/24"}, {"allow"}),
    "a network with a mask of hosts": ({"on": True, "allow": "192.0.2.0/0.0.0.255"}, {"allow"}),
    "clients of no maintenance": ({"on": "false", "allow": "192.0.2.7"}, {"allow"}),
    "certificates of an authority": ({"edge_tls": "acme", "edge_domains": "a.example,b.example"}, set()),
    "an authority without a domain": ({"edge_tls": "acme", "edge_domains": []}, {"edge_domains"}),
    "an authority and a wildcard": ({"edge_tls": "acme", "edge_domains": "*.example"}, {"edge_domains"}),
    "an authority and another port": (
        {"edge_tls": "acme", "edge_domains": "a.example", "http_port": "8080"},
        {"http_port"},
    ),
    "repair": ({"repair": "true", "confirm": "counter"}, set()),
    "hold": ({"hold": "20261126T030000Z"}, set()),
    "hold and delete": (
        {"hold": "20261126T030000Z", "delete": "20261126T030000Z", "confirm": "counter"},
        {"hold", "delete"},
    ),
    "delete unconfirmed": ({"delete": "20261126T030000Z"}, {"confirm"}),
    "repair unconfirmed": ({"repair": "true"}, {"repair"}),
    "reports to no host": ({"backup_report_url": "http://[x"}, {"backup_report_url"}),
    "reports": ({"backup_report_url": "https://a:b@[2001:db8::1]:8080/x?y=z"}, set()),
    "removal": ({"purge": "true", "confirm": "counter"}, set()),
    "removal unconfirmed": ({"purge": "true"}, {"confirm"}),
    "removal of another stack": ({"purge": "true", "confirm": "other"}, {"confirm"}),
    "a file as CSV": ({"file": "counters.csv", "mode": "add"}, set()),
    "a file as JSON": ({"file": "there/counters.json", "mode": "set"}, set()),
    "a format without a file": ({"file": "there/.csv"}, {"file"}),
    "environment": (
        {"app_environment": {"COUNTER_KEY_SECONDS": "3600", "COUNTER_HISTORY_LOG": "1", "LOG_LEVEL": "INFO"}},
        set(),
    ),
    "environment of the project's own": ({"app_environment": {"COUNTER_THREADS": "8"}}, {"app_environment"}),
    "environment that no file of the project sets": ({"app_environment": {"COUNTER_BIND": "::"}}, {"app_environment"}),
    "environment of the resolver": ({"app_environment": {"RES_OPTIONS": "rotate"}}, {"app_environment"}),
    "environment with a misspelt name": ({"app_environment": {"COUNTER_KEY_SECOND": "99"}}, {"app_environment"}),
    "environment without a value": ({"app_environment": {"LOG_LEVEL": None}}, {"app_environment"}),
    "ids that are forgotten at once": (
        {"app_environment": {"COUNTER_KEY_SECONDS": "15"}, "app_deadline_seconds": "8"},
        {"app_environment"},
    ),
    "ids for an hour in other words": ({"app_environment": {"COUNTER_KEY_SECONDS": "1h"}}, {"app_environment"}),
    "environment of another form": ({"app_environment": {"log-level": "info"}}, {"app_environment"}),
    "own registry without a port": (
        {"image_distribution": "registry", "image_registry": "localhost"},
        {"image_registry"},
    ),
    "own registry on a port that does not exist": (
        {"image_distribution": "registry", "image_registry": "localhost:70000"},
        {"image_registry"},
    ),
    "own registry on a port of the swarm": (
        {"image_distribution": "registry", "image_registry": "localhost:7946"},
        {"image_registry"},
    ),
    "own registry with a path": (
        {"image_distribution": "registry", "image_registry": "one:5000/team"},
        {"image_registry"},
    ),
    "own registry": ({"image_distribution": "registry", "image_registry": "one:5000"}, set()),
    "registry of a path": ({"image_registry": "registry.example.org:5000/team/counter"}, set()),
    "addresses of a mesh": ({"edge": "mesh", "edge_request_log": "addresses"}, {"edge_request_log"}),
    "all replicas at once": ({"app_update_parallelism": "0"}, set()),
    **{f"wrong {group[0]} and others": ({name: WRONG[name] for name in group}, set(group)) for group in GROUPS},
    "every other setting a mapping": ({name: {"x": 1} for name in OTHERS}, OTHERS),
    "every other setting a list": ({name: ["x"] for name in OTHERS - {"edge_domains"}}, OTHERS - {"edge_domains"}),
    "every setting without a value": (dict.fromkeys(DEFAULTS), set(DEFAULTS)),
    "several at once": ({"replicas": "0", "edge": "x", "http_port": "y"}, {"replicas", "edge", "http_port"}),
}

Refused = dict[str, tuple[str, str]]
"""By name of the setting: the value that is shown, and the options that work."""

LOADER = DataLoader()
FILES = [ROOT / "roles/settings" / name for name in ("defaults/main.yml", "vars/main/topologies.yml")]
VARIABLES = {k: v for file in FILES for k, v in LOADER.load_from_file(str(file), trusted_as_template=True).items()}


def judge(settings: dict[str, Any], *, asks: bool = False) -> Refused:
    """Return what is refused of the settings of a stack of one host."""
    templar = Templar(loader=LOADER, variables=VARIABLES | settings)
    values = templar.template({name: templar.available_variables[name] for name in DEFAULTS})
    desired = typed(values, str(ROOT))
    host = str(desired["image_registry"]).partition("/")[0].partition(":")[0]
    facts = {
        "verb": "",
        "asks": asks,
        "reads_files": True,
        "typed": set(settings),
        "started": 0,
        "managers": 1,
        "hosts": 1,
        "address": "one",
        "stack_option": "",
        "certificates": [],
        "unserved": [],
        "registry_is_own": desired["image_distribution"] == "registry" and host in ("localhost", "one"),
        "topologies": templar.template(VARIABLES["topologies"]),
    }
    found = refused_values(values, str(ROOT), broken_rules(desired, facts))
    assert [each for each in found if not each["rule"].startswith("must ")] == []
    return {each["name"]: (each["shown"], as_options(each["works"])) for each in found}


@pytest.mark.parametrize("case", CASES)
def test_exactly_what_is_wrong_is_refused_and_the_option_that_is_said_to_work_does(case: str) -> None:
    """The case is set right as the messages say; then nothing is refused any more."""
    given, wrong = CASES[case]
    found = judge(given)
    assert set(found) == wrong
    for name, (value, _) in found.items():
        wrong_value = given.get(name)
        is_secret = name in SECRETS and wrong_value is not None
        shown = re.sub("//.*@", "//***@", str(wrong_value))
        assert value == ("***" if is_secret else "" if wrong_value is None else shown)
    settings = dict(given)
    for _, works in found.values():
        words = shlex.split(works)
        assert words[::2] == ["-e"] * (len(words) // 2), works
        for word in words[1::2]:
            settings |= json.loads(word) if word.startswith("{") else dict([word.split("=", 1)])
    assert not found or judge(settings) == {}


@pytest.mark.parametrize("case", ["removal", "repair", "delete", "promotion"])
def test_at_a_terminal_the_confirmation_need_not_be_typed_but_not_be_wrong_either(case: str) -> None:
    given, wrong = CASES[f"{case} unconfirmed"]
    assert judge(given, asks=True) == {}
    assert set(judge(given | {"confirm": "other"}, asks=True)) == wrong


def test_a_wrong_value_of_every_setting_is_tried() -> None:
    assert set(WRONG) == set(DEFAULTS) - {"confirm", "status_file"}


# -- The playbook itself. `--tags always` is preflight alone: when it does not refuse, nothing may be deployed here.


def deploy(*options: str, playbook: str = "deploy.yml", **environ: str) -> str:
    """Run a playbook, which must be refused without a change; return what it prints, in one line."""
    done = run("ansible-playbook", playbook, "--tags", "always", *options, **environ)
    output = re.sub(r"\s+", " ", done.stdout + done.stderr)
    assert done.returncode != 0, output
    recap = re.findall(r"changed=(\d+)", output)
    assert recap, output
    assert set(recap) == {"0"}, output
    return output


VERBS = ["deploy", "scale", "status", "destroy", "bench", *OTHER_VERBS]


def listed() -> dict[str, str]:
    """Return the tasks of each verb's playbook with their tags, as Ansible lists them."""
    done = run("ansible-playbook", "--list-tasks", *(f"{verb}.yml" for verb in VERBS))
    assert done.returncode == 0, done.stderr
    parts = re.split(r"^playbook: (.*)\.yml$", done.stdout, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the tasks of each playbook."""
    return made_once(tmp_path_factory, "lists", lambda _: listed())


@pytest.mark.parametrize("playbook", VERBS)
def test_preflight_comes_first(lists: dict[str, str], playbook: str) -> None:
    first = lists[playbook].partition("play #1")[2].partition("play #2")[0]
    assert ": Check the inventory\t" in first
    assert "preflight : " in first
    assert set(re.findall(r"^ +(\w+) : ", first, re.MULTILINE)) == {"preflight"}
    # What `deploy` below leaves to run.
    tasks = re.findall(r"^ +(\w+) : .*\tTAGS: \[(.*)\]$", lists[playbook], re.MULTILINE)
    assert {role for role, tags in tasks if "always" in tags.split(", ")} == {"preflight"}


def refused_hosts(
    site: Path, hosts: dict[str, dict[str, Any]], playbook: str = "deploy.yml", options: Sequence[str] = ()
) -> dict[str, str]:
    """Run a playbook for hosts with settings of their own; return what it says of each, and all of it as ``all``.

    ``options``: those that count only after ``-e``, where each host has its own.
    """
    inventory = site / "hosts.yml"
    groups = {"managers": {"hosts": {"first": None}}, "workers": {"hosts": hosts}, "loadgen": None}
    inventory.write_text(yaml.safe_dump({"all": {"vars": {"ansible_connection": "local"}, "children": groups}}))
    own = {name: f"{{{{ own_{name} | default('') }}}}" for name in options}
    output = deploy("-i", str(inventory), "-e", json.dumps(own), playbook=playbook)
    # Before this, Ansible says the same of the host as an error.
    parts = re.split(r"fatal: \[(\w+)\]", output.partition("PLAY RECAP")[0])
    said = [part.partition("[ERROR]")[0] for part in parts[2::2]]
    return dict(zip(parts[1::2], said, strict=True)) | {"all": output}


# Its files are missing.
AWAY = {
    "app_threads": 0,
    "edge_tls": "own",
    "edge_domains": ["counter.example"],
    "edge_certificates": [{"certificate": "/no/such.pem", "key": "/no/such.key"}],
    "backup_repository": "sftp:me@backup.example:/srv",
    **dict.fromkeys(["backup_ssh_key", "backup_known_hosts"], "/no/such"),
}
# The servers were lost that had ``edge_tls=own``.
LOST = {"edge_certificates": [{"certificate": "a", "key": "b"}], "own_backup": "latest"}
PASSWORDS = {"words": "hidden words", "lines": "hidden\nlines", "blank": " \n"}


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return what a deployment says of hosts with wrong settings."""
    pair = {"certificate": certificate(SITE), "key": pem(SITE)}
    hosts: dict[str, dict[str, Any]] = {
        "several": {"replicas": "abc", "redis_topology": "sentinl", "http_port": "0"},
        "url": {"replicas": "0", "redis_topology": "external", "redis_url": "http://me:hidden@192.0.2.20"},
        "away": AWAY,
        "another": {"release": "bookworm", "level": 3, "replicas": 0},
        "lost": LOST,
        "types": {
            "redis_timeout": "soon",
            "smoke_timeout": "60",
            "swarm_node_labels": "ssd",
            "images_registry_password": {"hidden": "word"},
        },
        "right": {
            "swarm_node_labels": {"disk": "ssd"},
            "docker_host_start_timeout": "{{ later }}",
            "swarm_join_timeout": "{% if later %}60{% endif %}",
            "swarm_advertise_address": None,
        },
        "pairs": {"redis_topology": "cluster", "redis_replicas": "7"},
        **{name: {"redis_password": password} for name, password in PASSWORDS.items()},
        "certificates": {"edge_tls": "own", "edge_certificates": [pair], "replicas": 0},
        "wildcard": {
            "edge_tls": "own",
            "edge_certificates": [{"certificate": certificate(SITE, ("*.example", "a.example")), "key": pem(SITE)}],
            "edge_domains": ["*.example"],
        },
    }
    return made_once(tmp_path_factory, "refused", lambda site: refused_hosts(site, hosts))


def test_all_wrong_values_are_named_at_once(refused: dict[str, str]) -> None:
    output = refused["several"]
    assert "Nothing was changed" in output
    assert "replicas=abc: must be a whole number from 1 to 64. This works: -e replicas=4" in output
    assert "redis_topology=sentinl: must be standalone" in output
    assert (
        "http_port=0: must be a port from 1 to 65535, and not 2377 or 7946, which the swarm needs. This works: -e"
        in output
    )
    assert " http_port=8080" in output


def test_a_password_in_a_refused_url_is_not_shown(refused: dict[str, str]) -> None:
    assert "replicas=0: must be" in refused["url"]
    assert "redis_url=http://***@192.0.2.20: must be redis://" in refused["url"]
    assert "hidden" not in refused["all"]


def test_a_number_of_cluster_nodes_that_makes_no_pairs_is_refused(refused: dict[str, str]) -> None:
    output = refused["pairs"]
    assert "redis_replicas=7: must be" in output
    assert "an even number from 6 to 64 (each primary has one replica), or 3 (primaries without replicas)" in output
    assert "with redis_topology=cluster" in output
    assert "This works: -e redis_topology=cluster -e redis_replicas=6" in output


@pytest.mark.parametrize("password", PASSWORDS)
def test_a_password_of_several_words_or_none_is_refused_and_not_shown(refused: dict[str, str], password: str) -> None:
    assert "redis_password=***: must be one word of visible characters" in refused[password]
    assert "hidden" not in refused["all"]


def test_certificates_are_read_without_a_warning(refused: dict[str, str]) -> None:
    assert "replicas=0: must be" in refused["certificates"]
    assert "edge_certificates=" not in refused["certificates"]
    assert "WARNING" not in refused["all"]


def test_a_wildcard_is_no_address(refused: dict[str, str]) -> None:
    assert "must be names without wildcards, since the first one is in the address" in refused["wildcard"]


def test_files_are_needed_where_they_are_read(refused: dict[str, str], tmp_path: Path) -> None:
    files = {"edge_certificates", "backup_ssh_key", "backup_known_hosts"}
    assert set(re.findall(r"(\w+)=\S*: must", refused["away"])) == {"app_threads", *files}
    said = refused_hosts(tmp_path, {"away": AWAY}, "playbooks/status.yml")["away"]
    assert set(re.findall(r"(\w+)=\S*: must", said)) == {"app_threads"}, said


def test_a_name_of_other_tools_is_refused_with_ours() -> None:
    output = deploy("-e", "app_replicas=3", "-e", "port=80")
    assert "app_replicas (use replicas)" in output
    assert "port (use http_port)" in output


def test_what_an_inventory_has_for_others_is_neither_refused_nor_used(tmp_path: Path) -> None:
    others = {"registry": "registry.example", "release": "bookworm", "level": 3}
    host = {"ansible_connection": "local", "app_threads": 0} | others
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": {"one": host}}}))
    output = deploy("-i", str(tmp_path / "hosts.yml"), playbook="playbooks/rollback.yml")
    assert "WARNING: nothing reads registry of the inventory. Did you mean image_registry?" in output
    assert "WARNING: ./counter rollback ignores release of the inventory, since such options count only after" in output
    assert set(re.findall(r"(\w+)=\S*: must be", output)) == {"app_threads"}


def test_a_name_that_yaml_makes_a_truth_value_is_refused_with_its_quotes() -> None:
    output = deploy("-e", "{on: true}", playbook="playbooks/maintenance.yml")
    assert 'True (use "on" in quotes: YAML reads a bare on as true)' in output


def test_an_option_of_another_verb_is_refused() -> None:
    output = deploy("-e", "since=10m", "-e", "purge=false", "-e", "redis_move=false", "-e", "hook_timeout=60")
    assert "Nothing was changed, since ./counter deploy would ignore this" in output
    assert "since: is an option of ./counter logs" in output
    assert "purge: is an option of ./counter destroy" in output
    assert "redis_move" not in output.partition("would ignore this")[2]
    assert "hook_timeout" not in output.partition("would ignore this")[2]
    output = deploy("-e", "replicas=3", playbook="playbooks/certificates.yml")
    assert "replicas: is an option of ./counter deploy and ./counter restore and ./counter rollback and" in output


def test_a_host_that_is_not_in_the_inventory_is_refused() -> None:
    output = deploy("-e", "host=away", playbook="playbooks/node.yml")
    works = "This works: -e host=localhost -e state=drained"
    assert f"host=away: must be a host of the inventory: localhost. {works}" in output
    assert (
        f"state=: must be drained (nothing of the project runs on the host) or active (it takes tasks again). {works}"
        in output
    )


def test_an_option_of_another_verb_in_the_inventory_is_somebody_elses(refused: dict[str, str]) -> None:
    assert "replicas=0" in refused["another"]
    assert "release" not in refused["another"]


@pytest.mark.parametrize(
    ("playbook", "ignored"),
    [pytest.param("scale.yml", True, marks=pytest.mark.slow), ("playbooks/backup.yml", True), ("deploy.yml", False)],
)
def test_a_secret_that_a_verb_ignores_is_warned_about_if_it_was_typed(
    tmp_path: Path, playbook: str, *, ignored: bool
) -> None:
    """Not one of the inventory, which serves all verbs, and not an empty one, which sets nothing."""
    groups = {"managers": {"hosts": {"first": {"ansible_connection": "local", "redis_password": "another-word"}}}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": groups}}))
    secrets = {"backup_password": "hidden-word", "backup_environment": {"NAME": "hidden-word"}, "redis_url": ""}
    wrong = {"app_threads": 0}
    output = deploy("-i", str(tmp_path / "hosts.yml"), "-e", json.dumps(secrets | wrong), playbook=playbook)
    verb = Path(playbook).stem
    said = f"WARNING: ./counter {verb} ignores backup_environment, backup_password after -e: only ./counter deploy and"
    assert (said in output, "WARNING: ./counter" in output) == (ignored, ignored), output
    assert "hidden-word" not in output


def test_a_variable_of_a_single_role_has_the_type_that_the_role_needs() -> None:
    output = deploy("-e", "redis_timeout=soon", "-e", "swarm_join_timeout={{ 60 }}", "-e", "smoke_timeout=60")
    assert "redis_timeout=soon: must be a whole number. docs/settings.md has its default" in output
    assert "swarm_join_timeout" not in output
    assert "smoke_timeout" not in output


def test_a_variable_of_a_single_role_is_checked_on_the_host_that_has_it(refused: dict[str, str]) -> None:
    said = refused["types"]
    assert "redis_timeout=soon: must be a whole number" in said
    assert "smoke_timeout" not in said
    assert "swarm_node_labels=ssd: must be a mapping of names to values. docs/settings.md has its default" in said
    assert "images_registry_password=***: must be text" in said
    assert "right" not in refused
    assert "hidden" not in refused["all"]


def test_a_tag_is_refused() -> None:
    done = run("ansible-playbook", "status.yml", "--tags", "app")
    assert done.returncode != 0
    assert "--tags=app: no stage has such a tag, so nothing would be done" in done.stdout


def test_a_limit_is_refused_where_it_would_leave_a_part_of_the_stack(tmp_path: Path) -> None:
    groups = {"managers": "one", "workers": "two", "loadgen": "three"}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({name: {"hosts": {host: {}}} for name, host in groups.items()}))
    output = deploy("-i", str(tmp_path / "hosts.yml"), "--limit", "one")
    assert "--limit=one leaves out two, but ./counter deploy must reach all hosts of the stack; nothing" in output
    assert "Leave --limit out." in deploy("-i", str(tmp_path / "hosts.yml"), "--limit", "two")


def test_hosts_that_cannot_form_a_stack_are_refused(tmp_path: Path) -> None:
    local = {"ansible_connection": "local", "app_cpus": 4096, "redis_memory": "9999G"}
    # The kernel tells its programs the name of the 32-bit architecture.
    interpreter(tmp_path, "other", "linux32 /usr/bin/python3")
    groups = {
        "managers": {"one": local | {"swarm_advertise_address": "127.0.0.1"}},
        "workers": {
            "two": local | {"swarm_advertise_address": "2001:db8::2"},
            "three": local,
            "four": local,
            "other": local | {"ansible_python_interpreter": str(tmp_path / "other.python")},
        },
    }
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({name: {"hosts": hosts} for name, hosts in groups.items()}))
    output = deploy("-i", str(tmp_path / "hosts.yml"))
    assert re.search(r"has the architecture \w+, but one, which builds the images, has \w+", output)
    assert "has no address that the other hosts reach (127.0.0.1); set swarm_advertise_address for it" in output
    assert "has swarm_advertise_address=2001:db8::2, but the nodes of a stack need IPv4 addresses" in output
    assert re.search(r"has the same address as another host of the inventory, \S+; list each", output)
    assert re.search(r"one: has \d+ cores, so no replica can start there with app_cpus=4096.0; ", output)
    assert re.search(r"has (\d+) MB of memory, and no host has more than \1, so .*: redis_memory=9999G; ", output)


def test_a_group_with_a_typing_error_is_refused(tmp_path: Path) -> None:
    groups = {"managers": ["one"], "worker": ["two"], "manager": ["one"]}
    inventory = {name: {"hosts": dict.fromkeys(hosts)} for name, hosts in groups.items()}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
    output = deploy("-i", str(tmp_path / "hosts.yml"))
    assert "The hosts two would be ignored, since their group worker is not managers, workers or loadgen." in output
    assert "Did you mean workers?" in output


WRONG_LEVELS = """\
edge_tls: acme
app_environment: {WORDS: two words}
all:
  replicas: 6
  vars: {edge_domains: [counter.example.com]}
  children:
    backup: {hosts: {two: {}}}
    managers:
      http_port: 8080
      redis_password: !vault secret
      hosts:
        one: {ansible_connection: local}
"""


def test_a_setting_that_ansible_ignores_is_refused_with_the_lines_that_are_right(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(WRONG_LEVELS.replace("!vault secret", "hidden-word"))
    output = deploy("-i", str(tmp_path / "hosts.yml"))
    assert "hidden-word" not in output
    assert "Nothing was changed, since Ansible ignores these settings of the inventory" in output
    assert re.search(r"hosts.yml has edge_tls. This works:\s+all:\s+vars:\s+edge_tls: acme\s", output)
    (tmp_path / "hosts.yml").write_text(WRONG_LEVELS)
    names = set(DEFAULTS) - {"backup"}
    found = {each["name"]: each["lines"] for each in misplaced([str(tmp_path / "hosts.yml")], names, [])}
    assert set(found) == {"edge_tls", "app_environment", "replicas", "http_port", "redis_password"}
    assert found["app_environment"] == "all:\n  vars:\n    app_environment:\n      WORDS: two words"
    for example in ("hosts.example.yml", "cluster.example.yml"):
        assert misplaced([str(ROOT / "inventory" / example)], names, []) == []


def test_a_host_has_one_role(tmp_path: Path) -> None:
    groups = {"managers": ["one"], "workers": ["one", "two"]}
    inventory = {name: {"hosts": dict.fromkeys(hosts)} for name, hosts in groups.items()}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
    output = deploy("-i", str(tmp_path / "hosts.yml"))
    assert "Nothing was changed. one: is in managers and in workers. A manager runs replicas too" in output


def test_a_setting_of_the_stack_is_the_same_on_all_its_hosts(tmp_path: Path) -> None:
    own = {"app_memory": "256M", "redis_password": "hers", "docker_package_source": "upstream"}
    groups = {
        "managers": {"one": {}, "two": {"app_memory": "128M"}, "three": own},
        "loadgen": {"four": {"app_memory": "512M"}},
    }
    inventory = {name: {"hosts": hosts, "vars": {"ansible_connection": "local"}} for name, hosts in groups.items()}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
    output = deploy("-i", str(tmp_path / "hosts.yml"))
    assert "since three and one have different values of app_memory, redis_password. All hosts" in output
    assert "hers" not in output
    assert "since two and" not in output
    assert "since four and" not in output


def test_a_setting_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(
        yaml.safe_dump({"managers": {"hosts": {"one": None, "two": {"app_memory": "{{ my_memory }}"}}}})
    )
    output = deploy("-i", str(tmp_path / "hosts.yml"))
    assert re.findall(r"fatal: \[(\w+)\]", output) == ["two", "two"]
    assert "Nothing was changed, since a setting cannot be read: " in output
    assert "'my_memory' is undefined" in output


# `releases` begins as `logs` does (`test_preflight_comes_first`).
@pytest.mark.parametrize(
    "verb", ["status", "playbooks/logs", pytest.param("playbooks/releases", marks=pytest.mark.slow)]
)
def test_a_manager_that_cannot_be_reached_is_named(tmp_path: Path, verb: str) -> None:
    host = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_user": "root"}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": {"one": host}}}))
    done = run("ansible-playbook", f"{verb}.yml", "-i", tmp_path / "hosts.yml")
    said = re.sub(r"\s+", " ", done.stdout)
    assert done.returncode != 0
    # `ssh` may end before Ansible has written the module to it.
    said_so = r"one \(127.0.0.1\) cannot be reached: .*(Connection refused|Broken pipe)\. Check whether"
    assert re.search(said_so, said), said
    assert "Check whether this works: ssh -p 1 root@127.0.0.1 true" in said


def test_what_the_inventory_says_is_not_refused_where_a_restore_takes_it_from_the_backup(
    refused: dict[str, str], tmp_path: Path
) -> None:
    hosts: dict[str, dict[str, Any]] = {
        "lost": LOST,
        "both": {"own_backup": "latest", "own_confirm": "counter,second"},
        "another": {"own_backup": "latest", "own_confirm": "second,counter"},
    }
    assert "edge_certificates=" in refused["lost"]
    said = refused_hosts(tmp_path, hosts, "playbooks/restore.yml", ["backup", "confirm"])
    assert "edge_certificates=" not in said.get("lost", "")
    assert "confirm=counter,second: must" not in said["all"]
    assert "confirm=second,counter: must be the stack's name, counter" in said["all"]


def test_files_of_imports(tmp_path: Path) -> None:
    here = tmp_path / "here.csv"
    here.touch()
    hosts: dict[str, dict[str, Any]] = {
        "present": {"own_file": str(here)},
        "other": {"own_file": str(here), "own_mode": "add", "own_confirm": "other"},
        "gone": {"own_file": "gone.csv", "own_mode": "add"},
    }
    said = refused_hosts(tmp_path, hosts, "playbooks/import.yml", ["file", "mode", "confirm"])
    assert "file=: must be a name that ends in .csv or .json" in said["first"]
    assert "mode=: must be add (to the present values), max" in said["present"]
    assert "confirm=other: must be the stack's name" in said["other"]
    assert "file=gone.csv: must be a file on this machine" in said["gone"]
    assert "This works: ./counter export -e file=gone.csv" in said["gone"]


def test_files_of_exports(tmp_path: Path) -> None:
    (tmp_path / "here.csv").touch()
    output = deploy("-e", f"file={tmp_path}/here.csv", playbook="playbooks/export.yml")
    assert "must be a new file, since an export overwrites nothing" in output
    works = re.findall(r"This works: -e file=(\S+)", output)
    assert works
    assert not any(Path(name).exists() for name in works)
    output = deploy("-e", "file=gone.csv", "-e", "mode=add", playbook="playbooks/export.yml")
    assert "mode: is an option of ./counter import" in output


def test_counters_to_remove(tmp_path: Path) -> None:
    hosts: dict[str, dict[str, Any]] = {
        "pattern": {"own_counter": "spam-[0-9]"},
        "other": {"own_counter": "spam-*", "own_confirm": "other", "own_file": str(tmp_path / "new.csv")},
        "right": {"own_counter": "*.spam-?", "own_confirm": "counter"},
    }
    said = refused_hosts(tmp_path, hosts, "playbooks/remove.yml", ["counter", "file", "confirm"])
    assert "counter=: must be the name of a counter" in said["first"]
    assert "counter=spam-[0-9]: must be the name of a counter" in said["pattern"]
    assert "This works: -e counter=demo" in said["pattern"]
    assert "confirm=other: must be the stack's name" in said["other"]
    assert "right" not in said


def test_an_even_number_of_managers_is_refused(tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.yml"
    hosts = {name: {"ansible_connection": "local"} for name in ("a", "b")}
    inventory.write_text(yaml.safe_dump({"all": {"children": {"managers": {"hosts": hosts}}}}))
    assert "managers=2 hosts: must be 1, 3, 5 or 7" in deploy("-i", str(inventory))


def test_a_host_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    with closed_port() as port:
        inventory = tmp_path / "hosts.yml"
        host = {"ansible_host": "127.0.0.1", "ansible_port": port, "ansible_user": "me"}
        inventory.write_text(yaml.safe_dump({"all": {"children": {"managers": {"hosts": {"far": host}}}}}))
        output = deploy("-i", str(inventory))
    assert "far (127.0.0.1) cannot be reached" in output
    assert f"ssh -p {port} me@127.0.0.1 true" in output


@pytest.mark.parametrize(("playbook", "checked"), [("deploy.yml", False), ("bench.yml", True)])
def test_only_a_benchmark_needs_the_load_generators(tmp_path: Path, playbook: str, *, checked: bool) -> None:
    with closed_port() as port:
        far = {"ansible_host": "127.0.0.1", "ansible_port": port}
        here = {"ansible_connection": "local", "preflight_min_disk_gb": 999_999}
        groups = {"managers": {"hosts": {"here": here}}, "loadgen": {"hosts": {"far": far}}}
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump(groups))
        output = deploy("-i", str(tmp_path / "hosts.yml"), playbook=playbook)
    assert ("far (127.0.0.1) cannot be reached" in output) == checked, output
    assert ("here: has " in output) != checked, output


def test_a_host_without_python_is_not_one_without_root(tmp_path: Path) -> None:
    host = {"ansible_connection": "local", "ansible_python_interpreter": "/nonexistent/python3"}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": {"bare": host}}}))
    output = deploy("-i", str(tmp_path / "hosts.yml"))
    assert "Ansible cannot run its modules on bare: " in output, output
    assert "/nonexistent/python3" in output
    assert "apt-get install python3" in output
    assert "become" not in output


@pytest.mark.parametrize(
    "playbook", ["deploy.yml", "playbooks/logs.yml", pytest.param("playbooks/releases.yml", marks=pytest.mark.slow)]
)
def test_a_host_on_which_the_user_cannot_become_root_is_named(tmp_path: Path, playbook: str) -> None:
    """Sudo is missing there, or asks for a password."""
    (tmp_path / "sudo").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "sudo").chmod(0o755)
    good = {"ansible_connection": "local"}
    bad = good | {"ansible_become_exe": str(tmp_path / "sudo"), "ansible_become_user": "nobody"}
    groups = {"managers": {"hosts": {"bad": bad}}, "workers": {"hosts": {"good": good}}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(groups))
    done = run("ansible-playbook", playbook, "-i", tmp_path / "hosts.yml", DOCKER_HOST="tcp://127.0.0.1:1")
    said = re.sub(r"\s+", " ", done.stdout)
    assert done.returncode != 0
    assert "waiting for become success" in said
    assert "repeat the command with --ask-become-pass" in said, said


# What Ansible's fact of the time is made of.
CLOCK = """
import time

right = time.time
time.time = lambda: right() + {offset}
"""


def test_clocks_that_differ_too_much_are_refused(tmp_path: Path) -> None:
    """The clocks of two hosts differ by 80 s, although each is within 60 s of this machine's."""
    hosts = {}
    for name, offset in (("fast", 40), ("right", 0), ("slow", -40)):
        (tmp_path / f"clock-{name}").mkdir()
        (tmp_path / f"clock-{name}/sitecustomize.py").write_text(CLOCK.format(offset=offset))
        interpreter = tmp_path / name
        interpreter.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path}/clock-{name} exec {sys.executable} "$@"\n')
        interpreter.chmod(0o755)
        hosts[name] = {
            "ansible_connection": "local",
            "ansible_python_interpreter": str(interpreter),
            "swarm_advertise_address": f"192.0.2.{100 + offset}",
        }
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"all": {"children": {"managers": {"hosts": hosts}}}}))
    output = deploy("-i", str(inventory))
    clocks = r"fast (\S+) s, right \S+ s, slow (\S+) s"
    found = re.search(rf"The clocks differ by up to (\d+) s, but the limit is 60 s: {clocks}", output)
    assert found, output
    differ, fast, slow = map(int, found.groups())
    # The hosts are asked one after the other.
    assert 60 < differ < 100
    assert fast - slow == differ
    assert "timedatectl set-ntp true" in output


LISTENER = """
import pathlib, socket, sys
pathlib.Path("/proc/self/comm").write_text(sys.argv[1])
server = socket.create_server(("", 0))
print(server.getsockname()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def listener(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """Start a process with this name that listens on a port; return port and process id."""
    command = [sys.executable, "-c", LISTENER, getattr(request, "param", "another")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield int(process.stdout.readline()), process.pid
        process.kill()


as_root = pytest.mark.skipif(os.getuid() != 0, reason="looks at this machine as root")


@as_root
def test_a_port_that_a_process_holds_is_refused_with_its_name(listener: tuple[int, int]) -> None:
    port, pid = listener
    output = deploy("-e", f"http_port={port}")
    assert f"http_port={port} is taken on localhost by the process another (pid {pid})" in output
    assert "-e http_port=8080" in output


@as_root
@pytest.mark.parametrize("listener", ["dockerd"], indirect=True)
def test_a_port_of_the_mesh_is_refused_with_the_service_that_publishes_it(
    listener: tuple[int, int], tmp_path: Path
) -> None:
    port, _ = listener
    # The first two are its own; version 1.0.0 published the app.
    services = ("counter_edge", "counter_app", "second_edge")
    listed = "".join(f"echo '{name} *:{port}->8080/tcp'\n" for name in services)
    (tmp_path / "docker").write_text(f"#!/bin/sh\n{listed}")
    (tmp_path / "docker").chmod(0o755)
    with serve(tmp_path, "host", engine()):
        host = {"ansible_connection": "local", "ansible_python_interpreter": str(tmp_path / "host.python")}
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": {"host": host}}}))
        options = ["-i", str(tmp_path / "hosts.yml"), "-e", f"http_port={port}"]
        output = deploy(*options, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert f"http_port={port} is taken on host by the service second_edge. This uses another port" in output
    assert "Or remove it: docker service rm second_edge" in output


@as_root
@pytest.mark.parametrize("bundle", ["/etc/ssl/certs", "/no/such.crt"])
def test_certificates_that_builds_cannot_read_are_refused(bundle: str) -> None:
    output = deploy("-e", f"build_ca_bundle={bundle}")
    assert f"build_ca_bundle={bundle}: must be a file on localhost, which builds the images" in output


@as_root
@pytest.mark.skipif(
    Path("/proc/net/ip_vs").exists() or bool(shutil.which("modprobe") and not os.system("modprobe -n -q ip_vs")),  # noqa: S605
    reason="this kernel has ip_vs",
)
@pytest.mark.parametrize("check", [[], ["--check"]])
def test_the_mesh_is_refused_where_the_kernel_has_no_ip_vs(check: list[str]) -> None:
    output = deploy("-e", "edge=mesh", *check)
    assert "edge=mesh: Swarm's own load balancer is IPVS" in output
    assert "has no ip_vs" in output
    assert "This works: -e edge=proxy" in output


@as_root
def test_an_engine_that_cannot_join_a_swarm_is_refused(tmp_path: Path) -> None:
    """A deployment that switches live-restore off is not refused.

    Another stack has a registry on the first manager.
    """
    answers = engine()
    answers["/info"]["LiveRestoreEnabled"] = True
    port = {"IP": "0.0.0.0", "PrivatePort": 5000, "PublicPort": 5000, "Type": "tcp"}  # noqa: S104
    answers["/containers/json"] = [{"Names": ["/counter-registry"], "Labels": {}, "Ports": [port, port | {"IP": "::"}]}]
    variables: dict[str, dict[str, Any]] = {
        "hardened": {},
        "mended": {"docker_host_daemon_settings": {"live-restore": False}},
    }
    groups: dict[str, Any] = {"managers": {"hosts": {}}, "workers": {"hosts": {}}}
    with ExitStack() as stack:
        for number, (name, own) in enumerate(variables.items(), 11):
            stack.enter_context(serve(tmp_path, name, answers))
            groups["workers" if own else "managers"]["hosts"][name] = own | {
                "ansible_connection": "local",
                "ansible_python_interpreter": str(tmp_path / f"{name}.python"),
                "swarm_advertise_address": f"192.0.2.{number}",
            }
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": groups}}))
        given = "http_port=65123 image_distribution=registry image_registry=192.0.2.11:5001"
        output = deploy("-i", str(tmp_path / "hosts.yml"), "-e", given, ANSIBLE_ANY_ERRORS_FATAL="false")
    assert re.findall(r"fatal: \[([a-z-]+)\]", output) == ["hardened"], output
    assert "hardened: runs the project's registry on port 5000, where other stacks may use it. This uses it" in output
    assert "too: -e image_registry=192.0.2.11:5000. " in output
    assert "; has an engine with live-restore, which cannot join a swarm; in /etc/docker/daemon.json" in output


IP = """#!/bin/sh
# Stands for a kernel that has ESP.
"""


@as_root
@pytest.mark.parametrize("asked", [True, False])
def test_the_encryption_of_networks_that_are_there_is_not_changed(tmp_path: Path, asked: bool) -> None:  # noqa: FBT001
    def host(*networks: tuple[str, str, bool], manager: bool = True) -> dict[str, Any]:
        own = [
            {"Name": name, "Labels": {"com.docker.stack.namespace": stack}, "Options": {"encrypted": ""} if yes else {}}
            for stack, name, yes in networks
        ]
        bridge = {"Name": "bridge", "Labels": None, "Options": None}
        return engine("one", manager=manager) | {"/networks": [*own, bridge]}

    def deployed(*, encrypted: bool) -> list[tuple[str, str, bool]]:
        return [("counter", "counter_front", encrypted), ("counter-redis", "counter-redis_store", encrypted)]

    other = ("counterpart", "counterpart_front", True)
    engines = {
        "readable": host(*deployed(encrypted=False)),
        "encrypted": host(*deployed(encrypted=True)),
        "third": None if asked else host(*deployed(encrypted=False), other),
        "worker": host(*deployed(encrypted=True), manager=False),
        # Its engine manages a swarm of its own.
        "generator": host(*deployed(encrypted=not asked)),
    }
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/ip").write_text(IP)
    (tmp_path / "bin/ip").chmod(0o755)
    groups: dict[str, Any] = {"managers": {"hosts": {}}, "workers": {"hosts": {}}, "loadgen": {"hosts": {}}}
    group_of = {"worker": "workers", "generator": "loadgen"}
    wanted, unwanted = str(asked).lower(), str(not asked).lower()
    with ExitStack() as stack:
        for number, (name, answers) in enumerate(engines.items(), 11):
            if answers:
                stack.enter_context(serve(tmp_path, name, answers))
            else:
                interpreter(tmp_path, name, sys.executable)
            groups[group_of.get(name, "managers")]["hosts"][name] = {
                "ansible_connection": "local",
                "ansible_python_interpreter": str(tmp_path / f"{name}.python"),
                # They are one machine.
                "swarm_advertise_address": f"192.0.2.{number}",
            }
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": groups}}, sort_keys=False))
        output = deploy(
            *("-i", str(tmp_path / "hosts.yml"), "-e", "http_port=65123", "-e", f"overlay_encrypted={wanted}"),
            ANSIBLE_ANY_ERRORS_FATAL="false",
            PATH=f"{tmp_path / 'bin'}:{project_environment()['PATH']}",
        )
    assert set(re.findall(r"fatal: \[([a-z-]+)\]", output)) == {"readable" if asked else "encrypted"}, output
    exist = f"counter-redis_store and counter_front of counter exist {'without' if asked else 'with'} encryption"
    assert f"cannot use overlay_encrypted={wanted}, since {exist}" in output
    assert f"Keep overlay_encrypted={unwanted}. Or" in output
    assert f"./counter destroy && ./counter deploy -e http_port=65123 -e overlay_encrypted={wanted}" in output
