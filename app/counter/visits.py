"""Which requests are visits: not those that only ask for headers, or load a page before anybody opens it."""

from __future__ import annotations

import re

from flask import Request

_AHEAD = ("Sec-Purpose", "Purpose", "X-Purpose", "X-Moz")
# CUBOT is a brand of phones.
_ROBOTS = re.compile("(?<!cu)bot|crawl|spider|slurp|preview|facebookexternalhit|embedly", re.IGNORECASE)


def is_visit(request: Request) -> bool:
    """Tell whether a GET or POST may count. HEAD never does, nor does what browsers load ahead or as a preview."""
    ahead = " ".join(request.headers.get(name, "") for name in _AHEAD)
    return request.method != "HEAD" and not re.search("prefetch|prerender|preview", ahead, re.IGNORECASE)


def is_robot(request: Request) -> bool:
    """Tell whether a known robot asks. Robots may call themselves anything, so this only finds honest ones."""
    return _ROBOTS.search(request.headers.get("User-Agent", "")) is not None
