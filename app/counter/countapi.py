"""The paths of CountAPI, an interface that many pages still speak: a thin layer over the same counting.

Only these paths, and badges that ask for it, count with GET. Nobody owns a counter yet, so nobody may set one.
"""

from __future__ import annotations

import json
import re
import uuid
from base64 import b64decode
from http import HTTPStatus
from typing import Any, NoReturn
from urllib.parse import urlsplit

from flask import Blueprint, Response, request

from counter.counting import check_name
from counter.problems import Problem
from counter.service import counting
from counter.visits import is_visit

routes = Blueprint("countapi", __name__)
DEFAULT = "default"
"""The namespace there of counters without one."""
PIXEL = b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
LONGEST, SHORTEST = 64, 3
INVALID_CALLBACK = "invalid-callback"
_CALLBACK = re.compile(r"[A-Za-z_$][A-Za-z0-9_$.]{0,99}")
_REFUSED = re.compile("[^A-Za-z0-9._-]")


@routes.before_request
def check_callback() -> None:
    """Refuse what would run as anything else than a call, before anything is counted."""
    callback = request.args.get("callback")
    if callback is not None and not _CALLBACK.fullmatch(callback):
        detail = f"callback={callback[:80]!r} must be the name of a function, for example callback=show."
        refuse(HTTPStatus.BAD_REQUEST, INVALID_CALLBACK, detail)


@routes.get("/hit/<counter:name>")
def hit(name: str) -> Response:
    """Count one. A request that is no visit (``counter.visits``) gets the value."""
    name = named(name)
    counted = counting().count(name) if is_visit(request) else counting().look(name)
    return answer(name, value=counted.value)


@routes.get("/get/<counter:name>")
def get(name: str) -> Response:
    """Return the value."""
    name = named(name)
    counted = counting().find(name)
    return answer(name, HTTPStatus.OK if counted else HTTPStatus.NOT_FOUND, value=counted.value if counted else None)


@routes.get("/info/<counter:name>")
def info(name: str) -> Response:
    """Return what is known of a counter. Nothing tells when it was made, and it never ends."""
    name = named(name)
    counted = counting().find(name)
    namespace, _, key = shown(name).partition("/")
    return answer(
        name,
        HTTPStatus.OK if counted else HTTPStatus.NOT_FOUND,
        namespace=namespace,
        key=key,
        ttl=None,
        created=None,
        update_lowerbound=0,
        update_upperbound=0,
        enable_reset=False,
        value=counted.value if counted else None,
    )


@routes.get("/set/<counter:name>")
def set_value(name: str) -> Response:
    """Refuse: only an owner may set a counter."""
    integer("value")
    return unchanged(name, "old_value", "value")


@routes.get("/update/<counter:name>")
def update(name: str) -> Response:
    """Refuse: only an owner may add another amount than one."""
    integer("amount")
    return unchanged(name, "value")


@routes.get("/create")
def create() -> Response:
    """Make a counter with the value 0. Only an owner may give it another value, or let others set it."""
    key, namespace = request.args.get("key") or str(uuid.uuid4()), request.args.get("namespace")
    name = named(f"{namespace}/{key}" if namespace else key)
    wanted = [f"{parameter}={given}" for parameter in ("value", "enable_reset") if (given := integer(parameter, 0))]
    if wanted:
        refuse(HTTPStatus.FORBIDDEN, "owner-needed", f"{wanted[0]}: only the owner of a counter may ask for this.")
    if not is_visit(request):
        refuse(HTTPStatus.FORBIDDEN, "no-visit", "A request that loads ahead makes no counter.")
    if not counting().create(name):
        refuse(HTTPStatus.CONFLICT, "counter-exists", f"There is a counter {name!r}. To count on it, use /hit/{name}.")
    namespace, _, key = shown(name).partition("/")
    return answer(name, namespace=namespace, key=key, value=0)


def unchanged(name: str, *members: str) -> Response:
    """Return 403 with the value that stays, or 404."""
    name = named(name)
    counted = counting().find(name)
    value = counted.value if counted else None
    status = HTTPStatus.FORBIDDEN if counted else HTTPStatus.NOT_FOUND
    return answer(name, status, **dict.fromkeys(members, value))


def named(text: str) -> str:
    """Return the counter that a path names, after the words in it that stand for a part of the page's address."""
    try:
        page = urlsplit(request.headers.get("Referer", ""))
    except ValueError:
        page = urlsplit("")
    words = {":HOST:": page.hostname or "", ":PATHNAME:": page.path, ":PATH:": page.path}
    if not page.hostname and any(part in words for part in text.split("/")):
        detail = f"{text[:80]!r}: this page does not tell its address. Write a name instead, for example my-page."
        refuse(HTTPStatus.BAD_REQUEST, "invalid-name", detail)
    parts = [
        _REFUSED.sub("", words[part])[:LONGEST].ljust(SHORTEST, ".") if part in words else part
        for part in text.split("/")
    ]
    name = "/".join(parts).removeprefix(f"{DEFAULT}/")
    check_name(name)
    return name


def shown(name: str) -> str:
    """Return the path of a counter as there."""
    return name if "/" in name else f"{DEFAULT}/{name}"


def integer(parameter: str, default: int | None = None) -> int:
    """Return a parameter of the query; without a default, it must be there."""
    text = request.args.get(parameter, "" if default is None else str(default))
    if not re.fullmatch("-?[0-9]{1,15}", text):
        detail = f"{parameter}={text[:80]!r} must be a whole number of at most 15 digits, for example {parameter}=1."
        refuse(HTTPStatus.BAD_REQUEST, "invalid-number", detail)
    return int(text)


def refuse(status: HTTPStatus, code: str, detail: str) -> NoReturn:
    """End the request with a problem."""
    raise Problem(status, code, detail)


def answer(name: str, status: HTTPStatus = HTTPStatus.OK, **members: Any) -> Response:
    """Return members in the form that the query asks for."""
    response = formed(members, status)
    response.headers["X-Path"] = shown(name)
    return response


def formed(members: dict[str, Any], status: HTTPStatus) -> Response:
    """Return JSON; with ``img``, a picture of one pixel; with ``callback``, a call of that function."""
    if "img" in request.args:
        response = Response(PIXEL, status, mimetype="image/gif")
    elif callback := request.args.get("callback"):
        # A page can only read what runs, so the status is a member. Before it a comment: nothing else begins the text.
        text = f"/**/{callback}({json.dumps(members | {'code': status.value})});\n"
        response = Response(text, mimetype="text/javascript")
    else:
        response = Response(json.dumps(members) + "\n", status, mimetype="application/json")
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response


@routes.errorhandler(Problem)
def handle_problem(problem: Problem) -> Response:
    """Answer in the form that the query asks for; else with the problem document, which also has ``error`` as there."""
    problem.members["error"] = problem.detail
    if problem.code == INVALID_CALLBACK or not {"img", "callback"} & set(request.args):
        return problem.response()
    members = {"value": None, "error": problem.detail}
    response = formed(members, problem.status)
    if problem.retry_after is not None:
        response.headers["Retry-After"] = str(problem.retry_after)
    return response
