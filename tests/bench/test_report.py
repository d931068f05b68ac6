"""The page and the text: the same figures as summary.json, nothing from outside, something beside every chart."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from bench.report import FORMATS, html, lookup, markdown
from bench.summary import summarise
from support.ansible import ROOT
from support.recordings import RUNS

NAMES_WITH_DIGITS = re.compile(r"p50|p95|p99\.9|p99|95%")
# Ticks of axes, the seconds of the time table and the names of lines are not figures.
NO_FIGURES = ("tick", "axis", "legend")


class Page(HTMLParser):
    """Collects ``<data>`` and ``data-text`` elements, and the digits of all other text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[dict[str, str | None]] = []
        self.figures: list[tuple[dict[str, str | None], str]] = []
        self.texts: list[tuple[str, str]] = []
        self.loose: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs
        if tag not in ("meta", "path", "rect", "circle", "br"):
            self.stack.append({"tag": tag, **dict(attrs)})

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        while self.stack and self.stack.pop()["tag"] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not data.strip() or not self.stack:
            return
        inner = self.stack[-1]
        if inner["tag"] == "data":
            self.figures.append((inner, data))
        elif "data-text" in inner:
            self.texts.append((str(inner["data-text"]), data))
        elif not any(e["tag"] in ("style", "script", "svg", "title") or str(e.get("class")).startswith(NO_FIGURES) for e in self.stack):
            self.loose += re.findall(r"\S*\d\S*", NAMES_WITH_DIGITS.sub("", data))


@pytest.fixture(params=RUNS)
def summary(request: pytest.FixtureRequest, recorded: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    return recorded(request.param)


@pytest.fixture
def page(summary: dict[str, Any]) -> Page:
    return Page(html(summary))


def test_every_figure_is_that_of_the_summary(summary: dict[str, Any], page: Page) -> None:
    assert len(page.figures) > 300
    for attributes, shown in page.figures:
        value = lookup(summary, str(attributes["data-path"]))
        assert json.loads(str(attributes["value"])) == value
        assert shown == FORMATS[str(attributes["data-format"])](value)


def test_what_is_shown_is_the_value_rounded(page: Page) -> None:
    """Independently of the formats: read the number back, and allow half a unit of its last digit."""
    for attributes, shown in page.figures:
        value = json.loads(str(attributes["value"]))
        if isinstance(value, bool) or not isinstance(value, int | float):
            assert shown == str(value)
            continue
        number = shown.replace(",", "").rstrip("%")
        decimals = len(number.partition(".")[2].partition("e")[0])
        unit = 10.0 ** (float(number.partition("e")[2] or 0) - decimals)
        expected = value * 100 if shown.endswith("%") else value
        assert abs(float(number) - expected) <= 0.5001 * unit


def test_every_sentence_is_that_of_the_summary(summary: dict[str, Any], page: Page) -> None:
    assert page.texts
    for path, shown in page.texts:
        assert shown == str(lookup(summary, path))


def test_no_figure_comes_from_elsewhere(page: Page) -> None:
    assert page.loose == []


def test_every_measured_arm_and_count_is_on_the_page(summary: dict[str, Any], page: Page) -> None:
    paths = {str(attributes["data-path"]) for attributes, _ in page.figures}
    for index in range(len(summary["arms"])):
        assert {f"arms.{index}.throughput_rps", f"arms.{index}.ledger.0.gain", f"arms.{index}.generator.cpu_cores"} <= paths
    for index in range(len(summary["counts"])):
        assert f"counts.{index}.saturation.latency_ms.p99" in paths


def test_page_needs_nothing_from_outside(page: Page, summary: dict[str, Any]) -> None:
    for name, value in page.attributes:
        if name in ("src", "href", "action", "poster", "data", "xlink:href"):
            assert str(value).startswith("#"), f"{name}={value}"
    text = html(summary)
    assert "url(" not in text
    assert "@import" not in text
    assert len(text.encode()) <= 2**20


def test_every_chart_has_a_title_a_description_and_axes(summary: dict[str, Any]) -> None:
    charts = re.findall(r'<svg class="chart".*?</svg>', html(summary), re.DOTALL)
    assert len(charts) >= 6
    for chart in charts:
        assert re.search(r"<title[^>]*>[^<]+</title><desc[^>]*>[^<]+</desc>", chart)
        assert chart.count('class="axis"') >= 1


def test_text_for_a_pull_request_has_the_verdict_and_the_same_figures(summary: dict[str, Any]) -> None:
    text = markdown(summary)
    assert summary["verdict"]["sentence"] in text
    assert len(text) < 3000
    for row in summary["counts"]:
        assert FORMATS["rate"](row["saturation"]["throughput_rps"]) in text


def test_what_was_not_measured_is_not_called_not_checked(copy_of: Callable[[str], Path]) -> None:
    """It has a limit, so it decides the verdict."""
    run = copy_of("same-count")
    for file in (run / "resources").glob("*.csv"):
        file.unlink()
    results = {re.findall(">([^<]*)<", line)[2]: line for line in html(summarise(run)).splitlines() if 'data-text="verdict.checks' in line}
    assert "not measured" in results["machine CPU"]
    assert "not checked" in results["p99"]


def test_the_example_is_what_the_code_makes() -> None:
    example = ROOT / "docs/example-report"
    summary = json.loads((example / "summary.json").read_text())
    schema = json.loads((ROOT / "bench/summary.schema.json").read_text())
    jsonschema.validate(summary, schema, cls=jsonschema.Draft202012Validator)
    assert (example / "report.html").read_text() == html(summary)
    assert (example / "summary.md").read_text() == markdown(summary)


def test_text_from_outside_cannot_become_markup(recorded: Callable[[str], dict[str, Any]]) -> None:
    summary = json.loads(json.dumps(recorded("busy-machine")))
    summary["arms"][0]["errors"] = [{"request": "<script>alert(1)</script>", "error": "<b>", "count": 1}]
    assert "<script>alert" not in html(summary)
