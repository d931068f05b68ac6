"""The interface of CountAPI: what its documentation says of requests and answers."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable

import pytest
from flask.testing import FlaskClient
from support.processes import RedisServer

from counter.store.store import Store

type Build = Callable[..., FlaskClient]
PAGE = {"Referer": "https://My-Site.example:8443/example/page?a=b#c"}


@pytest.fixture
def client(client_of: Build, redis_server: RedisServer) -> FlaskClient:
    return client_of(REDIS_NODES=redis_server.address)


def test_hit_makes_and_counts(client: FlaskClient) -> None:
    for expected in (1, 2):
        answer = client.get("/hit/mysite.com/visits")
        assert (answer.status_code, answer.json) == (200, {"value": expected})
        assert answer.headers["X-Path"] == "mysite.com/visits"
    assert client.get("/hit/visits").json == {"value": 1}
    assert client.get("/get/default/visits").json == {"value": 1}  # its name of no namespace
    assert client.get("/get/visits").headers["X-Path"] == "default/visits"


def test_an_unknown_counter_is_not_found(client: FlaskClient) -> None:
    for path, members in (
        ("/get/never", {"value": None}),
        ("/set/never?value=33", {"old_value": None, "value": None}),
        ("/update/never?amount=3", {"value": None}),
    ):
        answer = client.get(path)
        assert (answer.status_code, answer.json) == (404, members)
    assert (client.get("/info/never").status_code, client.get("/info/never").json["value"]) == (404, None)


def test_nobody_may_set_what_nobody_owns(client: FlaskClient) -> None:
    client.get("/hit/mysite.com/test")
    for path, members in (
        ("/set/mysite.com/test?value=69", {"old_value": 1, "value": 1}),
        ("/update/mysite.com/test?amount=-7", {"value": 1}),
    ):
        answer = client.get(path)
        assert (answer.status_code, answer.json) == (403, members)
    assert client.get("/get/mysite.com/test").json == {"value": 1}
    for path in ("/set/mysite.com/test", "/set/mysite.com/test?value=a", "/update/mysite.com/test?amount=1.5"):
        answer = client.get(path)
        assert (answer.status_code, answer.json["error"]) == (400, answer.json["detail"])


def test_create_makes_a_counter_that_starts_at_zero(client: FlaskClient, redis_server: RedisServer) -> None:
    made = client.get("/create?namespace=mysite.com&key=cows")
    assert (made.status_code, made.json) == (200, {"namespace": "mysite.com", "key": "cows", "value": 0})
    assert client.get("/get/mysite.com/cows").json == {"value": 0}
    assert redis_server.client().smembers("counters") == {"mysite.com/cows"}
    client.get("/hit/mysite.com/cows")
    again = client.get("/create?namespace=mysite.com&key=cows")
    assert (again.status_code, again.json["code"]) == (409, "counter-exists")
    assert client.get("/get/mysite.com/cows").json == {"value": 1}
    drawn = client.get("/create").json
    assert drawn["namespace"] == "default"
    assert uuid.UUID(drawn["key"])
    info = client.get(f"/info/{drawn['key']}").json
    assert (info["namespace"], info["key"], info["value"], info["enable_reset"]) == ("default", drawn["key"], 0, False)
    for query in ("value=5", "enable_reset=1"):
        refused = client.get(f"/create?key=mine&{query}")
        assert (refused.status_code, refused.json["code"]) == (403, "owner-needed")
    assert client.get("/get/mine").status_code == 404
    assert client.head("/create?key=head").status_code == 403
    assert client.get("/get/head").status_code == 404


def test_a_counter_that_is_counted_meanwhile_is_not_made_again(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.get("/hit/cows")
    monkeypatch.setattr(Store, "find", lambda *_: None)  # as just before
    assert client.get("/create?key=cows").status_code == 409
    monkeypatch.undo()
    assert client.get("/get/cows").json == {"value": 1}


def test_limits_for_new_counters_apply(client_of: Build, redis_server: RedisServer) -> None:
    client = client_of(REDIS_NODES=redis_server.address, MAX_COUNTERS="2")
    assert client.get("/create?key=one").status_code == client.get("/hit/two").status_code == 200
    for path in ("/create?key=three", "/hit/three", "/badge/three.svg?count=1"):
        assert client.get(path).status_code == 429
    assert client.post("/c/three").status_code == 429
    assert client.get("/hit/one").json == {"value": 1}


@pytest.mark.parametrize(
    ("path", "referer", "counter"),
    [
        ("/hit/:HOST:/:PATHNAME:", PAGE["Referer"], "my-site.example/examplepage"),
        ("/hit/:HOST:/:PATH:", PAGE["Referer"], "my-site.example/examplepage"),
        ("/hit/:HOST:/visits", "https://blog.example", "blog.example/visits"),
        ("/hit/:HOST:/:PATHNAME:", "https://blog.example/", "blog.example/..."),
        ("/hit/:HOST:/:PATHNAME:", f"https://blog.example/{'long/' * 30}", f"blog.example/{('long' * 30)[:64]}"),
        ("/hit/:HOST:", "https://blog.example/a", "blog.example"),
    ],
)
def test_words_stand_for_the_page(client: FlaskClient, path: str, referer: str, counter: str) -> None:
    assert client.get(path, headers={"Referer": referer}).json == {"value": 1}
    assert client.get(f"/get/{counter}").json == {"value": 1}


@pytest.mark.parametrize("referer", ["", "about:blank", "https://[::1"])
def test_a_page_that_does_not_tell_its_address_is_told_so(client: FlaskClient, referer: str) -> None:
    answer = client.get("/hit/:HOST:/visits", headers={"Referer": referer} if referer else {})
    assert (answer.status_code, answer.json["code"]) == (400, "invalid-name")


def test_jsonp_never_fails_and_runs_nothing_else(client: FlaskClient) -> None:
    for path, members in (
        ("/hit/mysite.com/visits", {"value": 1, "code": 200}),
        ("/get/never", {"value": None, "code": 404}),
    ):
        answer = client.get(f"{path}?callback=my.cb$1")
        assert (answer.status_code, answer.mimetype) == (200, "text/javascript")
        found = re.fullmatch(r"/\*\*/my\.cb\$1\((.*)\);\n", answer.text)
        assert found
        assert json.loads(found[1]) == members
    bad = client.get("/hit/-?callback=cb")
    assert (bad.status_code, '"code": 400' in bad.text) == (200, True)
    for callback in ("alert(1)//", "a b", "1a", "<script>", ""):
        refused = client.get("/hit/never", query_string={"callback": callback})
        assert (refused.status_code, refused.json["code"]) == (400, "invalid-callback")
    assert client.get("/get/never").status_code == 404


def test_a_picture_of_one_pixel_counts(client: FlaskClient) -> None:
    picture = client.get("/hit/mysite.com/visits?img")
    assert (picture.status_code, picture.mimetype, picture.data[:6]) == (200, "image/gif", b"GIF89a")
    assert "no-store" in picture.headers["Cache-Control"]
    assert client.get("/get/mysite.com/visits").json == {"value": 1}
