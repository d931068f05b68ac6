"""Problem documents (RFC 9457): every error a client sees is one, with a stable ``code``."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from flask import Response


class Problem(Exception):  # noqa: N818  # the RFC's own word
    """An error with its answer: raise it anywhere below a view."""

    def __init__(
        self, status: HTTPStatus, code: str, detail: str, *, retry_after: int | None = None, **members: Any
    ) -> None:
        """Take the HTTP status, the stable code, a sentence for people, and extension members."""
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after = retry_after
        self.members = members

    def response(self) -> Response:
        """Return the document as ``application/problem+json``."""
        document = {
            "type": f"urn:counter:problem:{self.code}",
            "title": self.status.phrase,
            "status": self.status.value,
            "code": self.code,
            "detail": self.detail,
            **self.members,
        }
        response = Response(json.dumps(document) + "\n", self.status, mimetype="application/problem+json")
        if self.retry_after is not None:
            response.headers["Retry-After"] = str(self.retry_after)
        return response
