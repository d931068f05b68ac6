"""Warms up all replicas before an arm, until every replica has answered."""

import http.client
import threading
import time
from collections import Counter
from contextlib import closing
from urllib.parse import urlsplit

CONNECTIONS = 16
KEPT_SECONDS = 1.0
"""Age at which a connection is replaced: through the mesh, a connection stays with one edge."""


class NotAllAnswered(RuntimeError):
    """Fewer replicas than expected answered within the time limit."""


def warm_up(target: str, replicas: int, seconds: float, patience: float = 60.0) -> dict[str, int]:
    """Increment a separate counter for at least ``seconds``, until ``replicas`` different replicas have answered.

    Returns the number of answers by replica. Raises NotAllAnswered after ``patience`` seconds more.
    """
    answers: Counter[str] = Counter()
    limit = seconds + patience
    started = time.monotonic()
    done = threading.Event()
    threads = [threading.Thread(target=_visit, args=(target, answers, done), daemon=True) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    try:
        while (elapsed := time.monotonic() - started) < limit:
            if elapsed >= seconds and len(answers) == replicas:
                return dict(answers)
            if len(answers) > replicas:
                # Replicas that are being stopped still answer for a moment: count the answers from now on only.
                answers.clear()
            time.sleep(0.1)
    finally:
        done.set()
        for thread in threads:
            thread.join(timeout=10)
    heard = ", ".join(sorted(answers)) or "none"
    raise NotAllAnswered(f"{len(answers)} of {replicas} replicas answered at {target} within {limit:g} s ({heard}); see: ./counter status")


def _visit(target: str, answers: Counter[str], done: threading.Event) -> None:
    """Increment until ``done``, over one connection after the other."""
    while not done.is_set():
        kept_until = time.monotonic() + KEPT_SECONDS
        try:
            with closing(_connect(target)) as connection:
                while time.monotonic() < kept_until and not done.is_set():
                    connection.request("POST", "/api/counters/bench-warmup/increment")
                    response = connection.getresponse()
                    response.read()
                    if response.status < 300:
                        answers[response.getheader("X-Counter-Replica") or "?"] += 1
        except (OSError, http.client.HTTPException):
            time.sleep(0.2)


def _connect(target: str) -> http.client.HTTPConnection:
    url = urlsplit(target)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    return kind(url.hostname or "127.0.0.1", url.port, timeout=10)
