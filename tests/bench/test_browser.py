"""The page in the distribution's Chromium, at desktop and phone width; screenshots go to tests/screenshots."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bench.report import html
from support.ansible import ROOT
from support.chromium import SWITCHES

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium from requirements/dev.txt")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.fail("needs Chromium: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for switch in SWITCHES:
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
    yield driver
    driver.quit()


@pytest.mark.parametrize(("name", "width"), [("desktop", 1280), ("phone", 390)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_loads_nothing_and_shows_its_charts(
    browser: Any, name: str, width: int, scheme: str, tmp_path: Path, recorded: Callable[[str], dict[str, Any]]
) -> None:
    page = tmp_path / "report.html"
    page.write_text(html(recorded("busy-machine")))
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 600})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    browser.get_log("performance")
    browser.get(page.as_uri())

    assert browser.get_log("browser") == []
    requested = [entry["message"] for entry in browser.get_log("performance") if "Network.requestWillBeSent" in entry["message"]]
    assert all(page.as_uri() in message for message in requested)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(int(part) for part in background[4:-1].split(",")) < 200) == (scheme == "dark")
    heights = browser.execute_script("return [...document.querySelectorAll('svg.chart')].map((svg) => svg.getBoundingClientRect().height)")
    assert len(heights) >= 6
    assert min(heights) > 150

    screenshots = ROOT / "tests/screenshots"
    screenshots.mkdir(exist_ok=True)
    browser.save_screenshot(str(screenshots / f"report-{name}-{scheme}.png"))


def test_pointer_shows_the_nearest_points(browser: Any, tmp_path: Path, recorded: Callable[[str], dict[str, Any]]) -> None:
    page = tmp_path / "report.html"
    page.write_text(html(recorded("busy-machine")))
    browser.get(page.as_uri())
    chart = browser.find_element("css selector", "svg.chart circle")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", chart)
    webdriver.ActionChains(browser).move_to_element(chart).perform()
    tips = [tip.text for tip in browser.find_elements("css selector", ".tip") if tip.is_displayed()]
    assert len(tips) == 1
    assert "replica" in tips[0]
