"""What is told of a stack of real processes, each of which fails, to real receivers."""

from __future__ import annotations

import json
import re
import socket
import time
from datetime import UTC, datetime, timedelta

import pytest
from keeper_process import HURRY, taken, webhook
from stacks import Stack
from support.waiting import wait_until

BEGINS, ENDS = "counter: PROBLEM", "counter: ended"


def ago(**span: float) -> str:
    return f"{datetime.now(UTC) - timedelta(**span):%Y-%m-%dT%H:%M:%SZ}"


def test_a_replica_that_is_gone_is_told_once_to_everybody_and_so_is_its_return(stack: Stack) -> None:
    stack.up()
    stack.apps[1].kill()
    title, text = stack.told()
    assert title == BEGINS
    said = "only 1 of 2 replicas of the app answer; its log says why: ./counter logs -e service=app (since "
    assert text.startswith(said)
    title, text = stack.told(stack.mails)
    assert title == BEGINS
    assert said in " ".join(text.split())
    assert stack.keeper.metric('counter_keeper_problem{problem="replicas"}') == 1

    # Whoever waits for heartbeats raises an alarm now.
    taken(stack.beats)
    stack.keeper.looks(10)
    assert taken(stack.beats) == []

    stack.apps[1].up()
    title, text = stack.told()
    assert title == ENDS
    assert re.fullmatch(r"only 1 of 2 replicas of the app answer \(for (\d+ min )?\d+ s\)", text)
    assert stack.told(stack.mails)[0] == ENDS
    assert stack.keeper.metric('counter_keeper_problem{problem="replicas"}') is None
    wait_until("a heartbeat", stack.beats.qsize)
    assert stack.keeper.metric('counter_keeper_messages_total{receiver="1",result="sent"}') == 2


def test_edges_that_reach_no_replica_are_told(stack: Stack) -> None:
    stack.up()
    stack.apps[0].kill()
    wait_until("both problems", lambda: "edge-replicas" in stack.keeper.written()["problems"])
    stack.keeper.looks(4)
    said = "\n".join(message["message"] for message in taken(stack.hooks))
    assert said.count("2 of 2 edges reach no replica of the app; ./counter logs -e service=edge shows why") == 1


def test_redis_that_is_killed_is_told_once_and_so_is_its_return(stack: Stack) -> None:
    stack.up()
    stack.redis.kill()
    # What begins in one look is one message; one that takes longer to see, another.
    wait_until("a message", stack.hooks.qsize)
    stack.keeper.looks(4)
    text = "\n".join(message["message"] for message in taken(stack.hooks))
    node = f"Redis at {stack.redis.address} is not reachable"
    assert text.count(node) == 1
    assert text.count("the app accepts no increments now (") == 1
    stack.redis.up()
    wait_until("a message", stack.hooks.qsize)
    stack.keeper.looks(4)
    ended = taken(stack.hooks)
    assert {message["title"].partition(" (")[0] for message in ended} == {ENDS}
    assert "\n".join(message["message"] for message in ended).count(node) == 1


def test_an_edge_that_does_not_answer_is_told_and_a_maintenance_is_not(stack: Stack) -> None:
    stack.up()
    for edge in stack.edges:
        edge.up("maintenance")
    stack.keeper.looks(12)
    assert taken(stack.hooks) == []
    stack.edges[0].kill()
    title, text = stack.told()
    assert (title, text.partition(";")[0]) == (BEGINS, "only 1 of 2 edges answer")
    stack.edges[0].up()
    assert stack.told()[0] == ENDS


def test_backups_that_fail_or_are_too_old_are_told(stack: Stack) -> None:
    stack.keeper.plan |= {"backup_repository": "/srv/backups", "backup_max_age": 30, "backup_log_interval": 60}
    good = {"id": "20261126T030000Z", "time": ago(hours=1), "log_until": ago(seconds=30)}
    stack.serve()
    stack.note(**good)
    stack.keeper.start()
    wait_until("a heartbeat", stack.beats.qsize)
    stack.note(**good, failed=ago(minutes=1), failure="no room")
    title, text = stack.told()
    assert (title, "failed: no room; this makes one: ./counter backup" in text) == (BEGINS, True)
    stack.note(**good | {"time": ago(seconds=10)}, failed=ago(minutes=1), failure="no room")
    assert stack.told()[0] == ENDS
    stack.note(**good | {"time": ago(hours=31)})
    assert "older than backup_max_age=30 hours" in stack.told()[1]
    # While Redis does not answer, nothing is known of backups: that problem has not ended.
    stack.redis.kill()
    wait_until("a message", stack.hooks.qsize)
    stack.keeper.looks(8)
    assert {message["title"].partition(" (")[0] for message in taken(stack.hooks)} == {BEGINS}


def test_a_certificate_that_ends_soon_is_told_until_another_one_is_served(stack: Stack) -> None:
    at = ",".join(f"127.0.0.1:{edge.secure}" for edge in stack.edges)
    stack.keeper.plan |= {"edge_tls": "own", "edge_domains": ["counter.example"], "edge_at": at}
    stack.serve()
    for edge, days in zip(stack.edges, (90, 6), strict=True):
        edge.up("https", days=(-80, days))
    stack.keeper.start()
    title, text = stack.told()
    assert title == BEGINS
    assert text.startswith("the certificate for counter.example ends on ")
    assert "replace its file, and run ./counter deploy" in text
    stack.edges[1].up("https", days=(-1, 90))
    assert stack.told()[0] == ENDS


def test_a_receiver_that_does_not_answer_holds_up_nothing(stack: Stack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"json://user:a-password@127.0.0.1:{silent.getsockname()[1]}/a-secret"
        stack.keeper.plan["notify_urls"] = [url, "nothing://a-secret", *stack.keeper.plan["notify_urls"]]
        stack.up()
        stack.edges[0].kill()
        assert stack.told()[0] == BEGINS
        assert stack.told(stack.mails)[0] == BEGINS
        given_up = 'counter_keeper_messages_total{receiver="%d",result="given up"}'
        wait_until("the last attempt", lambda: stack.keeper.metric(given_up % 1), 120)
    assert stack.keeper.metric(given_up % 2) == 1
    assert stack.keeper.metric('counter_keeper_messages_total{receiver="1",result="failed"}') == 4
    unreached = wait_until("its report", lambda: stack.keeper.written()["unreached"])
    assert list(unreached) == ["number 1 of notify_urls (json)", "number 2 of notify_urls (nothing)"]
    seen = json.dumps(unreached) + stack.keeper.log.read_text() + stack.keeper.read("/metrics")
    for secret in ("a-secret", "a-password", "a-token"):
        assert secret not in seen
    stack.edges[0].up()
    assert stack.told()[0] == ENDS


def test_a_keeper_that_starts_again_repeats_nothing_and_tells_of_the_end(stack: Stack) -> None:
    stack.up()
    stack.apps[1].kill()
    stack.edges[1].kill()
    wait_until("both problems", lambda: "replicas" in (told := stack.keeper.written()["problems"]) and "edges" in told)
    stack.keeper.looks(4)
    taken(stack.hooks)
    stack.keeper.kill()
    stack.edges[1].up()
    stack.keeper.start()
    title, text = stack.told()
    assert (title, text.partition(" (")[0]) == (ENDS, "only 1 of 2 edges answer")
    stack.keeper.looks(10)
    assert taken(stack.hooks) == []


def test_an_hour_at_rest_sends_only_heartbeats(stack: Stack) -> None:
    stack.up()
    taken(stack.beats)
    time.sleep(3600 * HURRY)
    assert taken(stack.hooks) + taken(stack.mails) == []
    # On a busy machine, it may call less often.
    assert len(taken(stack.beats)) >= 20


@pytest.mark.parametrize("status", [302, 500])
def test_a_heartbeat_that_nobody_takes_is_reported(stack: Stack, status: int) -> None:
    """A redirection would look good, and reach nobody."""
    with webhook(status) as (place, called):
        stack.keeper.plan["heartbeat_url"] = f"http://{place}/a-secret"
        stack.serve()
        stack.keeper.start()
        wait_until("a call", called.qsize)
        said = wait_until("its report", lambda: stack.keeper.written()["unreached"])
    assert said == {"heartbeat_url": f"the status {status}"}
    assert stack.keeper.metric("counter_keeper_heartbeat_success") == 0
    assert "a-secret" not in stack.keeper.log.read_text()
