"""Writes the figures of a run as ``summary.json`` for programs, ``summary.md`` for pull requests and ``report.html`` for readers.

The page is one file that loads nothing else. ``number(PATH, FORMAT)`` prints each figure as a ``<data>`` element with its path
in ``summary.json``, so that a test can compare all of them.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from bench import pictures

TEMPLATES = Path(__file__).parent / "templates"


def _milliseconds(value: float) -> str:
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


FORMATS: dict[str, Callable[[Any], str]] = {
    "count": lambda value: f"{value:,}",
    "rate": lambda value: f"{value:,.0f}",
    "ms": _milliseconds,
    "cores": lambda value: f"{value:.2f}",
    "mib": lambda value: f"{value:,.0f}",
    "ratio": lambda value: f"{value:.2f}",
    "percent": lambda value: f"{value:.1%}",
    "change": lambda value: f"{value:+.1%}",
    "plain": lambda value: f"{value:g}" if isinstance(value, (int, float)) else str(value),
    "small": lambda value: f"{value:.2g}",
}
NOTHING = "–"


def lookup(summary: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path, with list items by index. Raises KeyError, IndexError."""
    value: Any = summary
    for key in path.split("."):
        value = value[int(key)] if isinstance(value, list) else value[key]
        if value is None:
            return None
    return value


def write(summary: Mapping[str, Any], directory: Path) -> None:
    """Write the three files into ``directory``."""
    (directory / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    (directory / "summary.md").write_text(markdown(summary))
    (directory / "report.html").write_text(html(summary))


def html(summary: Mapping[str, Any]) -> str:
    """The report as an HTML page."""

    def number(path: str, form: str = "plain") -> Markup:
        value = lookup(summary, path)
        if value is None:
            return Markup(NOTHING)
        return Markup('<data value="{}" data-path="{}" data-format="{}">{}</data>').format(json.dumps(value), path, form, FORMATS[form](value))

    def text(path: str) -> Markup:
        return Markup('<span data-text="{}">{}</span>').format(path, lookup(summary, path))

    page = environment(autoescape=True)
    page.filters["at"] = lambda path: lookup(summary, path)
    assets = {name: Markup((TEMPLATES / f"report.{name}").read_text()) for name in ("css", "js")}
    return page.get_template("report.html.j2").render(s=summary, number=number, text=text, charts=pictures.charts(summary), **assets)


def markdown(summary: Mapping[str, Any]) -> str:
    """The report as Markdown for a pull request."""

    def number(path: str, form: str = "plain") -> str:
        value = lookup(summary, path)
        return NOTHING if value is None else FORMATS[form](value)

    return environment(autoescape=False).get_template("summary.md.j2").render(s=summary, number=number)


def environment(autoescape: bool) -> jinja2.Environment:
    """The template environment; an undefined name in a template is an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=autoescape, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
