"""Chromium for the tests of the app: tabs, and what they show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from support.chromium import SWITCHES

DESKTOP = (1280, 900)

Open = Callable[..., WebDriver]


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[bool], WebDriver]]:
    """Start Chromium with JavaScript or without, once: each test has a tab of its own."""
    with ExitStack() as stack:

        @cache
        def started(javascript: bool) -> WebDriver:  # noqa: FBT001
            options = webdriver.ChromeOptions()
            options.binary_location = "/usr/bin/chromium"
            for switch in (*SWITCHES, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
                options.add_argument(switch)
            if not javascript:
                options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
            options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
            driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
            stack.callback(driver.quit)
            driver.set_page_load_timeout(20)
            return driver

        yield started


@pytest.fixture
def browser(chromium: Callable[[bool], WebDriver]) -> Iterator[Open]:
    """Open a tab with a size, a colour scheme, and JavaScript on or off."""
    opened: list[tuple[WebDriver, str]] = []

    def start(*, size: tuple[int, int] = DESKTOP, scheme: str = "light", javascript: bool = True) -> WebDriver:
        driver = chromium(javascript)
        opened.append((driver, driver.current_window_handle))
        driver.switch_to.new_window("tab")
        driver.get_log("browser")  # of tests before this one
        width, height = size
        driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )
        return driver

    yield start
    for driver, before in reversed(opened):
        driver.close()
        driver.switch_to.window(before)


def text(driver: WebDriver, element: str) -> str:
    return driver.find_element(By.ID, element).text


def shows(driver: WebDriver, element: str, expected: str) -> bool:
    return text(driver, element) == expected


def wait_for(driver: WebDriver, what: str, condition: Callable[[], bool]) -> None:
    # While another page loads, an element that was found can be gone before it is read.
    WebDriverWait(driver, 15, ignored_exceptions=[StaleElementReferenceException]).until(lambda _: condition(), what)
