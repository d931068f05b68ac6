"""gunicorn's settings: ``gunicorn -c python:counter.gunicorn_conf counter.wsgi:app``."""

from __future__ import annotations

import gc
import os
import resource
import signal
from types import FrameType
from typing import Any

from counter import lifecycle
from counter.config import Config
from counter.logs import LOGGING, EventLogger

_config = Config.from_env()

bind = os.environ.get("COUNTER_BIND", "0.0.0.0:8000")
worker_class = "counter.worker.BoundedWorker"
workers = 1  # a stack has as many replicas as it needs
threads = _config.threads
# Each edge may hold 64 idle connections and as many requests.
worker_connections = 8192
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
preload_app = True  # a worker that replaces another has the modules at once; connections are made after the fork
timeout = 30
graceful_timeout = max(10, int(_config.deadline) + 2)
# Longer than the edge keeps an idle connection, so that the edge is the side that closes: otherwise a request
# can meet a connection that is just being closed.
keepalive = 75
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108  # memory: a heartbeat must not wait for a disk
control_socket_disable = True
logger_class = EventLogger
logconfig_dict = LOGGING


def pre_fork(server: Any, worker: Any) -> None:
    """Exempt what is loaded from garbage collection: the worker goes on sharing its memory, and collects faster."""
    del server, worker
    gc.collect()
    gc.freeze()


def when_ready(server: Any) -> None:
    """Put the drain in front of gunicorn's own handling of SIGTERM (see ``counter.lifecycle``)."""

    def stop(_signal: int, frame: FrameType | None) -> None:
        server.signal(signal.SIGTERM, frame)

    def drain(_signal: int, frame: FrameType | None) -> None:
        if os.getpid() != server.pid:
            raise SystemExit(0)  # a worker that has not installed its own handlers yet
        if lifecycle.draining() or _config.drain == 0:  # a second SIGTERM does not wait
            lifecycle.start_draining()
            stop(signal.SIGTERM, frame)
            return
        lifecycle.start_draining()
        signal.setitimer(signal.ITIMER_REAL, _config.drain)

    signal.signal(signal.SIGALRM, stop)
    signal.signal(signal.SIGTERM, drain)


def pre_request(worker: Any, request: Any) -> None:
    """Answer ``Connection: close`` while draining, so that kept-alive connections move to other replicas.

    Also to a request with a body. No request needs one, and all of it would have to arrive before the next request.
    """
    del worker
    if lifecycle.draining() or any(
        name == "TRANSFER-ENCODING" or (name == "CONTENT-LENGTH" and value != "0") for name, value in request.headers
    ):
        request.force_close()
