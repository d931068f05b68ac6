"""The HTTP interface: a page for people, JSON for programs, health and metrics for the operator."""

from __future__ import annotations

import logging
import math
import secrets
import time
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, jsonify, render_template, request
from werkzeug.exceptions import HTTPException

from counter import lifecycle, metrics
from counter.config import Config
from counter.names import NAME_RULE, VISITS, is_counter_name
from counter.problems import Problem
from counter.store.types import Counted, IndeterminateError, NodeState, Store, StoreError

log = logging.getLogger(__name__)


def register(app: Flask, config: Config, store: Store) -> None:
    """Add all routes and error handlers to ``app``."""
    retry_after = max(1, math.ceil(config.deadline / 5))

    def count(name: str, operation_id: str) -> Counted:
        started = time.perf_counter()
        try:
            counted = store.increment(name, operation_id)
        except StoreError as error:
            unknown = isinstance(error, IndeterminateError)
            outcome = "indeterminate" if unknown else "unavailable"
            metrics.INCREMENTS.labels(outcome).inc()
            log.warning(
                "increment not acknowledged",
                extra={"counter": name, "operation_id": operation_id, "outcome": outcome, "reason": str(error)},
            )
            detail = (
                "It is not known whether the increment was counted; repeat it with this operation id as Idempotency-Key."
                if unknown
                else "The store did not take the increment; it was not counted."
            )
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"store-{outcome}",
                detail,
                retry_after=retry_after,
                operation_id=operation_id,
            ) from error
        metrics.INCREMENTS.labels("acknowledged").inc()
        metrics.INCREMENT_SECONDS.observe(time.perf_counter() - started)
        return counted

    def answer(name: str, counted: Counted) -> Response:
        return jsonify(
            name=name,
            value=counted.value,
            replica=config.replica,
            source={"node": counted.node, "role": counted.role},
        )

    @app.post("/api/counters/<name>/increment")
    def increment(name: str) -> Response:
        check_name(name)
        return answer(name, count(name, secrets.token_hex(16)))

    @app.get("/api/counters/<name>")
    def read(name: str) -> Response:
        check_name(name)
        try:
            return answer(name, store.read(name))
        except StoreError as error:
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "store-unavailable",
                "No Redis node answered the read.",
                retry_after=retry_after,
            ) from error

    @app.get("/api/store")
    def describe() -> Response:
        found = store.describe()
        return jsonify(
            topology=config.topology.value,
            write_concern=config.write_concern.value,
            required_acks=config.required_acks,
            promise=store.promise,
            warning=store.warning,
            replica=config.replica,
            nodes=[node_document(node) for node in found.nodes],
            counters=found.counters,
            notes=list(found.notes),
        )

    @app.get("/")
    def page() -> Response:
        counted, failure = None, None
        if request.method != "HEAD":  # asking for the headers is not a visit
            try:
                counted = count(VISITS, secrets.token_hex(16))
            except Problem as problem:
                failure = problem
        nonce = secrets.token_urlsafe(12)
        html = render_template(
            "index.html", config=config, store=store, counted=counted, failure=failure, nonce=nonce, name=VISITS
        )
        response = Response(html, failure.status if failure else HTTPStatus.OK, mimetype="text/html")
        response.headers["Content-Security-Policy"] = (
            f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; "
            "img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        )
        response.headers["Referrer-Policy"] = "no-referrer"
        if failure:
            response.headers["Retry-After"] = str(failure.retry_after)
        return response

    @app.get("/healthz")
    def healthz() -> Response:
        return jsonify(status="alive")

    @app.get("/readyz")
    def readyz() -> Response:
        if lifecycle.draining():
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "draining", "This replica is about to stop.", retry_after=1)
        try:
            store.ready()
        except StoreError as error:
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "store-unavailable",
                f"The store does not take increments: {error}",
                retry_after=retry_after,
            ) from error
        return jsonify(status="ready", topology=config.topology.value, promise=store.promise)

    @app.get("/metrics")
    def exposition() -> Response:
        metrics.DRAINING.set(lifecycle.draining())
        return Response(metrics.exposition(), content_type=metrics.CONTENT_TYPE)

    @app.after_request
    def sign(response: Response) -> Response:
        response.headers["X-Counter-Replica"] = config.replica
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        metrics.REQUESTS.labels(request.endpoint or "none", response.status_code).inc()
        return response

    @app.errorhandler(Problem)
    def known(problem: Problem) -> Response:
        return problem.response()

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        status = HTTPStatus(error.code or 500)
        response = Problem(status, status.phrase.lower().replace(" ", "-"), error.description or status.phrase)
        answer = response.response()
        if allowed := getattr(error, "valid_methods", None):
            answer.headers["Allow"] = ", ".join(sorted(allowed))
        return answer

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Response:
        log.error("unexpected error", exc_info=error, extra={"path": request.path, "client": request.remote_addr})
        return Problem(
            HTTPStatus.INTERNAL_SERVER_ERROR, "internal-error", "An unexpected error; the log of this replica has it."
        ).response()


def check_name(name: str) -> None:
    """Refuse what may not name a counter."""
    if not is_counter_name(name):
        raise Problem(
            HTTPStatus.BAD_REQUEST,
            "invalid-name",
            f"{name[:80]!r} does not name a counter: the rule is {NAME_RULE}, for example {VISITS!r}.",
        )


def node_document(node: NodeState) -> dict[str, Any]:
    """Return a node as JSON members; absent facts are left out."""
    document: dict[str, Any] = {"name": node.name, "role": node.role, "reachable": node.reachable, "version": node.version}
    if node.error:
        document["error"] = node.error
    if node.counters is not None:
        document["counters"] = node.counters
    return document
