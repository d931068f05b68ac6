"""The application factory."""

from __future__ import annotations

from flask import Flask
from jinja2 import StrictUndefined
from werkzeug.middleware.proxy_fix import ProxyFix

from counter import metrics, views
from counter.config import Config, Edge
from counter.counting import Counting
from counter.shortcut import IncrementShortcut
from counter.store import open_store
from counter.store.store import Store


def create_app(config: Config | None = None, store: Store | None = None) -> Flask:
    """Build the WSGI application; both arguments default to what the environment says."""
    config = config or Config.from_env()
    app = Flask(__name__, static_folder=None)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    # What a page asks for under a wrong name would be empty.
    app.jinja_env.undefined = StrictUndefined
    counting = Counting(config, store or open_store(config))
    views.register(app, counting)
    metrics.INFO.labels(config.image, config.topology.value, config.replica).set(1)
    if config.edge is not Edge.NONE:
        # One hop, the edge, sets X-Forwarded-For; without it the header would be the client's own claim.
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1)  # type: ignore[method-assign]
    # Outside of ProxyFix: an increment is not logged with the client's address, and does not pay for it.
    app.wsgi_app = IncrementShortcut(app.wsgi_app, counting)  # type: ignore[method-assign]
    return app
