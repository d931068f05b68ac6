"""The HTTP interface: a page for people, JSON for programs, health and metrics for the operator."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime
from http import HTTPStatus
from typing import Any

from flask import Blueprint, Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException

from counter import countapi, embedding, lifecycle, metrics
from counter.cors import PREFLIGHT
from counter.counting import Counting
from counter.names import NAME_PATTERN, VISITS
from counter.pages import html
from counter.problems import Problem
from counter.service import CounterName, counting
from counter.store.types import NodeState, StoreError
from counter.visits import is_robot, is_visit

log = logging.getLogger(__name__)
routes = Blueprint("counter", __name__)
SHARED = {"counter.increment", "counter.read"}
"""Endpoints of this blueprint that scripts of other origins may read; those of the other blueprints are all shared."""


@routes.post("/api/counters/<counter:name>/increment")
def increment(name: str) -> Response:
    """Count one; the same Idempotency-Key counts once. Usually answered by ``IncrementShortcut`` already."""
    if error := request.environ.get("counter.error"):
        raise error
    return Response(counting().increment(name, request.headers.get("Idempotency-Key")), mimetype="application/json")


@routes.get("/api/counters/<counter:name>")
def read(name: str) -> Response:
    """Return the value and where it was read; with ``Cache-Control: max-age`` it may be as old as that, in seconds."""
    max_age = request.cache_control.max_age or 0
    return Response(counting().read(name, max_age), mimetype="application/json")


@routes.get("/api/store")
def describe() -> Response:
    """Describe the store: its nodes and its promise; to the operator, also its values.

    The edge adds the header to the requests of all clients.
    """
    config, store = counting().config, counting().store
    shows = "X-Forwarded-For" not in request.headers
    try:
        found = store.describe()
    except StoreError as error:
        detail = f"{error}."
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "busy", detail, retry_after=1) from error
    values: dict[str, Any] = {"counters": found.counters, "more_counters": found.more} if shows else {}
    return jsonify(
        topology=config.topology.value,
        write_concern=config.write_concern.value,
        required_acks=config.required_acks,
        promise=store.promise,
        warning=store.warning,
        window_seconds=config.key_seconds,
        replica=config.replica,
        image=config.image,
        version=config.version or None,
        nodes=[node_document(node if shows else replace(node, counters=None)) for node in found.nodes],
        **values,
        backup=newest_backup(),
    )


def newest_backup() -> dict[str, Any] | None:
    """Return the newest proved backup; None if there is none, or if Redis does not answer."""
    try:
        return counting().store.newest_backup() or None
    except StoreError:
        return None


@routes.get("/")
def page() -> Response:
    """Count a visit and show the value."""
    counted, failure = None, None
    if request.method != "HEAD":
        try:
            counts = is_visit(request) and not is_robot(request)
            counted = counting().count(VISITS) if counts else counting().look(VISITS)
        except Problem as problem:
            failure = problem
    return html("index.html", failure, counted=counted, store=counting().store, name=VISITS, pattern=NAME_PATTERN)


@routes.get("/healthz")
def healthz() -> Response:
    """Say that this process is alive, whatever Redis does."""
    return jsonify(status="alive")


@routes.get("/drainz")
def drainz() -> Response:
    """Say whether the edge should send requests here: always, except while this replica is about to stop.

    The edge asks this and not ``/readyz``: during a failover of Redis all replicas are unready at once, and it is
    better for a request to wait here for the new primary than to be refused by the edge.
    """
    if lifecycle.draining():
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "draining", "This replica is about to stop.", retry_after=1)
    return jsonify(status="serving")


@routes.get("/readyz")
def readyz() -> Response:
    """Say whether an increment would be accepted now."""
    drainz()
    try:
        counting().store.ready()
    except StoreError as error:
        raise Problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "store-unavailable",
            f"The store accepts no increments: {error}",
            retry_after=counting().retry_after,
        ) from error
    store, config = counting().store, counting().config
    return jsonify(status="ready", topology=config.topology.value, promise=store.promise, warning=store.warning)


@routes.get("/metrics")
def exposition() -> Response:
    """Return the Prometheus metrics of this replica."""
    metrics.DRAINING.set(lifecycle.draining())
    with suppress(StoreError):
        backup = counting().store.newest_backup()
        for field, gauge in metrics.BACKUP.items():
            value = backup.get(field, 0)
            gauge.set(datetime.fromisoformat(value).timestamp() if isinstance(value, str) else value)
    return Response(metrics.exposition(), content_type=metrics.CONTENT_TYPE)


@routes.after_app_request
def add_headers(response: Response) -> Response:
    """Add the replica's name to every response, errors included, and count the response."""
    for name, value in counting().headers.items():
        response.headers.setdefault(name, value)
    if request.blueprint in (embedding.routes.name, countapi.routes.name) or request.endpoint in SHARED:
        share(response)
    endpoint = (request.endpoint or "none").removeprefix("counter.")
    metrics.REQUESTS.labels(endpoint, response.status_code).inc()
    return response


def share(response: Response) -> None:
    """Let scripts of the allowed origins read a response, and answer a preflight."""
    response.headers.update(counting().origins.headers(request.headers.get("Origin")))
    asks = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
    if asks and "Access-Control-Allow-Origin" in response.headers:
        response.headers.update(PREFLIGHT)


@routes.app_errorhandler(Problem)
def handle_problem(problem: Problem) -> Response:
    """Answer with the problem document."""
    return problem.response()


@routes.app_errorhandler(HTTPException)
def handle_http_error(error: HTTPException) -> Response:
    """Turn an error of Flask's own into a problem document."""
    status = HTTPStatus(error.code or 500)
    code = status.phrase.lower().replace(" ", "-")
    response = Problem(status, code, error.description or status.phrase).response()
    if allowed := getattr(error, "valid_methods", None):
        response.headers["Allow"] = ", ".join(sorted(allowed))
    return response


@routes.app_errorhandler(Exception)
def handle_unexpected(error: Exception) -> Response:
    """Log an error that no code expected; the client is not told what it was."""
    log.error("unexpected error", exc_info=error, extra={"path": request.path, "client": request.remote_addr})
    detail = "An unexpected error occurred. It is in the log of this replica."
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal-error", detail).response()


def register(app: Flask, service: Counting) -> None:
    """Add all routes to ``app``."""
    app.extensions["counting"] = service
    app.url_map.converters["counter"] = CounterName
    for blueprint in (routes, embedding.routes, countapi.routes):
        app.register_blueprint(blueprint)


def node_document(node: NodeState) -> dict[str, Any]:
    """Return a node as JSON members; absent facts are left out."""
    document = {fact: value for fact, value in asdict(node).items() if value not in (None, "")}
    if node.memory:
        document["memory"] = dict(zip(("used", "limit"), node.memory, strict=True))
    return document
