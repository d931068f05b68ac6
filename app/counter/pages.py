"""Pages for people: they work without JavaScript, and load nothing from elsewhere."""

from __future__ import annotations

import secrets
from http import HTTPStatus
from typing import Any

from flask import Response, render_template

from counter.problems import Problem
from counter.service import counting


def html(template: str, failure: Problem | None, **values: Any) -> Response:
    """Return a page; with a failure, which it also shows, its status."""
    nonce = secrets.token_urlsafe(12)
    text = render_template(template, config=counting().config, failure=failure, nonce=nonce, **values)
    response = Response(text, failure.status if failure else HTTPStatus.OK, mimetype="text/html")
    response.headers["Content-Security-Policy"] = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; "
        "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    response.headers["Referrer-Policy"] = "no-referrer"
    if failure and failure.retry_after is not None:
        response.headers["Retry-After"] = str(failure.retry_after)
    return response
