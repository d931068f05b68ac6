"""What people put on their own pages: the badge, the script, and the counter's own page with what to copy."""

from __future__ import annotations

import re
from http import HTTPStatus
from pathlib import Path

from flask import Blueprint, Response, jsonify, redirect, render_template, request, url_for

from counter import badge
from counter.counting import check_name
from counter.pages import html
from counter.problems import Problem
from counter.service import counting
from counter.store.types import Counted
from counter.visits import is_visit

routes = Blueprint("embedding", __name__)
ASSETS = Path(__file__).parent / "assets"
SHOWN_SECONDS = 2.0
"""How old a value may be that a badge or a page shows without counting: a confirmed read costs Redis a write."""
SCRIPT_SECONDS = 3600
# What makes GitHub's image proxy and browsers ask again for each view. Without a validator, nobody can only revalidate.
NOT_STORED = {
    "Cache-Control": "no-cache, no-store, max-age=0, must-revalidate",
    "Pragma": "no-cache",
    "Expires": "0",
}
REVALIDATED = {"Cache-Control": "no-cache, max-age=0, must-revalidate"}
# Pages may require this of all that they embed.
ANYWHERE = {"Cross-Origin-Resource-Policy": "cross-origin"}


def packed(script: str) -> str:
    """Return a script without comments on lines of their own, line ends and blanks that do not separate words.

    It fits a script whose statements end with semicolons, and whose texts have no blanks beside punctuation.
    """
    lines = re.sub(r"^\s*(//.*)?\n|^ +", "", script, flags=re.MULTILINE)
    return re.sub(r" ?([=(){}\[\],;:?&|<>+*!]) ?", r"\1", lines.replace("\n", "")).replace(";}", "}")


SCRIPT = packed((ASSETS / "counter.js").read_text(encoding="utf-8"))
# Also the pages of counters, which show a number for any name.
_NOT_FOR_ROBOTS = ("api/", "badge/", "c/", "create", "get/", "hit/", "info/", "set/", "update/")
ROBOTS = "".join(["User-agent: *\n", *(f"Disallow: /{path}\n" for path in _NOT_FOR_ROBOTS)])


def count_or_look(name: str, *, counts: bool) -> Counted:
    """Return the value, after counting one if that is asked for and this is a visit; raises ``Problem``."""
    check_name(name)
    return counting().count(name) if counts and is_visit(request) else counting().look(name, SHOWN_SECONDS)


@routes.get("/badge/<counter:name>.svg")
def picture(name: str) -> Response:
    """Return the badge as a picture. Where no value is known, it says so, with the status of the problem."""
    options = badge.Options.of(name, request.args)
    check_name(name)
    status, headers = HTTPStatus.OK, {}
    try:
        message = options.text(count_or_look(name, counts=options.counts).value)
    except Problem as problem:
        message, status = "unavailable", problem.status
        headers = {"Retry-After": str(problem.retry_after)} if problem.retry_after is not None else {}
    style, parts = badge.STYLES[options.style], badge.parts(options, message)
    text = render_template(
        "badge-social.svg" if options.style == "social" else "badge.svg",
        style=style,
        parts=parts,
        width=parts[1].left + parts[1].width,
        title=f"{options.label}: {message}" if options.label else message,
    )
    response = Response(re.sub(r"\n\s*", "", text), status, mimetype="image/svg+xml")
    response.headers.update(headers | ANYWHERE | {"Content-Security-Policy": "default-src 'none'"})
    return stored(response, counts=options.counts or status != HTTPStatus.OK)


@routes.get("/badge/<counter:name>.json")
def endpoint(name: str) -> Response:
    """Return the badge for shields.io (https://shields.io/badges/endpoint-badge)."""
    options = badge.Options.of(name, request.args)
    counted = count_or_look(name, counts=options.counts)
    response = jsonify(
        schemaVersion=1,
        label=options.label,
        message=options.text(counted.value),
        color=options.color,
        labelColor=options.label_color,
        style=options.style,
    )
    return stored(response, counts=options.counts)


def stored(response: Response, *, counts: bool) -> Response:
    """Forbid to store a response that counted; let others be stored, and confirmed with each view."""
    if counts:
        response.headers.update(NOT_STORED)
        return response
    response.headers.update(REVALIDATED)
    response.add_etag()
    response.make_conditional(request)
    return response


@routes.get("/counter.js")
def script() -> Response:
    """Return the script for pages."""
    return asset(SCRIPT, "text/javascript")


@routes.get("/robots.txt")
def robots() -> Response:
    """Ask robots to leave alone what counts and what only shows a number."""
    return asset(ROBOTS, "text/plain")


@routes.get("/openapi.json")
def openapi() -> Response:
    """Return the description of this interface."""
    return asset((ASSETS / "openapi.json").read_text(encoding="utf-8"), "application/json")


def asset(text: str, mimetype: str) -> Response:
    """Return a text that only another version changes."""
    response = Response(text, mimetype=mimetype)
    response.headers.update(ANYWHERE | {"Cache-Control": f"public, max-age={SCRIPT_SECONDS}"})
    response.add_etag()
    response.make_conditional(request)
    return response


@routes.get("/c")
def choose() -> Response:
    """Lead from the form of the start page to the page of a counter."""
    name = request.args.get("name", "").strip()
    check_name(name)
    return redirect(url_for(".page", name=name), HTTPStatus.SEE_OTHER)  # type: ignore[return-value]


@routes.get("/c/<counter:name>")
def page(name: str) -> Response:
    """Show a counter without counting, and what to copy to other pages."""
    check_name(name)
    counted, failure = None, None
    try:
        counted = counting().look(name)
    except Problem as problem:
        failure = problem
    return html("counter.html", failure, name=name, counted=counted, snippets=snippets(name, request.url_root))


@routes.post("/c/<counter:name>")
def count(name: str) -> Response:
    """Count one for a form, and lead to the counter's page: to load that again counts nothing."""
    check_name(name)
    try:
        counting().count(name)
    except Problem as problem:
        return html("counter.html", problem, name=name, counted=None, snippets=snippets(name, request.url_root))
    return redirect(url_for(".page", name=name), HTTPStatus.SEE_OTHER)  # type: ignore[return-value]


def snippets(name: str, root: str) -> list[tuple[str, str, str]]:
    """Return titles, notes and texts to copy for a counter; ``root`` ends with a slash."""
    image, link = f"{root}badge/{name}.svg?count=1", f"{root}c/{name}"
    script = f"""<script defer src="{root}counter.js" data-counter="{name}"></script>
<span data-counter-value="{name}"></span> visits"""
    button = f'<form method="post" action="{link}"><button data-counter-like="{name}">Like</button></form>'
    return [
        ("Markdown", "A badge that counts each view, for a README.", f"[![{name}]({image})]({link})"),
        ("HTML", "The same for a page.", f'<a href="{link}"><img src="{image}" alt="{name}"></a>'),
        ("Script", "Counts a visit and shows the number; with data-once, once per visitor and tab.", script),
        ("Button", "Works without JavaScript. With the script above, each visitor counts once.", button),
        ("Command line", "From a program.", f"curl -X POST {root}api/counters/{name}/increment"),
    ]
