"""What is wrong, by names that stay the same, as ``./counter status`` says it (roles/status/templates)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

from cryptography import x509

from keeper.answers import Seen
from keeper.certificate import part_left
from keeper.plan import Plan

LATE = timedelta(days=7)
"""A certificate of your own is a problem when it ends within this time."""
LATE_OF_REDIS = timedelta(days=60)
LOG_SECONDS = 600
"""Changes may stay out of the repository for so long, or for three intervals if that is longer."""
OTHERWISE_TOLD = ("copy: ", "change log: ")
"""How reasons of backups begin that are problems of their own."""

Problem = tuple[str, str]


def found(plan: Plan, seen: Seen, renewal_failure: str) -> dict[str, str]:
    """Return what is wrong: a name of letters, digits and punctuation -> a sentence, with what to type."""
    return dict([*_app(plan, seen), *_redis(plan, seen.store), *_edges(plan, seen), *_certificates(plan, seen)]) | dict(
        [*_backups(plan, seen.store), *_renewal(plan, renewal_failure)]
    )


def unknown(seen: Seen) -> tuple[str, ...]:
    """Return how the names of the problems begin of which this look says nothing: they neither began nor ended."""
    kinds: list[str] = []
    if not any(answer.status for answer in seen.replicas.values()):
        kinds += ["counting", "edge-replicas"]
    if not seen.store:
        kinds += ["redis:", "promotable:", "primary", "slots"]
    if _are_unknown(seen.store):
        kinds += ["backup-"]
    if not any(answer.status for answer in seen.edges.values()):
        kinds += ["certificate:", "edge-replicas"]
    return tuple(kinds)


def _are_unknown(store: Mapping[str, Any]) -> bool:
    """Tell whether it is unknown what is noted of backups, since Redis has the note."""
    return not store or not (store.get("backup") or all(node.get("reachable") for node in store.get("nodes", [])))


def _app(plan: Plan, seen: Seen) -> Iterator[Problem]:
    why = f"its log says why: ./counter logs{plan.option} -e service=app"
    answers = [answer for answer in seen.replicas.values() if answer.status]
    if not answers:
        yield "replicas", f"no replica of the app answers; {why}"
        return
    if len(answers) < plan.replicas:
        yield "replicas", f"only {len(answers)} of {plan.replicas} replicas of the app answer; {why}"
    # A replica that drains has another code.
    refusing = [answer for answer in answers if answer.document.get("code") == "store-unavailable"]
    if refusing:
        who = (
            "the app accepts" if len(refusing) == len(answers) else f"{len(refusing)} of {len(answers)} replicas accept"
        )
        said = str(refusing[0].document.get("detail", "")).rstrip(".")
        yield "counting", f"{who} no increments now ({said}); this shows what runs: ./counter status{plan.option}"


def _redis(plan: Plan, store: Mapping[str, Any]) -> Iterator[Problem]:
    nodes = store.get("nodes", [])
    for node in nodes:
        name = node["name"]
        service = name.split(":")[0]
        if not node.get("reachable"):
            again = f"docker service update --force {plan.stack}-redis_{service}"
            start = f"; if its task runs, this starts it anew: {again}" if plan.is_own else ""
            yield f"redis:{name}", f"Redis at {name} is not reachable{start}"
        elif plan.has_sentinels and not node.get("promotable", True):
            logs = f"./counter logs{plan.option} -e service={service}"
            yield f"promotable:{name}", f"the Sentinels cannot promote {name} yet; its log says why: {logs}"
    if nodes and plan.has_sentinels and "primary" not in [node.get("role") for node in nodes]:
        holds = f"this shows what each node holds: ./counter promote{plan.option}"
        yield "primary", f"no Redis node is the primary, so counting waits; {holds}"
    missing = plan.slots - sum(node.get("slots", 0) for node in nodes if node.get("reachable"))
    if nodes and missing:
        yield (
            "slots",
            f"{missing} of {plan.slots} slots have no reachable primary; their counters cannot be reached",
        )
    end = plan.certificate_ends[:8]
    if end and end < f"{datetime.now(UTC) + LATE_OF_REDIS:%Y%m%d}":
        renews = f"./counter deploy{plan.option} renews it"
        yield "redis-certificate", f"the certificate of Redis expires on {end[:4]}-{end[4:6]}-{end[6:]}: {renews}"


def _edges(plan: Plan, seen: Seen) -> Iterator[Problem]:
    answers = [answer for answer in seen.edges.values() if answer.status]
    if len(answers) < plan.edges:
        who = f"only {len(answers)} of {plan.edges} edges answer" if answers else "no edge answers"
        yield "edges", f"{who}; this shows the nodes and what runs there: ./counter status{plan.option}"
    # A maintenance has another code.
    cut_off = [answer for answer in answers if answer.document.get("code") == "no-replica"]
    if cut_off and any(answer.status == HTTPStatus.OK for answer in seen.replicas.values()):
        logs = f"./counter logs{plan.option} -e service=edge"
        yield "edge-replicas", f"{len(cut_off)} of {len(answers)} edges reach no replica of the app; {logs} shows why"


def _certificates(plan: Plan, seen: Seen) -> Iterator[Problem]:
    is_issued = plan.edge_tls == "acme"
    renews = f"./counter certificates{plan.option} renews it"
    renew = renews if is_issued else f"replace its file, and run ./counter deploy{plan.option}"
    for domain, certificates in seen.certificates.items():
        name = domain or "clients that name no domain"
        if is_issued and any(one.issuer == one.subject for one in certificates):
            none = "since the authority has issued no certificate yet"
            yield f"certificate:{domain}", f"clients refuse the placeholder that is served for {name}, {none}; {renew}"
        elif ends := [one.not_valid_after_utc for one in certificates if _is_late(plan, one)]:
            late = "should have been renewed, and ends on" if is_issued else "ends on"
            yield f"certificate:{domain}", f"the certificate for {name} {late} {min(ends):%Y-%m-%d %H:%M} UTC; {renew}"


def _is_late(plan: Plan, certificate: x509.Certificate) -> bool:
    if plan.edge_tls == "acme":
        return part_left(certificate) < plan.renewed_below / 2
    return certificate.not_valid_after_utc < datetime.now(UTC) + LATE


def _renewal(plan: Plan, failure: str) -> Iterator[Problem]:
    if failure:
        again = f"it is tried again, and this tries it too: ./counter certificates{plan.option}"
        yield "renewal", f"the certificate was not renewed ({failure}); {again}"


def _backups(plan: Plan, store: Mapping[str, Any]) -> Iterator[Problem]:
    if not plan.backup_repository or _are_unknown(store):
        return
    note: Mapping[str, Any] = store.get("backup") or {}
    make = f"./counter backup{plan.option}"
    due = _before(hours=plan.backup_max_age)
    if plan.backup_max_age and note.get("time", "") <= due:
        older = f"the newest proved backup is {note.get('id')}, older than backup_max_age={plan.backup_max_age} hours"
        missing = older if note.get("time") else "there is no proved backup"
        yield "backup-age", f"{missing}; this makes one, or says what is wrong: {make}"
    yield from _content(plan, note, make)
    # One that was proved, but has less than another, is told of above.
    failure = "" if note.get("less_than") or note.get("uncompared") else str(note.get("failure") or "")
    if failure and note.get("failed", "") > note.get("time", "") and not failure.startswith(OTHERWISE_TOLD):
        yield "backup-failed", f"the backup of {note['failed']} failed: {failure}; this makes one: {make}"
    if plan.backup_copy_repository:
        its = note.get("copy_repository") == hashlib.sha256(plan.backup_copy_repository.encode()).hexdigest()[:12]
        copied, said = note.get("copied", "") if its else "", note.get("copy_failure", "")
        if said or (plan.backup_max_age and copied <= due):
            newest = f"the newest backup with a proved copy is of {copied}" if copied else "there is no proved copy"
            where = f"{newest} in {plan.backup_copy_repository}{f' ({said})' if said else ''}"
            yield "backup-copy", f"{where}; this copies what is missing, or says what is wrong: {make}"
    until = note.get("log_until") or note.get("time", "")
    log_due = _before(seconds=max(LOG_SECONDS, 3 * plan.backup_log_interval))
    if plan.backup_log_interval and note and until < log_due:
        reason = f" ({note['log_failure']})" if note.get("log_failure") else ""
        logs = f"./counter logs{plan.option} -e service=backup"
        yield "backup-log", f"changes after {until} have not reached {plan.backup_repository}{reason}; {logs} shows why"


def _content(plan: Plan, note: Mapping[str, Any], make: str) -> Iterator[Problem]:
    """Yield what is wrong with backups that were proved."""
    if less := note.get("less_than"):
        fewer = f"counters have less than in backup {less}: if nobody lowered or removed them, Redis lost data"
        shows = f"this shows the backups: {make} -e list=true"
        yield "backup-less", f"{fewer}; {shows}; this says that the counters are right: {make} -e confirm={plan.stack}"
    if uncompared := note.get("uncompared"):
        unread = f"whether counters have less than in backup {uncompared} is unknown, since it cannot be read"
        yield "backup-uncompared", f"{unread}; this compares it again: {make}"
    if said := note.get("not_freed"):
        yield "backup-room", f"outdated backups and logs were not removed: {said}; this tries again: {make}"


def _before(**span: float) -> str:
    return f"{datetime.now(UTC) - timedelta(**span):%Y-%m-%dT%H:%M:%SZ}"
