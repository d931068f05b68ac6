"""The HTTP interface against a real redis-server."""

from __future__ import annotations

import itertools
import json
import logging
import random
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from flask import request
from flask.testing import FlaskClient
from support.ports import free_port
from support.processes import RedisServer
from support.waiting import wait_until

from counter import lifecycle
from counter.logs import Brake
from counter.shortcut import IncrementShortcut
from counter.store import store
from counter.store.standalone import StandaloneRoute
from counter.store.store import Store
from counter.store.types import Description

Build = Callable[..., FlaskClient]


@pytest.fixture
def client(client_of: Build, redis_server: RedisServer) -> FlaskClient:
    return client_of(REDIS_NODES=redis_server.address, REPLICA="3", NODE="node-1")


@pytest.fixture
def lonely(client_of: Build) -> FlaskClient:
    """Return a client of an application whose Redis does not exist."""
    return client_of(REDIS_NODES=f"127.0.0.1:{free_port()}", DEADLINE_SECONDS="0.5")


def test_an_increment_answers_with_the_new_value(client: FlaskClient, redis_server: RedisServer) -> None:
    for expected in (1, 2, 3):
        answer = client.post("/api/counters/a.b-c_d/increment")
        assert answer.status_code == 200
        assert answer.json == {
            "name": "a.b-c_d",
            "value": expected,
            "replica": "3",
            "source": {"node": redis_server.address, "role": "primary"},
        }
        assert answer.headers["X-Counter-Replica"] == "3"
    assert redis_server.client().get("{a.b-c_d}:value") == "3"
    wait_until("the counter to be listed", lambda: redis_server.client().smembers("counters") == {"a.b-c_d"})


def test_a_read_does_not_count(client: FlaskClient) -> None:
    client.post("/api/counters/a/increment")
    assert [client.get("/api/counters/a").json["value"] for _ in range(3)] == [1, 1, 1]
    assert client.get("/api/counters/never").json["value"] == 0


def test_the_api_shows_the_newest_backup(
    client: FlaskClient, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "PROBE_SECONDS", 60)  # on a busy machine, a second may be too short

    def shown(what: str) -> float:
        text = client.get("/metrics").text
        return float(text.partition(f"\ncounter_backup_{what} ")[2].partition("\n")[0])

    def timestamp() -> float:
        return shown("timestamp_seconds")

    assert client.get("/api/store").get_json()["backup"] is None
    assert timestamp() == 0
    note = {"id": "20261126T030000Z", "time": "2026-11-26T03:00:00Z", "counters": 2, "sum": 9}
    later = {f"log_{end}": f"2026-11-26T0{hour}:00:00Z" for end, hour in (("began", 1), ("until", 4))}
    note |= later | {"seconds": 12, "repository_bytes": 345, "failed": "2026-11-26T02:00:00Z"}
    redis_server.client().set("{.backup}:value", json.dumps(note))
    assert client.get("/api/store").get_json()["backup"] == note
    assert timestamp() == datetime(2026, 11, 26, 3, tzinfo=UTC).timestamp()
    assert (shown("duration_seconds"), shown("repository_bytes")) == (12, 345)
    ends = ("log_first", 1), ("log", 4), ("failure", 2)
    assert all(shown(f"{what}_timestamp_seconds") == timestamp() + (hour - 3) * 3600 for what, hour in ends)
    redis_server.client().set("{.backup}:value", '{"repository": "0123456789ab"}')  # it was found bad
    assert client.get("/api/store").get_json()["backup"] is None
    assert timestamp() == 0
    monkeypatch.undo()  # nothing is to be waited for any more
    redis_server.kill()
    assert client.get("/metrics").status_code == 200


def test_pages_that_follow_a_counter_share_a_confirmed_read(client: FlaskClient, redis_server: RedisServer) -> None:
    redis = redis_server.client()
    client.post("/api/counters/a/increment")

    def follow() -> int:
        return int(client.get("/api/counters/a", headers={"Cache-Control": "max-age=60"}).json["value"])

    assert follow() == 1
    redis.config_resetstat()
    redis.incr("{a}:value")
    assert [follow() for _ in range(20)] == [1] * 20
    assert "cmdstat_get" not in redis.info("commandstats")
    assert client.get("/api/counters/a").json["value"] == 2  # without the header, the present value
    assert follow() == 2
    redis.incr("{a}:value")
    assert client.get("/api/counters/a", headers={"Cache-Control": "max-age=0"}).json["value"] == 3


def test_concurrent_increments_are_all_counted_with_different_values(
    client_of: Build, redis_server: RedisServer
) -> None:
    app = client_of(REDIS_NODES=redis_server.address).application

    def one(_: int) -> int:
        return int(app.test_client().post("/api/counters/c/increment").json["value"])

    with ThreadPoolExecutor(16) as pool:
        values = list(pool.map(one, range(400)))
    assert sorted(values) == list(range(1, 401))


@pytest.mark.parametrize("name", ["-a", "a b", "a" * 65, "{a}", "ä", "a%0A", "a/" + "b" * 65, "-/b", "a/{b"])
def test_a_bad_name_is_refused_before_the_store(lonely: FlaskClient, name: str) -> None:
    for answer in (lonely.post(f"/api/counters/{name}/increment"), lonely.get(f"/api/counters/{name}")):
        assert answer.status_code == 400
        assert answer.mimetype == "application/problem+json"
        assert answer.json["code"] == "invalid-name"
        assert "1 to 64 letters, digits, dots, hyphens or underscores" in answer.json["detail"]


def test_a_failed_increment_is_told_whatever_the_host(lonely: FlaskClient) -> None:
    answer = lonely.post("/api/counters/a/increment", headers={"Host": "a" * 70})
    assert (answer.status_code, bool(answer.json["operation_id"])) == (503, True)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/static/a", 404, "not-found"),
        ("GET", "/nowhere", 404, "not-found"),
        ("GET", "/api/counters/a/increment", 405, "method-not-allowed"),
    ],
)
def test_every_error_is_a_problem_document(client: FlaskClient, method: str, path: str, status: int, code: str) -> None:
    answer = client.open(path, method=method)
    assert answer.status_code == status
    assert answer.mimetype == "application/problem+json"
    assert (answer.json["code"], answer.json["status"]) == (code, status)
    assert answer.json["type"] == f"urn:counter:problem:{code}"
    assert answer.headers["X-Counter-Replica"] == "3"


def test_the_page_counts_a_visit_and_says_who_answered(client: FlaskClient, redis_server: RedisServer) -> None:
    assert ">1</output>" in client.get("/").text
    page = client.get("/")
    assert page.status_code == 200
    for shown in (">2</output>", ">3</b>", "node-1", redis_server.address, "standalone", "majority"):
        assert shown in page.text
    assert "http://" not in page.text.replace("http://www.w3.org/2000/svg", "")  # no asset from elsewhere
    assert client.head("/").status_code == 200
    assert client.get("/api/counters/visits").json["value"] == 2


@pytest.mark.parametrize(("version", "shown"), [("1.4.0", "counter 1.4.0 (image abc)"), ("", "counter (image abc)")])
def test_the_version_is_shown(client_of: Build, redis_server: RedisServer, version: str, shown: str) -> None:
    client = client_of(REDIS_NODES=redis_server.address, VERSION=version, IMAGE="abc")
    assert f"<footer>{shown}</footer>" in client.get("/").text
    store = client.get("/api/store").json
    assert (store["version"], store["image"]) == (version or None, "abc")


def test_without_redis_every_request_ends_and_only_health_is_green(lonely: FlaskClient) -> None:
    assert lonely.get("/healthz").status_code == 200
    for answer in (
        lonely.get("/readyz"),
        lonely.get("/api/counters/a"),
        lonely.post("/api/counters/a/increment"),
    ):
        assert answer.status_code == 503
        assert answer.mimetype == "application/problem+json"
        assert answer.json["code"] in {"store-unavailable", "store-indeterminate"}
        assert int(answer.headers["Retry-After"]) >= 1
    assert lonely.post("/api/counters/a/increment").json["operation_id"]
    page = lonely.get("/")
    assert page.status_code == 503
    assert 'role="alert" id="problem" >' in page.text
    assert "nothing was counted. Reload in a moment." in page.text
    store = lonely.get("/api/store")
    assert store.status_code == 200
    assert [node["reachable"] for node in store.json["nodes"]] == [False]
    assert store.json["nodes"][0]["error"]


def test_redis_may_come_later_and_go_and_come_back(client: FlaskClient, redis_server: RedisServer) -> None:
    assert client.post("/api/counters/a/increment").json["value"] == 1
    redis_server.kill()
    assert client.get("/readyz").status_code == 503
    assert client.get("/healthz").status_code == 200
    redis_server.up()
    wait_until("readiness", lambda: client.get("/readyz").status_code == 200)
    assert client.post("/api/counters/a/increment").json["value"] == 2


def test_a_demoted_primary_is_rejected(client_of: Build, three_servers: list[RedisServer]) -> None:
    demoted, promoted, _ = three_servers
    client = client_of(REDIS_NODES=demoted.address, DEADLINE_SECONDS="0.5")
    wait_until("it to count", lambda: client.post("/api/counters/a/increment").status_code == 200)
    demoted.client().replicaof("127.0.0.1", promoted.port)
    assert client.get("/api/counters/a").status_code == 503
    refused = client.post("/api/counters/a/increment")
    assert (refused.status_code, refused.json["code"]) == (503, "store-unavailable")  # READONLY: certainly not counted


def test_draining_turns_readiness_off_and_goes_on_serving(client: FlaskClient) -> None:
    wait_until("readiness", lambda: client.get("/readyz").status_code == 200)
    lifecycle.start_draining()
    assert client.get("/readyz").json["code"] == "draining"
    assert client.get("/healthz").status_code == 200
    assert client.post("/api/counters/a/increment").status_code == 200


def test_the_store_is_described(client: FlaskClient, redis_server: RedisServer) -> None:
    client.post("/api/counters/a/increment")
    wait_until("the counter to be listed", lambda: client.get("/api/store").json["counters"])
    store = client.get("/api/store").json
    assert store["topology"] == "standalone"
    assert store["nodes"] == [
        {
            "name": redis_server.address,
            "role": "primary",
            "reachable": True,
            "version": store["nodes"][0]["version"],
            "memory": {"used": store["nodes"][0]["memory"]["used"], "limit": 0},
        }
    ]
    assert store["counters"] == {"a": 1}
    assert store["more_counters"] is False


def test_clients_of_the_edge_are_not_told_the_counters(client: FlaskClient, client_of: Build) -> None:
    client.post("/api/counters/a/increment")
    through_the_edge = {"X-Forwarded-For": "192.0.2.1"}
    told = client.get("/api/store", headers=through_the_edge).get_json()
    assert not {"counters", "more_counters"} & told.keys()
    assert told["nodes"][0]["reachable"]
    (address,) = (node["name"] for node in told["nodes"])
    apart = client_of(TOPOLOGY="independent", REDIS_NODES=address)
    assert apart.get("/api/store").json["nodes"][0]["counters"] == {"a": 1}
    assert "counters" not in apart.get("/api/store", headers=through_the_edge).json["nodes"][0]


def test_those_who_ask_for_the_state_of_redis_take_a_quarter_of_the_threads(
    client_of: Build, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_of(REDIS_NODES=redis_server.address, THREADS="8")
    answers, goes_on = [], threading.Event()

    def look(route: StandaloneRoute) -> Description:
        answers.append(route)
        goes_on.wait(60)
        return look_now(route)

    look_now = StandaloneRoute.describe
    monkeypatch.setattr(StandaloneRoute, "describe", look)
    with ThreadPoolExecutor(2) as pool:
        lookers = client.application.extensions["counting"].store._lookers  # noqa: SLF001
        waiting = [pool.submit(client.application.test_client().get, "/api/store") for _ in range(2)]
        wait_until("both to wait", lambda: not lookers._value)  # noqa: SLF001
        busy = client.get("/api/store")
        assert (busy.status_code, busy.json["code"], busy.headers["Retry-After"]) == (503, "busy", "1")
        goes_on.set()
    assert [answer.result().status_code for answer in waiting] == [200, 200]
    assert [client.get("/api/store").status_code for _ in range(20)] == [200] * 20
    assert len(answers) <= 2


def test_failures_do_not_fill_the_log() -> None:
    brake, now = Brake(most=3, seconds=10), 1000.0

    def passes(text: str) -> logging.LogRecord | None:
        record = logging.makeLogRecord({"name": "counter", "msg": text})
        record.created = now
        return record if brake.filter(record) else None

    assert [bool(passes("increment not taken")) for _ in range(8)] == [True] * 3 + [False] * 5
    assert passes("another")
    now += 10
    first, second = passes("increment not taken"), passes("increment not taken")
    assert first
    assert vars(first)["omitted"] == 5
    assert second
    assert "omitted" not in vars(second)


def test_the_headroom_is_shown(client: FlaskClient, redis_server: RedisServer) -> None:
    redis_server.client().config_set("maxmemory", "100mb")
    client.post("/api/counters/a/increment")
    store = client.get("/api/store").json
    memory = store["nodes"][0]["memory"]
    assert memory["limit"] == 100 * 2**20
    assert 0 < memory["used"] < memory["limit"]
    assert store["window_seconds"] == 600
    text = client.get("/metrics").text
    for name in ("counter_store_memory_used_bytes", "counter_store_memory_limit_bytes"):
        assert f'{name}{{node="{redis_server.address}"}}' in text


def test_redis_that_is_nearly_full_is_logged(
    client: FlaskClient, redis_server: RedisServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("counter.store.link.LOOK_SECONDS", 0.0)
    used = redis_server.client().info("memory")["used_memory"]
    redis_server.client().config_set("maxmemory", 2 * used)
    wait_until("readiness", lambda: client.get("/readyz").status_code == 200)
    assert "nearly full" not in caplog.text
    redis_server.client().config_set("maxmemory", int(1.1 * used))
    wait_until("the next look", lambda: client.get("/readyz") and "Redis is nearly full" in caplog.text)


def outcomes(client: FlaskClient, outcome: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    start = f'counter_increments_total{{outcome="{outcome}"}} '
    return sum(float(line.removeprefix(start)) for line in lines if line.startswith(start))


def test_metrics_count_each_request_once(client: FlaskClient, lonely: FlaskClient) -> None:
    for one, outcome in ((client, "acknowledged"), (lonely, "unavailable")):
        before = outcomes(one, outcome)
        one.post("/api/counters/a/increment")
        assert outcomes(one, outcome) == before + 1


def test_the_clients_address_comes_from_one_hop_and_only_behind_the_edge(
    client_of: Build, redis_server: RedisServer
) -> None:
    for edge, expected in (("proxy", "203.0.113.7"), ("none", "127.0.0.1")):
        # An increment, which is not logged with the address, does not pay for it.
        client = client_of(REDIS_NODES=redis_server.address, EDGE=edge)
        assert isinstance(client.application.wsgi_app, IncrementShortcut)
        with client:
            client.get("/healthz", headers={"X-Forwarded-For": "198.51.100.1, 203.0.113.7"})
            assert request.remote_addr == expected


def test_independent_nodes_refuse_a_key_that_they_could_not_keep(
    client_of: Build, three_servers: list[RedisServer]
) -> None:
    client = client_of(TOPOLOGY="independent", REDIS_NODES=",".join(server.address for server in three_servers))
    refused = client.post("/api/counters/a/increment", headers={"Idempotency-Key": "k"})
    assert (refused.status_code, refused.json["code"]) == (400, "idempotency-key-unsupported")
    assert "Leave the header out" in refused.json["detail"]
    assert not any(server.client().exists("{a}:value") for server in three_servers)
    assert 'data-keys="no"' in client.get("/").text


@pytest.mark.parametrize("frozen", [1.5, 3.5])
def test_independent_nodes_repeat_what_is_in_doubt_at_the_same_node(
    client_of: Build, three_servers: list[RedisServer], monkeypatch: pytest.MonkeyPatch, frozen: float
) -> None:
    # In the longer time, the repeat cannot connect. That is certain, but the first attempt is still in doubt.
    turns = itertools.count()
    monkeypatch.setattr(random, "choice", lambda nodes: nodes[next(turns) % len(nodes)])  # never the same twice
    client = client_of(
        TOPOLOGY="independent", REDIS_NODES=",".join(server.address for server in three_servers), DEADLINE_SECONDS="8"
    )
    for server in three_servers:
        client.get("/api/counters/a")  # a connection to each, or nothing would be sent
        server.client().set("{a}:value", 0)  # a new counter takes two commands
    for server in three_servers:  # each counts what it was sent when the first attempt is over
        server.signal(signal.SIGSTOP)
        threading.Timer(frozen, server.signal, [signal.SIGCONT]).start()
    assert client.post("/api/counters/a/increment").json["value"] == 1
    sent = sum(
        server.client().info("commandstats").get("cmdstat_eval", {"calls": 0})["calls"] for server in three_servers
    )
    assert sent == 2, "no attempt was in doubt"
    wait_until("all to go on", lambda: all(server.client().ping() for server in three_servers))
    assert sum(int(server.client().get("{a}:value") or 0) for server in three_servers) == 1


def test_independent_nodes_diverge_visibly(client_of: Build, three_servers: list[RedisServer]) -> None:
    addresses = {server.address for server in three_servers}
    client = client_of(TOPOLOGY="independent", REDIS_NODES=",".join(sorted(addresses)))
    answers = [client.post("/api/counters/a/increment").json for _ in range(60)]
    assert {answer["source"]["node"] for answer in answers} == addresses
    assert max(answer["value"] for answer in answers) < 60
    wait_until("the counter to be listed", lambda: "a" in client.get("/api/store").json["nodes"][0]["counters"])
    store = client.get("/api/store").json
    assert store["counters"] is None
    assert sum(node["counters"]["a"] for node in store["nodes"]) == 60
    page = client.get("/").text
    assert 'id="warning"' in page
    assert "lost" in page


def test_those_who_ask_for_the_nodes_at_once_share_a_look(
    client: FlaskClient, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    all_asked = threading.Event()

    def ask(store: Store) -> Description:
        asked.append(time.monotonic())
        return ask_now(store)

    def look(route: StandaloneRoute) -> Description:
        all_asked.wait(60)
        return look_now(route)

    ask_now, look_now = Store.describe, StandaloneRoute.describe

    def connections() -> int:
        return int(redis_server.client().info("stats")["total_connections_received"])

    client.get("/api/store")
    before = connections()
    monkeypatch.setattr(Store, "describe", ask)
    monkeypatch.setattr(StandaloneRoute, "describe", look)
    with ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(client.application.test_client().get, "/api/store") for _ in range(20)]
        wait_until("all to ask", lambda: len(asked) == len(answers))
        all_asked.set()
    assert all(answer.result().json["nodes"][0]["reachable"] for answer in answers)
    # One look under way, and one for all others, each with two connections, besides those of this test.
    assert connections() - before < 10
