"""``Idempotency-Key`` over HTTP: same key, same answer; another counter, 422; and errors that say what to repeat."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from support.ports import free_port
from support.processes import RedisServer, running
from support.waiting import wait_until

from counter.store.ids import claim_place, new_id, place_of

Build = Callable[..., FlaskClient]


@pytest.fixture
def client(client_of: Build, redis_server: RedisServer) -> FlaskClient:
    return client_of(REDIS_NODES=redis_server.address)


def increment(client: FlaskClient, name: str, key: str) -> tuple[int, dict[str, object]]:
    answer = client.post(f"/api/counters/{name}/increment", headers={"Idempotency-Key": key})
    return answer.status_code, answer.get_json(force=True)


def test_the_same_key_gets_the_same_answer_and_counts_once(client: FlaskClient, redis_server: RedisServer) -> None:
    first = increment(client, "a", "8e03978e-40d5-43dd-bc93-6894a57f9324")
    client.post("/api/counters/a/increment")
    again = increment(client, "a", "8e03978e-40d5-43dd-bc93-6894a57f9324")
    quoted = increment(client, "a", '"8e03978e-40d5-43dd-bc93-6894a57f9324"')
    assert first == again == quoted
    assert redis_server.client().get("{a}:value") == "2"


def test_the_same_key_at_the_same_time_counts_once(client: FlaskClient, redis_server: RedisServer) -> None:
    app = client.application
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: increment(app.test_client(), "a", "k")[1]["value"], range(64)))
    assert set(answers) == {1}
    assert redis_server.client().get("{a}:value") == "1"


def test_a_key_of_another_counter_is_refused(client: FlaskClient) -> None:
    increment(client, "a", "k")
    status, problem = increment(client, "b", "k")
    assert (status, problem["code"]) == (422, "idempotency-key-reused")
    assert "'a'" not in str(problem["detail"])  # others may have used the key
    assert client.get("/api/counters/b").json["value"] == 0


@pytest.mark.parametrize("key", ["", "   ", '""', "x" * 129, "a b", "ä", '"un"quoted"'[:5] + " "])
def test_a_bad_key_is_refused_before_it_counts(client: FlaskClient, key: str) -> None:
    status, problem = increment(client, "a", key)
    assert (status, problem["code"]) == (400, "invalid-idempotency-key")
    assert "1 to 128 printable ASCII" in str(problem["detail"])
    assert client.get("/api/counters/a").json["value"] == 0


@pytest.mark.parametrize("key", ["x" * 128, "{b}:value", "a'b\\c}", "probe", "}"])
def test_any_printable_key_is_taken(client: FlaskClient, key: str) -> None:
    assert increment(client, "a", key)[1]["value"] == 1
    assert increment(client, "a", key)[1]["value"] == 1


def test_an_expired_key_counts_again(client: FlaskClient, redis_server: RedisServer) -> None:
    increment(client, "a", "k")
    for key in (place_of("a", "k").hash, claim_place("k").hash):
        assert redis_server.client().pttl(key) > 600_000
        redis_server.client().pexpire(key, 0)
    assert increment(client, "a", "k")[1]["value"] == 2


def test_without_redis_the_answer_names_the_operation(client_of: Build) -> None:
    client = client_of(REDIS_NODES=f"127.0.0.1:{free_port()}", DEADLINE_SECONDS="0.3")
    status, problem = increment(client, "a", "k")
    assert (status, problem["code"], problem["operation_id"]) == (503, "store-unavailable", "k")


def test_a_stranger_cannot_take_the_ids_of_others(client_of: Build, redis_server: RedisServer) -> None:
    patient = client_of(REDIS_NODES=redis_server.address)
    client = client_of(REDIS_NODES=redis_server.address, DEADLINE_SECONDS="2")
    assert client.post("/api/counters/a/increment").json["value"] == 1
    transition = client.application.extensions["counting"].store._without_secrets  # noqa: SLF001
    wait_until("it to know that there is no earlier version", lambda: not transition.lasts())
    redis_server.client().client_pause(4000, all=True)
    with ThreadPoolExecutor(8) as pool:
        others = client.application.test_client
        answers = list(pool.map(lambda _: others().post("/api/counters/a/increment").json, range(8)))
    assert redis_server.client().ping()
    mine, *theirs = (answer["operation_id"] for answer in answers)
    series, _, number = mine.rpartition("-")
    for near in range(int(number) - 10, int(number) + 10):
        increment(patient, "evil", f"{series}-{abs(near)}")
    repeated = [increment(patient, "a", identifier) for identifier in theirs]
    assert [status for status, _ in repeated] == [200] * 7
    assert len({answer["value"] for _, answer in repeated}) == 7
    # Nor for the same counter: nobody is given the number of somebody else.
    assert len({identifier.partition("-")[0] for identifier in (mine, *theirs)}) == 8


def test_a_reply_that_never_comes_is_indeterminate_and_the_repeat_settles_it(
    client_of: Build, redis_server: RedisServer
) -> None:
    # On a busy machine half a second can pass before anything is sent. What is to succeed has more time still.
    patient = client_of(REDIS_NODES=redis_server.address)
    client = client_of(REDIS_NODES=redis_server.address, DEADLINE_SECONDS="2")
    assert patient.post("/api/counters/a/increment").json["value"] == 1
    wait_until("a connection", lambda: client.post("/api/counters/b/increment").status_code == 200)
    # What it does in the background at first is done then, and does not take the connection from the increment below.
    wait_until("the counter to be listed", lambda: redis_server.client().sismember("counters", "b"))
    # Hold the replies back, but not the execution: every command is delayed until the client has given up.
    redis_server.client().client_pause(4000, all=True)
    answer = client.post("/api/counters/a/increment")
    assert answer.status_code == 503
    assert answer.json["code"] == "store-indeterminate"
    assert int(answer.headers["Retry-After"]) >= 1
    assert redis_server.client().ping()
    for _ in range(2):
        status, repeated = increment(patient, "a", answer.json["operation_id"])
        assert (status, repeated["value"]) == (200, 2)


@pytest.mark.parametrize("kept", [600, 30])
def test_the_answer_says_how_long_a_repeat_settles_it(
    client_of: Build, redis_server: RedisServer, tmp_path: Path, kept: int
) -> None:
    external = {"TOPOLOGY": "external", "REDIS_URL": f"redis://{redis_server.address}", "REPLICAS_PER_PRIMARY": 1}
    client = client_of(**external, DEADLINE_SECONDS="1", KEY_SECONDS=kept)
    replica = RedisServer(tmp_path, f"replicaof {redis_server.address.replace(':', ' ')}", "repl-diskless-sync-delay 0")
    with running(replica):
        replica.up()
        wait_until("the replica", lambda: client.post("/api/counters/a/increment").status_code == 200, 30)
    # It counts, but the replica that has to confirm it is not there any more.
    before = time.monotonic()
    answer = client.post("/api/counters/a/increment")
    assert answer.json["code"] == "store-indeterminate"
    assert f"within {kept} seconds of the first attempt" in answer.json["detail"]
    # A repeat that begins in the last moment of that time takes until its deadline, by a clock that may be ahead.
    left = redis_server.client().pttl(place_of("a", answer.json["operation_id"]).hash)
    assert kept + 120 - (time.monotonic() - before) < left / 1000 <= kept + 122


def test_a_counter_whose_key_holds_something_else_does_not_disturb_the_others(
    client: FlaskClient, redis_server: RedisServer
) -> None:
    redis_server.client().lpush("{bad}:value", 1)
    assert client.post("/api/counters/bad/increment").status_code == 503
    assert client.post("/api/counters/good/increment").json["value"] == 1
    wait_until("readiness", lambda: client.get("/readyz").status_code == 200)


def test_a_full_redis_refuses_and_counts_nothing(client: FlaskClient, redis_server: RedisServer) -> None:
    client.post("/api/counters/a/increment")
    redis_server.client().config_set("maxmemory", 1)
    answer = client_problem = client.post("/api/counters/a/increment")
    assert answer.status_code == 503
    assert client_problem.json["code"] == "store-unavailable"
    assert client.get("/readyz").status_code == 503
    redis_server.client().config_set("maxmemory", 0)
    assert client.post("/api/counters/a/increment").json["value"] == 2


def test_forked_workers_do_not_generate_the_same_ids() -> None:
    new_id("a")
    fork = multiprocessing.get_context("fork")
    made = fork.SimpleQueue()
    workers = [fork.Process(target=lambda: made.put(new_id("a"))) for _ in range(4)]
    for worker in workers:
        worker.start()
    ids = [new_id("a"), *(made.get() for _ in workers)]
    for worker in workers:
        worker.join()
    assert len(set(ids)) == 5
    assert len({identifier.partition("-")[0][16:] for identifier in ids}) == 5  # nor the same secrets
