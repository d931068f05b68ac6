"""What the hot path is compared with, each written as one would write it without this project."""

from __future__ import annotations

import os

from flask import Flask
from redis import Redis

REDIS_PORT = int(os.environ.get("BENCH_REDIS_PORT", "6379"))


def hello() -> Flask:
    """Return Flask alone: the ceiling of anything served by Flask and gunicorn."""
    app = Flask("hello")

    @app.post("/")
    def greet() -> str:
        return "Hello, World!"

    return app


def bare() -> Flask:
    """Return one INCR per request through redis-py's pool: the usual way, without durability or idempotency."""
    app = Flask("bare")
    redis = Redis(port=REDIS_PORT)

    @app.post("/")
    def count() -> dict[str, int]:
        return {"value": int(redis.incr("hits"))}

    return app


def sample() -> Flask:
    """Return what Docker's samples do: INCR, then GET; served by Flask's development server."""
    app = Flask("sample")
    redis = Redis(port=REDIS_PORT)

    @app.post("/")
    def count() -> str:
        redis.incr("hits")
        return f"This page has been visited {int(redis.get('hits') or 0)} times.\n"

    return app


if __name__ == "__main__":
    sample().run(port=int(os.environ["BENCH_PORT"]), threaded=True)
