"""When a problem begins and ends, and what each one is."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from apprise import Apprise
from cryptography import x509
from support.ansible import ROOT
from support.https import SITE, authority, certificate

from keeper.answers import Answer, Seen
from keeper.plan import Plan
from keeper.problems import found, unknown
from keeper.watch import GOOD_LOOKS, LASTS_SECONDS, LOOK_SECONDS, Watch

Told = list[tuple[str, list[str]]]
PLAN = Plan("counter", replicas=2, edges=1)
READY, WELL = {("a", 1): Answer(200), ("b", 1): Answer(200)}, {("c", 1): Answer(200)}
NODE = {"name": "redis-1:6379", "role": "primary", "reachable": True}
BAD = {"edges": "no edge answers; type this"}


def watch(told: Told, **before: Any) -> Watch:
    return Watch(lambda event, lines: told.append((event, lines)), before)


def test_a_problem_that_lasts_is_told_once_and_so_is_its_end() -> None:
    told: Told = []
    watched = watch(told)
    looks = int(LASTS_SECONDS / LOOK_SECONDS)
    for number in range(3 * looks):
        watched.note(BAD, (), 1000 + number * LOOK_SECONDS)
        assert len(told) == (number >= looks)
    assert told == [("begins", ["no edge answers; type this (since 1970-01-01 00:16:40 UTC)"])]
    for _ in range(3 * GOOD_LOOKS):
        watched.note({}, (), 1000 + 3 * 3600 + 120)
    assert told[1:] == [("ends", ["no edge answers (for 3 h 2 min)"])]
    assert watched.told == {}


def test_a_short_problem_is_not_told_and_one_that_comes_and_goes_once() -> None:
    told: Told = []
    watched = watch(told)
    for number in range(4):
        watched.note(BAD, (), number * LOOK_SECONDS)
    for number in range(4, 20):
        watched.note({}, (), number * LOOK_SECONDS)
    assert told == []
    for number in range(20, 60):
        watched.note(BAD if number % 2 else {}, (), number * LOOK_SECONDS)
    assert [event for event, _ in told] == ["begins"]


def test_a_problem_of_which_a_look_says_nothing_neither_begins_nor_ends() -> None:
    told: Told = []
    watched = watch(told, **{"redis:a": {"began": 0, "said": "no Redis"}})
    for number in range(20):
        watched.note({}, ("redis:",), number * LOOK_SECONDS)
    assert told == []
    for number in range(20, 22):
        watched.note({}, (), number * LOOK_SECONDS)
    assert told == [("ends", ["no Redis (for 5 min 15 s)"])]


def ago(**span: float) -> str:
    return f"{datetime.now(UTC) - timedelta(**span):%Y-%m-%dT%H:%M:%SZ}"


def of(pem: str) -> list[x509.Certificate]:
    return [x509.load_pem_x509_certificate(pem.encode())]


SENTINEL = {"has_sentinels": True}
BACKUPS = {
    "backup_repository": "/srv",
    "backup_max_age": 30,
    "backup_log_interval": 60,
    "backup_copy_repository": "/copies",
}
COPIES = hashlib.sha256(b"/copies").hexdigest()[:12]
GOOD_NOTE = {
    "id": "20261126T030000Z",
    "time": ago(hours=1),
    "log_until": ago(minutes=1),
    "copied": ago(hours=1),
    "copy_repository": COPIES,
}


def seen(
    replicas: Any = READY, edges: Any = WELL, node: Any = NODE, note: Any = None, certificates: Any = None
) -> Seen:
    return Seen(replicas, edges, {"nodes": [node], "backup": note}, certificates or {})


@pytest.mark.parametrize(
    ("name", "plan", "bad", "said"),
    [
        ("replicas", {}, seen(replicas={("a", 1): Answer(200), ("b", 1): Answer()}), "only 1 of 2 replicas"),
        (
            "counting",
            {},
            seen(replicas=READY | {("a", 1): Answer(503, {"code": "store-unavailable", "detail": "No."})}),
            "1 of 2 replicas accept no increments now (No)",
        ),
        (
            "redis:redis-1:6379",
            {},
            seen(node=NODE | {"reachable": False}),
            "docker service update --force counter-redis_redis-1",
        ),
        (
            "promotable:redis-1:6379",
            SENTINEL,
            seen(node=NODE | {"promotable": False}),
            "./counter logs -e service=redis-1",
        ),
        ("primary", SENTINEL, seen(node=NODE | {"role": "replica"}), "./counter promote"),
        ("slots", {"slots": 16384}, seen(node=NODE | {"slots": 16000}), "384 of 16384 slots"),
        (
            "redis-certificate",
            {"certificate_ends": "20260101000000Z"},
            seen(),
            "expires on 2026-01-01: ./counter deploy",
        ),
        ("edges", {"edges": 2}, seen(), "only 1 of 2 edges answer"),
        (
            "edge-replicas",
            {},
            seen(edges={("c", 1): Answer(503, {"code": "no-replica"})}),
            "1 of 1 edges reach no replica",
        ),
        (
            "certificate:a.example",
            {"edge_tls": "own"},
            seen(certificates={"a.example": of(certificate(SITE, days=(-80, 6)))}),
            "replace its file",
        ),
        (
            "certificate:a.example",
            {"edge_tls": "acme"},
            seen(certificates={"a.example": of(certificate(SITE, days=(-80, 10)))}),
            "should have been renewed",
        ),
        (
            "certificate:a.example",
            {"edge_tls": "acme"},
            seen(certificates={"a.example": of(authority())}),
            "clients refuse the placeholder",
        ),
        ("backup-age", BACKUPS, seen(note=None), "there is no proved backup"),
        ("backup-age", BACKUPS, seen(note=GOOD_NOTE | {"time": ago(hours=31)}), "older than backup_max_age=30 hours"),
        ("backup-less", BACKUPS, seen(note=GOOD_NOTE | {"less_than": "one"}), "-e confirm=counter"),
        ("backup-uncompared", BACKUPS, seen(note=GOOD_NOTE | {"uncompared": "one"}), "cannot be read"),
        ("backup-room", BACKUPS, seen(note=GOOD_NOTE | {"not_freed": "locked"}), "were not removed: locked"),
        (
            "backup-failed",
            BACKUPS,
            seen(note=GOOD_NOTE | {"failed": ago(minutes=5), "failure": "no room"}),
            "failed: no room",
        ),
        ("backup-copy", BACKUPS, seen(note=GOOD_NOTE | {"copy_failure": "no room"}), "(no room); this copies"),
        ("backup-log", BACKUPS, seen(note=GOOD_NOTE | {"log_until": ago(minutes=11)}), "have not reached /srv"),
    ],
)
def test_each_kind_of_problem(name: str, plan: dict[str, Any], bad: Seen, said: str) -> None:
    problems = found(made(**plan), bad, "")
    assert said in problems.pop(name)
    # Without a backup, nothing was copied or logged either.
    assert set(problems) <= {"backup-copy"} if name == "backup-age" else not problems


def made(**given: Any) -> Plan:
    plan: dict[str, Any] = {"stack": "counter", "replicas": 2, "edges": 1}
    return Plan(**plan | given)


@pytest.mark.parametrize("plan", [{}, SENTINEL, BACKUPS, {"edge_tls": "own"}, {"edge_tls": "acme"}])
def test_all_is_well(plan: dict[str, Any]) -> None:
    certificates = {"a.example": of(certificate(SITE, days=(-1, 89)))}
    assert found(made(**plan), seen(note=GOOD_NOTE, certificates=certificates), "") == {}
    assert unknown(seen(note=GOOD_NOTE, certificates=certificates)) == ()


def test_neither_a_maintenance_nor_a_replica_that_drains_is_a_problem() -> None:
    drains = READY | {("d", 1): Answer(503, {"code": "draining"})}
    assert found(PLAN, seen(replicas=drains, edges={("c", 1): Answer(503, {"code": "maintenance"})}), "") == {}


def test_a_failure_of_copies_or_of_the_change_log_is_told_once() -> None:
    for kind in ("copy", "change log"):
        note = GOOD_NOTE | {"failed": ago(minutes=5), "failure": f"{kind}: no room"}
        assert found(made(**BACKUPS), seen(note=note), "") == {}


def test_a_renewal_that_fails_is_a_problem() -> None:
    assert "(refused); it is tried again" in found(PLAN, seen(), "refused")["renewal"]


def test_what_depends_on_an_answer_is_unknown_without_it() -> None:
    nothing = Seen({("a", 1): Answer()}, {("c", 1): Answer()})
    assert set(found(made(**BACKUPS, slots=16384, has_sentinels=True), nothing, "")) == {"replicas", "edges"}
    for name in ("counting", "redis:redis-1:6379", "promotable:x", "primary", "slots", "backup-age", "certificate:a"):
        assert name.startswith(unknown(nothing))
    # Redis has the note of the newest backup.
    gone = seen(node=NODE | {"reachable": False})
    assert unknown(gone) == ("backup-",)
    assert set(found(made(**BACKUPS), gone, "")) == {"redis:redis-1:6379"}


def test_the_documented_receivers_are_known() -> None:
    page = (ROOT / "docs/monitoring.md").read_text(encoding="utf-8")
    documented = re.findall(r"^ +- (\w+://\S+)$", page, re.MULTILINE)
    assert len(documented) == 2
    for url in [*documented, "json://hooks.example/counter"]:
        assert Apprise.instantiate(url), url
