"""What pages embed, as their visitors, proxies and robots ask for it: against a real redis-server."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from xml.etree import ElementTree as ET

import pytest
from flask.testing import FlaskClient
from support.ports import free_port
from support.processes import RedisServer

from counter.config import Config, ConfigError
from counter.data import read_all
from counter.remove import remove
from counter.store import open_route
from counter.store.primaries import Primaries
from redis_node import contents

type Build = Callable[..., FlaskClient]
BLOG = {"Origin": "https://blog.example"}
ALLOWED, EXPOSED = "Access-Control-Allow-Origin", "Access-Control-Expose-Headers"


@pytest.fixture
def client(client_of: Build, redis_server: RedisServer) -> FlaskClient:
    return client_of(REDIS_NODES=redis_server.address)


def value(client: FlaskClient, name: str) -> int:
    return int(client.get(f"/api/counters/{name}").json["value"])


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        ("*", "https://blog.example", "*"),
        ("https://blog.example,https://shop.example:8443", "https://shop.example:8443", "https://shop.example:8443"),
        ("https://blog.example", "https://blog.example.org", None),
        ("none", "https://blog.example", None),
    ],
)
def test_scripts_of_allowed_origins_read_and_count(
    client_of: Build, redis_server: RedisServer, origins: str, origin: str, allowed: str | None
) -> None:
    client = client_of(REDIS_NODES=redis_server.address, CORS_ORIGINS=origins)
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "idempotency-key"}
    preflight = client.options("/api/counters/a/increment", headers={"Origin": origin} | asks)
    assert preflight.status_code == 200
    assert "Idempotency-Key" in preflight.headers.get("Access-Control-Allow-Headers", "") or not allowed
    answers = [
        preflight,
        client.post("/api/counters/a/increment", headers={"Origin": origin}),  # in front of Flask
        client.post("/api/counters/-/increment", headers={"Origin": origin}),  # an error
        client.get("/api/counters/a", headers={"Origin": origin}),
        client.get("/get/a", headers={"Origin": origin}),
        client.get("/badge/a.json", headers={"Origin": origin}),
    ]
    for answer in answers:
        assert answer.headers.get(ALLOWED) == allowed
        assert ("Retry-After" in answer.headers.get(EXPOSED, "")) == bool(allowed)
        assert ("Origin" in answer.headers.get("Vary", "")) == (origins != "*")
        assert "Access-Control-Allow-Credentials" not in answer.headers
    assert value(client, "a") == 1  # whether or not its script may read the answer
    for path in ("/", "/api/store", "/metrics"):
        assert ALLOWED not in client.get(path, headers={"Origin": origin}).headers


@pytest.mark.parametrize("origins", ["https://blog.example/", "blog.example", "*.example", "https://a,,https://b"])
def test_what_is_no_origin_is_refused(origins: str) -> None:
    with pytest.raises(ConfigError, match="must be \\*, none, or origins"):
        Config.from_env({"COUNTER_CORS_ORIGINS": origins})


@pytest.mark.parametrize(
    "name", ["a", "A", "a.b", "Blog.Example/First_post-1", "a/.hidden", "a/-", "n" * 64 + "/" + "m" * 64]
)
def test_a_name_counts_wherever_it_stands(client: FlaskClient, redis_server: RedisServer, name: str) -> None:
    assert client.post(f"/api/counters/{name}/increment").json["name"] == name
    assert client.get(f"/hit/{name}").json == {"value": 2}
    assert ">3</text>" in client.get(f"/badge/{name}.svg?count=1").text
    assert client.post(f"/c/{name}").headers["Location"] == f"/c/{name}"
    assert ">4</output>" in client.get(f"/c/{name}").text
    assert client.get(f"/get/{name}").json == {"value": 4} == {"value": value(client, name)}
    assert redis_server.client().get(f"{{{name}}}:value") == "4"
    assert redis_server.client().smembers("counters") == {name}
    # Whoever exports, removes or compares counters finds it too.
    primaries = Primaries(open_route(Config.from_env({"COUNTER_REDIS_NODES": redis_server.address})))
    records = read_all(primaries)
    assert [(record.name, record.value) for record in records] == [(name, 4)]
    assert redis_server.client().keys(contents.PATTERN) == [f"{{{name}}}:value"]
    assert asdict(remove(primaries, records, f"{name[:1]}*", noted=False)) == {"counters": 1, "sum": 4, "stay": []}
    assert redis_server.client().exists(f"{{{name}}}:value") == 0


def test_the_path_that_counts_is_no_name(client: FlaskClient) -> None:
    assert client.get("/api/counters/a/increment").status_code == 405
    assert client.post("/api/counters/a/increment/increment").status_code == 404
    assert client.get("/hit/a/increment").status_code == 404
    assert client.post("/api/counters/a/increments/increment").status_code == 200


def test_a_badge_counts_only_if_it_is_asked_to(client: FlaskClient) -> None:
    assert ">0</text>" in client.get("/badge/a.svg").text
    assert client.get("/badge/a.svg?count=1").headers["Content-Type"].startswith("image/svg+xml")
    assert client.get("/badge/a.json?count=1").json["message"] == "2"
    assert value(client, "a") == 2


@pytest.mark.parametrize(
    "ahead",
    [
        {"Sec-Purpose": "prefetch"},
        {"Sec-Purpose": "prefetch;prerender"},
        {"Purpose": "prefetch"},
        {"X-Purpose": "preview"},
        {"X-Moz": "prefetch"},
    ],
)
def test_what_is_loaded_ahead_and_head_count_nothing(client: FlaskClient, ahead: dict[str, str]) -> None:
    client.post("/api/counters/a/increment")
    client.get("/")
    for path in ("/badge/a.svg?count=1", "/badge/a.json?count=1", "/hit/a", "/"):
        assert client.get(path, headers=ahead).status_code == 200
        assert client.head(path).status_code == 200
    assert client.get("/hit/a", headers=ahead).json == {"value": 1}
    assert (value(client, "a"), value(client, "visits")) == (1, 1)


def test_proxies_cannot_keep_a_badge_that_counts_and_need_not_load_another_twice(client: FlaskClient) -> None:
    counting = client.get("/badge/a.svg?count=1")
    assert counting.headers.getlist("Cache-Control") == ["no-cache, no-store, max-age=0, must-revalidate"]
    assert counting.headers["Pragma"] == "no-cache"
    # Without one of these, nobody can ask whether it is still the same, which would count.
    assert not {"ETag", "Last-Modified"} & set(counting.headers.keys())
    shows = client.get("/badge/b.svg")
    assert shows.headers.getlist("Cache-Control") == ["no-cache, max-age=0, must-revalidate"]
    same = client.get("/badge/b.svg", headers={"If-None-Match": shows.headers["ETag"]})
    assert (same.status_code, same.data) == (304, b"")
    client.get("/badge/b.svg?count=1")
    client.application.extensions["counting"]._seen.clear()  # noqa: SLF001  # as two seconds later
    changed = client.get("/badge/b.svg", headers={"If-None-Match": shows.headers["ETag"]})
    assert changed.status_code == 200


@pytest.mark.parametrize("style", ["flat", "flat-square", "plastic", "for-the-badge", "social"])
def test_a_badge_shows_any_label_and_is_as_wide_as_its_texts(client: FlaskClient, style: str) -> None:
    client.application.extensions["counting"].store.increment("a")
    widths = []
    for label in ("", "i", "wwww", "<b> & \"'", "訪問 👀", "W" * 64):
        answer = client.get("/badge/a.svg", query_string={"label": label, "style": style, "color": "f80"})
        svg = ET.fromstring(answer.text)  # noqa: S314
        texts = {one.text: one for one in svg.iter("{http://www.w3.org/2000/svg}text")}
        assert len(texts) == (2 if label else 1)
        for text, one in texts.items():
            half = float(one.attrib["textLength"]) / 20
            middle = float(one.attrib["x"]) / 10
            assert middle - half >= 0, text
            assert middle + half <= float(svg.attrib["width"]), text
        assert not label or {label, label.upper(), label[:1].upper() + label[1:]} & texts.keys()
        widths.append(float(svg.attrib["width"]))
    assert widths[:3] == sorted(widths[:3])


@pytest.mark.parametrize(
    ("style", "sizes"),
    [
        ("flat", [(80, [205, 585]), (156, [425, 1185])]),
        ("flat-square", [(80, [205, 585]), (156, [425, 1185])]),
        ("plastic", [(80, [205, 585]), (156, [425, 1185])]),
        ("for-the-badge", [(128.75, [332.5, 976.25]), (219.5, [595, 1692.5])]),
        ("social", [(81, [195, 625]), (145, [375, 1125])]),
    ],
)
def test_a_badge_has_the_sizes_of_shields(
    client: FlaskClient, redis_server: RedisServer, style: str, sizes: list[tuple[float, list[float]]]
) -> None:
    """Of badge-maker 6.0.0: the width, and the middles of the texts in tenths of a pixel."""
    for (label, counted), expected in zip((("visits", 1234), ("Größe & <x>", 12_345_678)), sizes, strict=True):
        redis_server.client().set(f"{{{counted}}}:value", counted)
        svg = ET.fromstring(client.get(f"/badge/{counted}.svg", query_string={"label": label, "style": style}).text)  # noqa: S314
        middles = {float(one.attrib["x"]) for one in svg.iter("{http://www.w3.org/2000/svg}text")}
        assert (float(svg.attrib["width"]), sorted(middles)) == expected


@pytest.mark.parametrize(
    ("counted", "full", "short"),
    [
        (0, "0", "0"),
        (999, "999", "999"),
        (1_000, "1,000", "1k"),
        (1_299, "1,299", "1.2k"),
        (9_999, "9,999", "9.9k"),
        (12_999, "12,999", "12k"),
        (999_999, "999,999", "999k"),
        (1_234_567, "1,234,567", "1.2M"),
    ],
)
def test_a_short_number_is_never_more_than_was_counted(
    client: FlaskClient, redis_server: RedisServer, counted: int, full: str, short: str
) -> None:
    redis_server.client().set("{a}:value", counted)
    assert client.get("/badge/a.json").json["message"] == full
    assert client.get("/badge/a.json?format=short").json["message"] == short


def test_shields_gets_its_own_schema(client: FlaskClient) -> None:
    asked = client.get("/badge/blog/post.json?label=views&color=brightgreen&labelColor=123abc&style=social").json
    assert asked == {
        "schemaVersion": 1,
        "label": "views",
        "message": "0",
        "color": "brightgreen",
        "labelColor": "123abc",
        "style": "social",
    }
    assert client.get("/badge/blog/post.json").json["label"] == "post"


@pytest.mark.parametrize(
    "query",
    ["color=javascript:1", "labelColor=12", "style=round", "format=long", "count=2", f"label={'a' * 65}", "label=%00"],
)
def test_a_wrong_parameter_is_named_and_nothing_is_counted(client: FlaskClient, query: str) -> None:
    answer = client.get(f"/badge/a.svg?count=1&{query}" if "count" not in query else f"/badge/a.svg?{query}")
    assert (answer.status_code, answer.json["code"]) == (400, "invalid-badge")
    assert query.partition("=")[0] in answer.json["detail"]
    assert value(client, "a") == 0


def test_without_redis_pages_get_a_picture_a_page_and_an_answer_of_each_form(client_of: Build) -> None:
    lonely = client_of(REDIS_NODES=f"127.0.0.1:{free_port()}", DEADLINE_SECONDS="0.3")
    badge = lonely.get("/badge/a.svg?count=1")
    assert (badge.status_code, badge.mimetype) == (503, "image/svg+xml")
    assert ">unavailable</text>" in badge.text
    assert "no-store" in badge.headers["Cache-Control"]
    assert lonely.get("/badge/a.svg").headers["Cache-Control"] == badge.headers["Cache-Control"]
    for answer in (lonely.get("/c/a"), lonely.post("/c/a")):
        assert (answer.status_code, answer.mimetype) == (503, "text/html")
        assert 'role="alert"' in answer.text
        assert int(answer.headers["Retry-After"]) >= 1
    hit = lonely.get("/hit/a")
    assert (hit.status_code, hit.json["code"], hit.json["error"]) == (503, "store-unavailable", hit.json["detail"])
    assert (lonely.get("/hit/a?img").status_code, lonely.get("/hit/a?img").mimetype) == (503, "image/gif")
    assert lonely.get("/hit/a?callback=f").status_code == 200
    assert '"code": 503' in lonely.get("/hit/a?callback=f").text


def test_the_page_of_a_counter_shows_what_to_copy(client: FlaskClient) -> None:
    page = client.get("/c/blog.example/post", base_url="https://counter.example").text
    for copied in (
        "[![blog.example/post](https://counter.example/badge/blog.example/post.svg?count=1)]",
        "&lt;script defer src=&#34;https://counter.example/counter.js&#34;",
        "curl -X POST https://counter.example/api/counters/blog.example/post/increment",
    ):
        assert copied in page
    assert value(client, "blog.example/post") == 0
    assert client.get("/c?name=blog.example/post").headers["Location"] == "/c/blog.example/post"
    assert client.get("/c?name=%3Cb%3E").status_code == 400
    assert client.get("/c/%3Cb%3E").status_code == 400


@pytest.mark.parametrize(
    ("agent", "counts"),
    [
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", False),
        ("Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)", False),
        ("facebookexternalhit/1.1", False),
        ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36", True),
        ("Mozilla/5.0 (Linux; Android 9; CUBOT X19) AppleWebKit/537.36", True),
        ("curl/8.14.1", True),
    ],
)
def test_the_start_page_counts_no_known_robot(client: FlaskClient, agent: str, *, counts: bool) -> None:
    client.get("/")
    page = client.get("/", headers={"User-Agent": agent})
    assert page.status_code == 200
    assert value(client, "visits") == 1 + counts
    assert f">{1 + counts}</output>" in page.text


def test_robots_are_asked_to_leave_what_counts(client: FlaskClient) -> None:
    text = client.get("/robots.txt")
    assert text.mimetype == "text/plain"
    rules = re.findall(r"^Disallow: (/\S+)$", text.text, re.MULTILINE)
    for path in ("/hit/a", "/badge/a.svg?count=1", "/api/counters/a/increment"):
        assert any(path.startswith(rule) for rule in rules)


def test_the_script_is_small_and_is_not_loaded_twice(client: FlaskClient) -> None:
    script = client.get("/counter.js")
    assert script.mimetype == "text/javascript"
    assert len(script.data) < 2000
    assert script.headers.getlist("Cache-Control") == ["public, max-age=3600"]
    assert client.get("/counter.js", headers={"If-None-Match": script.headers["ETag"]}).status_code == 304
    assert script.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
