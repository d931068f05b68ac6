"""The page in headless Chromium (Debian's ``chromium`` and ``chromium-driver``)."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from support.browsing import Open, shows, text, wait_for
from support.processes import Gunicorn, RedisServer, running

PHONE = (390, 844)


def picture(driver: WebDriver, name: str) -> None:
    """Keep a screenshot where ``COUNTER_SCREENSHOTS`` names a directory."""
    if directory := os.environ.get("COUNTER_SCREENSHOTS"):
        driver.save_screenshot(str(Path(directory) / f"{name}.png"))


def background(driver: WebDriver) -> str:
    return driver.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")


def unfold(driver: WebDriver) -> None:
    """Show who answered, which a visitor need not know."""
    driver.find_element(By.ID, "answered").click()


def test_a_click_counts_without_a_reload(browser: Open, gunicorn: Gunicorn, redis_server: RedisServer) -> None:
    driver = browser()
    driver.get(gunicorn.url)
    assert text(driver, "value") == "1"
    assert not driver.find_element(By.ID, "topology").is_displayed()
    unfold(driver)
    assert text(driver, "topology") == "standalone"
    driver.execute_script("window.sameDocument = true")
    for expected in ("2", "3"):
        driver.find_element(By.ID, "button").click()
        wait_for(driver, f"the value {expected}", partial(shows, driver, "value", expected))
        wait_for(driver, "the button", lambda: driver.find_element(By.ID, "button").is_enabled())
    assert driver.execute_script("return window.sameDocument")
    assert [item.text for item in driver.find_elements(By.CSS_SELECTOR, "#trail li")] == ["1 → 3", "1 → 2"]
    assert redis_server.client().get("{visits}:value") == "3"
    assert driver.title.startswith("3 ")
    assert not [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
    picture(driver, "desktop-light")


def test_a_click_shows_its_value_after_a_restore_has_lowered_the_counter(
    browser: Open, gunicorn: Gunicorn, redis_server: RedisServer
) -> None:
    driver = browser()
    redis_server.client().set("{visits}:value", 999)
    driver.get(gunicorn.url)
    assert text(driver, "value") == "1,000"
    redis_server.client().set("{visits}:value", 5)
    driver.find_element(By.ID, "button").click()
    wait_for(driver, "the value 6", partial(shows, driver, "value", "6"))


def test_a_visit_of_another_client_shows_without_a_reload(
    browser: Open, gunicorn: Gunicorn, redis_server: RedisServer
) -> None:
    driver = browser(scheme="dark")
    driver.get(gunicorn.url)
    redis_server.client().incrby("{visits}:value", 1233)
    wait_for(driver, "the others' visits", lambda: text(driver, "value") == "1,234")
    picture(driver, "desktop-dark")


def test_dark_and_light_differ(browser: Open, gunicorn: Gunicorn) -> None:
    seen = set()
    for scheme in ("light", "dark"):
        driver = browser(scheme=scheme)
        driver.get(gunicorn.url)
        seen.add(background(driver))
    assert len(seen) == 2


def test_it_works_without_javascript(browser: Open, gunicorn: Gunicorn) -> None:
    driver = browser(javascript=False)
    driver.get(gunicorn.url)
    driver.find_element(By.ID, "button").click()
    wait_for(driver, "the second visit", lambda: text(driver, "value") == "2")
    driver.find_element(By.ID, "name").send_keys("my-page")
    driver.find_element(By.CSS_SELECTOR, ".choose button").click()
    wait_for(driver, "the page of the counter", lambda: driver.current_url == f"{gunicorn.url}/c/my-page")
    assert "my-page" in driver.find_element(By.TAG_NAME, "pre").text
    assert not [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_everything_without_scrolling_sideways(
    browser: Open, tmp_path: Path, three_servers: list[RedisServer], scheme: str
) -> None:
    server = Gunicorn(
        tmp_path,
        TOPOLOGY="independent",
        REDIS_NODES=",".join(server.address for server in three_servers),
        NODE="a-node-with-quite-a-long-name-1.example.org",
    )
    for number, redis in enumerate(three_servers):
        redis.client().set("{visits}:value", 10**number * 12345)
    with running(server):
        driver = browser(size=PHONE, scheme=scheme)
        driver.get(server.up().url)
        unfold(driver)
        for _ in range(6):
            driver.find_element(By.ID, "button").click()
            wait_for(driver, "the button", lambda: driver.find_element(By.ID, "button").is_enabled())
        assert driver.find_element(By.ID, "warning").is_displayed()
        assert text(driver, "source") in {server.address for server in three_servers}
        assert driver.execute_script("return document.documentElement.scrollWidth") <= PHONE[0]
        button = driver.find_element(By.ID, "button").rect
        assert button["height"] >= 44
        picture(driver, f"phone-independent-{scheme}")


def test_the_page_shows_a_lost_store_and_its_recovery(
    browser: Open, gunicorn: Gunicorn, redis_server: RedisServer
) -> None:
    driver = browser()
    driver.get(gunicorn.url)
    redis_server.kill()
    wait_for(driver, "the alert", lambda: driver.find_element(By.ID, "problem").is_displayed())
    picture(driver, "store-lost")
    driver.get(gunicorn.url)
    assert driver.find_element(By.ID, "problem").is_displayed()
    assert text(driver, "value") == "\N{EN DASH}"
    redis_server.up()
    wait_for(driver, "the end of the alert", lambda: not driver.find_element(By.ID, "problem").is_displayed())
    assert int(text(driver, "value")) >= 1


ANSWERS = """
const real = window.fetch;
window.trouble = arguments[0];
window.fetch = async (url, options) => {
  if (options.method !== "POST" || !window.trouble) return real(url, options);
  const kind = window.trouble.length > 1 ? window.trouble.shift() : window.trouble[0];
  if (kind !== "store-unavailable") await real(url, options);
  if (kind === "lost") throw new TypeError(kind);
  return new Response(JSON.stringify({ code: kind, detail: kind }), { status: 503, headers: { "Retry-After": "0.1" } });
};
"""
"""Increments reach the replica, except where the answer says otherwise, but its answers do not reach the page."""


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (["lost"], "It is not known whether"),
        (["store-indeterminate", "store-unavailable"], "It is not known whether"),
        (["store-unavailable"], "Not counted"),
    ],
    ids=["lost", "indeterminate", "unavailable"],
)
def test_what_may_have_counted_is_said_and_the_next_click_does_not_count_it_again(
    browser: Open, gunicorn: Gunicorn, redis_server: RedisServer, trouble: list[str], said: str
) -> None:
    def click() -> None:
        driver.find_element(By.ID, "button").click()
        wait_for(driver, "the button", lambda: driver.find_element(By.ID, "button").is_enabled())

    driver = browser()
    driver.get(gunicorn.url)
    driver.execute_script(ANSWERS, trouble)
    for _ in range(2):  # the second one may get no further
        click()
        assert text(driver, "problem").startswith(said)
    driver.execute_script("window.trouble = null")
    for expected in ("2", "3"):
        click()
        assert text(driver, "value") == redis_server.client().get("{visits}:value") == expected
        assert not driver.find_element(By.ID, "problem").is_displayed()


def test_the_text_of_a_maintenance_is_shown_at_once_and_stays_until_the_next_click(
    browser: Open, gunicorn: Gunicorn, redis_server: RedisServer
) -> None:
    driver = browser()
    driver.get(gunicorn.url)
    driver.execute_script("""
    const real = window.fetch;
    window.posts = 0;
    window.shut = true;
    window.fetch = async (url, options) => {
      if (options.method !== "POST" || !window.shut) return real(url, options);
      window.posts += 1;
      const answer = { code: "maintenance", detail: "Back soon." };
      return new Response(JSON.stringify(answer), { status: 503, headers: { "Retry-After": "120" } });
    };
    """)
    driver.find_element(By.ID, "button").click()
    wait_for(driver, "the text", lambda: text(driver, "problem") == "Not counted: Back soon.")
    assert driver.execute_script("return window.posts") == 1
    redis_server.client().incr("{visits}:value")
    wait_for(driver, "a poll", lambda: text(driver, "value") == "2")
    assert text(driver, "problem") == "Not counted: Back soon."
    driver.execute_script("window.shut = false")
    driver.find_element(By.ID, "button").click()
    wait_for(driver, "the end of the text", lambda: not driver.find_element(By.ID, "problem").is_displayed())


def test_an_open_page_shows_the_text_of_a_maintenance_that_has_begun(browser: Open, gunicorn: Gunicorn) -> None:
    driver = browser()
    driver.get(gunicorn.url)
    driver.execute_script("""
    const answer = { code: "maintenance", detail: "Back at ten." };
    window.fetch = async () => new Response(JSON.stringify(answer), { status: 503 });
    """)
    wait_for(driver, "the text", partial(shows, driver, "problem", "Back at ten."))


def test_an_answer_that_never_comes_is_given_up(browser: Open, gunicorn: Gunicorn) -> None:
    driver = browser()
    driver.get(gunicorn.url)
    driver.execute_script("""
    const real = window.setTimeout;
    window.setTimeout = (call, ms) => real(call, ms > 10000 ? 100 : ms);
    window.fetch = (url, options) => new Promise((_, fail) =>
      options.signal?.addEventListener("abort", () => fail(new DOMException("given up", "AbortError"))));
    """)
    driver.find_element(By.ID, "button").click()
    wait_for(driver, "the doubt", lambda: text(driver, "problem").endswith("it is counted only once."))
    assert driver.find_element(By.ID, "button").is_enabled()


def test_a_machine_that_slept_between_two_attempts_repeats_no_key(browser: Open, gunicorn: Gunicorn) -> None:
    driver = browser()
    driver.get(gunicorn.url)
    driver.execute_script("""
    const real = window.fetch, now = Date.now;
    window.posts = 0;
    window.fetch = async (url, options) => {
      if (options.method !== "POST") return real(url, options);
      window.posts += 1;
      Date.now = () => now() + 601000;
      throw new TypeError("lost");
    };
    """)
    driver.find_element(By.ID, "button").click()
    wait_for(driver, "the doubt", lambda: text(driver, "problem").endswith("counts another one."))
    assert driver.execute_script("return window.posts") == 1


def test_a_click_after_the_window_counts_another_one_and_the_page_says_so(
    browser: Open, gunicorn: Gunicorn, redis_server: RedisServer
) -> None:
    driver = browser()
    driver.get(gunicorn.url)
    driver.execute_script(ANSWERS, ["lost"])
    driver.find_element(By.ID, "button").click()
    wait_for(driver, "the doubt", lambda: text(driver, "problem").endswith("it is counted only once."))
    driver.execute_script("window.trouble = null; const now = Date.now; Date.now = () => now() + 601000")
    wait_for(driver, "the end of the window", lambda: text(driver, "problem").endswith("counts another one."))
    driver.find_element(By.ID, "button").click()
    wait_for(driver, "the answer", lambda: text(driver, "value") == "3")
    assert redis_server.client().get("{visits}:value") == "3"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_of_a_counter_fits_a_phone(browser: Open, gunicorn: Gunicorn, scheme: str) -> None:
    driver = browser(size=PHONE, scheme=scheme)
    driver.get(f"{gunicorn.url}/c/{'n' * 64}/{'m' * 64}")
    assert driver.execute_script("return document.documentElement.scrollWidth") <= PHONE[0]
    picture(driver, f"phone-counter-{scheme}")
    driver = browser(scheme=scheme)
    driver.get(f"{gunicorn.url}/c/blog.example/first-post")
    picture(driver, f"desktop-counter-{scheme}")
