"""Cross-origin resource sharing: whose scripts may read the answers (https://fetch.spec.whatwg.org/#http-cors-protocol).

Never with credentials: the counter has none. A request is answered, and counts, whatever its origin.
"""

from __future__ import annotations

from collections.abc import Sequence

EXPOSED = "Retry-After, X-Counter-Replica, X-Path"
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST",
    # Cache-Control: how old a value may be. Content-Type: clients say it of a body that nobody reads.
    "Access-Control-Allow-Headers": "Cache-Control, Content-Type, Idempotency-Key",
    "Access-Control-Max-Age": "86400",
}
ANY = "*"


class Origins:
    """The origins whose scripts may read."""

    def __init__(self, allowed: Sequence[str]) -> None:
        """Take origins such as ``https://blog.example``; ``*`` allows all."""
        self._allowed = frozenset(allowed)

    def headers(self, origin: str | None) -> dict[str, str]:
        """Return the headers of an answer to a request whose header ``Origin`` is this."""
        if ANY in self._allowed:
            return {"Access-Control-Allow-Origin": ANY, "Access-Control-Expose-Headers": EXPOSED}
        vary = {"Vary": "Origin"}
        if origin not in self._allowed or origin is None:
            return vary
        return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": EXPOSED, **vary}
