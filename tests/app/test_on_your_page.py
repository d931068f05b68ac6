"""Pages of another origin in Chromium, with what docs/on-your-page.md says to copy."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread, Timer
from urllib.request import urlopen

import pytest
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from support.browsing import Open, wait_for
from support.processes import Gunicorn, RedisServer, running

DOCS = (Path(__file__).parents[2] / "docs/on-your-page.md").read_text(encoding="utf-8")
DASH = "\N{EN DASH}"
type Publish = Callable[..., str]


def example(heading: str) -> str:
    """Return the HTML of a section."""
    section = re.split(rf"^## {heading}$", DOCS, flags=re.MULTILINE)[1]
    found = re.search(r"```html\n(.*?)```", section, re.DOTALL)
    assert found
    return found[1]


class Quiet(SimpleHTTPRequestHandler):
    """Serves files."""

    def end_headers(self) -> None:
        """Have nothing stored: a file that changes twice in a second would be taken for unchanged."""
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Write nothing."""


@pytest.fixture
def publish(tmp_path: Path) -> Iterator[Publish]:
    """Put pages on another origin, at paths, and return their address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path)) as site:
        Thread(target=site.serve_forever, daemon=True).start()

        def put(*parts: str, counter: str, path: str = "index.html") -> str:
            body = "".join(parts).replace("https://counter.example", counter)
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(f"<!doctype html><meta charset=utf-8><h1>Blog</h1>{body}", encoding="utf-8")
            # By its name: the address of this machine is the counter's, and the two must not be one site.
            return f"http://localhost:{site.server_port}/{path.removesuffix('index.html')}"

        yield put
        site.shutdown()


def shown(driver: WebDriver, query: str) -> str:
    return driver.find_element(By.CSS_SELECTOR, query).text


def wait_to_show(driver: WebDriver, query: str, expected: str) -> None:
    wait_for(driver, f"{query} to show {expected}", lambda: shown(driver, query) == expected)


def complaints(driver: WebDriver) -> list[str]:
    return [entry["message"] for entry in driver.get_log("browser") if "favicon" not in entry["message"]]


VALUE, LIKES, BUTTON = (
    f'[data-counter-{what}="my-page{end}"]' for what, end in (("value", ""), ("value", "-likes"), ("like", "-likes"))
)


def test_the_script_counts_each_load_and_shows_the_number(
    browser: Open, gunicorn: Gunicorn, redis_server: RedisServer, publish: Publish
) -> None:
    redis_server.client().set("{my-page}:value", 1233)
    redis_server.client().set("{another}:value", 7)
    other = '<b data-counter-value="another"></b><b data-counter-value="my-page" class="second"></b>'
    driver = browser()
    for expected in ("1,234", "1,235"):
        driver.get(publish(example("Script"), other, counter=gunicorn.url))
        wait_to_show(driver, VALUE, expected)
        wait_to_show(driver, ".second", expected)
        wait_to_show(driver, '[data-counter-value="another"]', "7")
    assert redis_server.client().mget("{my-page}:value", "{another}:value") == ["1235", "7"]
    assert driver.get_cookies() == []
    assert complaints(driver) == []


def test_once_counts_one_for_each_tab(
    browser: Open, gunicorn: Gunicorn, redis_server: RedisServer, publish: Publish
) -> None:
    page = publish(example("Script").replace("defer", "defer data-once"), counter=gunicorn.url)
    for tab in ("1", "2"):
        driver = browser()
        for _ in range(3):
            driver.get(page)
            wait_to_show(driver, VALUE, tab)
    assert redis_server.client().get("{my-page}:value") == "2"


def test_a_like_counts_once_and_survives_a_reload(
    browser: Open, gunicorn: Gunicorn, redis_server: RedisServer, publish: Publish
) -> None:
    page = publish(example("Script"), example("Buttons"), counter=gunicorn.url)
    driver = browser()
    driver.get(page)
    wait_to_show(driver, LIKES, "0")
    driver.find_element(By.CSS_SELECTOR, BUTTON).click()
    wait_to_show(driver, LIKES, "1")
    assert driver.current_url == page
    driver.get(page)
    wait_to_show(driver, LIKES, "1")
    assert not driver.find_element(By.CSS_SELECTOR, BUTTON).is_enabled()
    assert redis_server.client().get("{my-page-likes}:value") == "1"
    driver.execute_script("localStorage.clear()")


def test_a_like_without_an_answer_is_repeated_after_a_reload_and_counts_once(
    browser: Open, gunicorn: Gunicorn, redis_server: RedisServer, publish: Publish
) -> None:
    page = publish(example("Script"), example("Buttons"), counter=gunicorn.url)
    driver = browser()
    driver.get(page)
    wait_to_show(driver, LIKES, "0")
    driver.execute_script("""
    const real = window.fetch;
    window.fetch = async (...rest) => { await real(...rest); throw new TypeError("lost"); };
    """)
    driver.find_element(By.CSS_SELECTOR, BUTTON).click()
    wait_for(driver, "the like to count", lambda: redis_server.client().get("{my-page-likes}:value") == "1")
    wait_for(driver, "the button", lambda: driver.find_element(By.CSS_SELECTOR, BUTTON).is_enabled())
    driver.get(page)
    wait_to_show(driver, LIKES, "1")
    driver.find_element(By.CSS_SELECTOR, BUTTON).click()
    wait_for(driver, "the answer", lambda: not driver.find_element(By.CSS_SELECTOR, BUTTON).is_enabled())
    wait_for(driver, "it to be stored", lambda: "1" in driver.execute_script("return Object.values(localStorage)"))
    assert redis_server.client().get("{my-page-likes}:value") == "1"
    driver.execute_script("localStorage.clear()")


def test_an_increment_that_was_not_confirmed_is_repeated_and_counts_once(
    browser: Open, tmp_path: Path, redis_server: RedisServer, publish: Publish
) -> None:
    server = Gunicorn(tmp_path, REDIS_NODES=redis_server.address, DEADLINE_SECONDS="0.5")
    redis_server.client().set("{my-page}:value", 0)  # a new counter takes two commands
    driver = browser()
    with running(server):
        driver.get(publish(example("Themes"), counter=server.up().url))  # a connection, or nothing would be sent
        wait_to_show(driver, "#busuanzi_value_site_pv", "1")
        page = publish(example("Script"), counter=server.url)
        redis_server.signal(signal.SIGSTOP)
        Timer(2, redis_server.signal, [signal.SIGCONT]).start()
        driver.get(page)
        wait_to_show(driver, VALUE, "1")
        with urlopen(f"{server.url}/metrics") as answer:
            assert 'counter_increments_total{outcome="indeterminate"} ' in answer.read().decode()
    assert redis_server.client().get("{my-page}:value") == "1"


def test_a_form_works_without_javascript(
    browser: Open, gunicorn: Gunicorn, redis_server: RedisServer, publish: Publish
) -> None:
    driver = browser(javascript=False)
    driver.get(publish(example("Script"), example("Buttons"), counter=gunicorn.url))
    assert shown(driver, VALUE) == DASH
    driver.find_element(By.CSS_SELECTOR, BUTTON).click()
    wait_for(driver, "the counter's page", lambda: driver.current_url == f"{gunicorn.url}/c/my-page-likes")
    assert shown(driver, "#value") == "1"
    driver.refresh()
    assert shown(driver, "#value") == "1"
    driver.find_element(By.ID, "button").click()
    wait_for(driver, "the second", lambda: shown(driver, "#value") == "2")
    assert redis_server.client().get("{my-page-likes}:value") == "2"
    assert driver.find_element(By.ID, "badge").size["height"] == 20  # it was loaded, and has a size of its own


@pytest.mark.parametrize("prefix", ["busuanzi_value_", "vercount_value_", "busuanzi_"])
def test_the_ids_of_other_counters_work_by_changing_the_address(
    browser: Open, gunicorn: Gunicorn, redis_server: RedisServer, publish: Publish, prefix: str
) -> None:
    html = example("Themes").replace("busuanzi_value_", prefix)
    containers = prefix.partition("_")[0]
    html = html.replace("busuanzi_container_", f"{containers}_container_")
    pages = [publish(html, counter=gunicorn.url, path=path) for path in ("2026/12/first-post/index.html", "index.html")]
    driver = browser()
    for page, site, own in ((pages[0], "1", "1"), (pages[1], "2", "1"), (pages[0], "3", "2")):
        driver.get(page)
        wait_to_show(driver, f"#{prefix}site_pv", site)
        wait_to_show(driver, f"#{prefix}page_pv", own)
        wait_to_show(driver, f"#{prefix}site_uv", "1")
        assert shown(driver, f"#{containers}_container_page_pv") == f"{own} here"
    names = ("localhost", "localhost/2026-12-first-post", "localhost/-", "localhost/.visits")
    assert redis_server.client().mget(f"{{{name}}}:value" for name in names) == ["3", "2", "1", "1"]


def test_long_paths_are_different_counters(
    browser: Open, gunicorn: Gunicorn, redis_server: RedisServer, publish: Publish
) -> None:
    driver = browser()
    for end in ("一", "二"):
        driver.get(publish(example("Themes"), counter=gunicorn.url, path=f"{'很长的题目' * 3}{end}.html"))
        wait_to_show(driver, "#busuanzi_value_page_pv", "1")
    pages = [name for name in redis_server.client().smembers("counters") if "/" in name and "visits" not in name]
    assert len(pages) == 2


@pytest.mark.parametrize("what", ["Script", "Themes"])
def test_a_counter_that_is_down_changes_nothing_on_the_page(
    browser: Open, tmp_path: Path, redis_server: RedisServer, publish: Publish, what: str
) -> None:
    server = Gunicorn(tmp_path, REDIS_NODES=redis_server.address, DEADLINE_SECONDS="0.3")
    errors = "<script>window.errors = []; for (const kind of ['error', 'unhandledrejection'])"
    errors += " addEventListener(kind, (event) => window.errors.push(String(event.reason || event.message)));</script>"
    driver = browser()
    with running(server):
        # Otherwise the browser would hide the script's errors.
        script = example(what).replace("<script ", "<script crossorigin ")
        page = publish(errors, script, example("Buttons"), counter=server.up().url)
        driver.get(page)
        wait_to_show(driver, LIKES if what == "Script" else "#busuanzi_value_site_pv", "0" if what == "Script" else "1")
        before = redis_server.client().dbsize()
        redis_server.kill()
        for down in ("Redis", "the app"):
            if down == "the app":
                server.kill()
            driver.get(page)
            driver.find_element(By.CSS_SELECTOR, BUTTON)
            wait_for(driver, "it to load", lambda: driver.execute_script("return document.readyState") == "complete")
            driver.execute_async_script("setTimeout(arguments[0], 1500)")
            assert shown(driver, "h1") == "Blog"
            if what == "Script":
                assert shown(driver, VALUE) == DASH
            else:
                assert not driver.find_element(By.ID, "busuanzi_container_site_pv").is_displayed()
            assert driver.execute_script("return window.errors") == []
    assert before


def test_a_browser_that_stores_nothing_counts(browser: Open, gunicorn: Gunicorn, publish: Publish) -> None:
    refuse = """<script>for (const area of ["localStorage", "sessionStorage"])
    Object.defineProperty(window, area, { get() { throw new DOMException("refused", "SecurityError"); } });</script>"""
    driver = browser()
    driver.get(
        publish(refuse, example("Script").replace("defer", "defer data-once"), example("Buttons"), counter=gunicorn.url)
    )
    wait_to_show(driver, VALUE, "1")
    driver.find_element(By.CSS_SELECTOR, BUTTON).click()
    wait_to_show(driver, LIKES, "1")


def test_a_badge_counts_each_view(
    browser: Open, gunicorn: Gunicorn, redis_server: RedisServer, publish: Publish
) -> None:
    found = re.search(r"```markdown\n\[!\[visits\]\((.*?)\)\]", DOCS)
    assert found
    driver = browser(javascript=False)
    for expected in ("1", "2", "3"):
        driver.get(publish(f'<img src="{found[1]}">', counter=gunicorn.url))
        assert driver.find_element(By.TAG_NAME, "img").size["height"] == 20
        assert redis_server.client().get("{my-page}:value") == expected


def test_jsonp_and_pictures_of_countapi_work_in_a_page(
    browser: Open, gunicorn: Gunicorn, redis_server: RedisServer, publish: Publish
) -> None:
    html = """<meta name="referrer" content="no-referrer-when-downgrade"><div id="visits">...</div>
    <script>function cb(response) { document.getElementById("visits").innerText = response.value; }</script>
    <script async src="https://counter.example/hit/mysite.com/visits?callback=cb"></script>
    <img src="https://counter.example/hit/:HOST:/:PATHNAME:?img" alt="">"""
    driver = browser()
    driver.get(publish(html, counter=gunicorn.url, path="example/page.html"))
    wait_to_show(driver, "#visits", "1")
    wait_for(driver, "the picture", lambda: redis_server.client().get("{localhost/examplepage.html}:value") == "1")


CLIENT = Path(__file__).parent / "clients/countapi-js-1.0.2/index.js"
"""Of npm, unchanged. Only the host that it sends to is another one."""
LOADED = """<meta name="referrer" content="no-referrer-when-downgrade"><script>
const module = { exports: {} };
const require = () => (url) => fetch(url.replace("https://api.countapi.xyz", "https://counter.example"));
</script><script src="/client.js"></script>"""


def test_the_client_of_countapi_works_unchanged(
    browser: Open, gunicorn: Gunicorn, publish: Publish, tmp_path: Path
) -> None:
    driver = browser()
    page = publish(LOADED, counter=gunicorn.url, path="example/page.html")
    (tmp_path / "client.js").write_bytes(CLIENT.read_bytes())
    driver.get(page)

    def call(expression: str) -> dict[str, object]:
        script = f"const done = arguments[0]; module.exports.{expression}.then(done, (error) => done({{error}}));"
        found: dict[str, object] = driver.execute_async_script(script)
        return found

    hit = {"status": 200, "path": "mysite.com/visits"}
    assert call("hit('mysite.com', 'visits')") == hit | {"value": 1}
    assert call("hit('mysite.com', 'visits')") == hit | {"value": 2}
    assert call("get('mysite.com', 'visits')") == hit | {"value": 2}
    assert call("get('never')") == {"status": 404, "path": "default/never", "value": None}
    assert call("set('mysite.com', 'visits', 5)") == hit | {"status": 403, "old_value": 2, "value": 2}
    assert call("update('mysite.com', 'visits', 5)") == hit | {"status": 403, "value": 2}
    assert (
        call("info('mysite.com', 'visits')").items() >= {"namespace": "mysite.com", "key": "visits", "value": 2}.items()
    )
    assert call("create({namespace: 'test', key: 'mine'})") == {
        "status": 200,
        "path": "test/mine",
        "namespace": "test",
        "key": "mine",
        "value": 0,
    }
    assert "is not the name of a counter" in str(call("create({key: 'a b'})")["error"])
    assert call("visits()") == {"status": 200, "path": "localhost/examplepage.html", "value": 1}
    assert call("event('click')") == {"status": 200, "path": "localhost/click", "value": 1}


def test_independent_nodes_count_without_keys(
    browser: Open, tmp_path: Path, three_servers: list[RedisServer], publish: Publish
) -> None:
    nodes = ",".join(server.address for server in three_servers)
    driver = browser()
    with running(server := Gunicorn(tmp_path, TOPOLOGY="independent", REDIS_NODES=nodes)):
        driver.get(publish(example("Script"), example("Buttons"), counter=server.up().url))
        wait_to_show(driver, VALUE, "1")
        driver.find_element(By.CSS_SELECTOR, BUTTON).click()
        wait_to_show(driver, LIKES, "1")
    assert sum(int(server.client().get("{my-page-likes}:value") or 0) for server in three_servers) == 1
    driver.execute_script("localStorage.clear()")
