"""Concurrent HTTP clients that count, read and repeat, and write down everything before they do it."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

from history.model import Outcome
from history.ways import KEY, Answer, Way

ATTEMPT_SECONDS = 10.0
OPERATION_SECONDS = 30.0
RETRY_SECONDS = 0.05
MORE_SECONDS = 90.0


class Repeat(StrEnum):
    """How clients repeat an increment whose outcome they do not know."""

    KEY = "key"
    """Each has an Idempotency-Key, with which it is repeated."""
    ID = "id"
    """None has a key; it is repeated only with the operation_id of the answer, if there is one."""
    BLIND = "blind"
    """It is repeated without either: a negative control, which must FAIL."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to record."""

    url: str
    """Where the counter is served; several, separated by commas, are used in turn: the next when one fails."""
    counter: str
    clients: int
    seconds: float
    out: Path
    repeat: Repeat = Repeat.KEY
    read_share: float = 0.1
    repeat_share: float = 0.02
    tick: float = 0.0
    """How many seconds a client waits between two operations."""
    ways: tuple[Way, ...] = (KEY,)
    """How clients count; each increment takes one at random. ``repeat`` is for the one with a key."""


class Journal:
    """The history's file: one event per line, handed to the operating system before the caller goes on."""

    def __init__(self, file: TextIO) -> None:
        """Take the open file."""
        self._file = file
        self._mutex = threading.Lock()
        self._count = 0

    def write(self, event: str, **members: Any) -> None:
        """Append an event, stamped with the time."""
        with self._mutex:
            self._file.write(json.dumps({"event": event, "time": time.monotonic(), **members}) + "\n")
            self._file.flush()

    def invoke(self, kind: str, **members: Any) -> int:
        """Announce an operation and return its number."""
        with self._mutex:
            self._count += 1
            number = self._count
        self.write("invoke", id=number, kind=kind, **members)
        return number


def acknowledged(out: Path) -> int:
    """Return how many increments a history has as acknowledged so far."""
    return out.read_text(encoding="utf-8").count('"outcome": "ok", "replica"') if out.exists() else 0


class Client:
    """One closed loop on one connection."""

    def __init__(self, plan: Plan, journal: Journal, stop: threading.Event) -> None:
        """Take what to do, where to write it, and what ends it."""
        self._plan = plan
        self._journal = journal
        self._stop = stop
        self._random = random.Random()  # a mix of operations, not a secret
        self._places = [urlsplit(url).netloc for url in plan.url.split(",")]
        self._random.shuffle(self._places)
        self._path = f"/api/counters/{plan.counter}"
        self._connection: http.client.HTTPConnection | None = None
        self._acknowledged: list[str] = []

    def run(self) -> None:
        """Count, read and repeat until told to stop."""
        while not self._stop.wait(self._plan.tick):
            draw = self._random.random()
            if draw < self._plan.read_share:
                self.read()
            elif (
                self._plan.repeat is Repeat.KEY
                and self._acknowledged
                and draw < self._plan.read_share + self._plan.repeat_share
            ):
                self.increment(self._random.choice(self._acknowledged))
            elif (way := self._random.choice(self._plan.ways)) is KEY:
                self.increment(uuid.uuid4().hex)
            else:
                self.request(way)

    def increment(self, key: str) -> None:
        """Repeat one increment until it is acknowledged, cannot be repeated, or is out of time."""
        number = self._journal.invoke("increment", key=key, keyed=self._plan.repeat is Repeat.KEY)
        headers = {"Idempotency-Key": key} if self._plan.repeat is Repeat.KEY else {}
        deadline = time.monotonic() + OPERATION_SECONDS
        uncertain = False
        while True:
            outcome, answer = self._attempt("POST", f"{self._path}/increment", headers)
            uncertain = uncertain or outcome is Outcome.INDETERMINATE
            if outcome is Outcome.OK:
                members = {"value": answer["value"], "node": answer.get("source", {}).get("node", "")}
                self._journal.write("complete", id=number, outcome=outcome, replica=answer.get("replica"), **members)
                self._acknowledged = [*self._acknowledged[-99:], key]
                return
            if self._plan.repeat is Repeat.ID and (identifier := answer.get("operation_id")):
                headers = {"Idempotency-Key": identifier}
            if len(self._places) > 1:
                self._leave()  # another host may serve it
            lost = self._plan.repeat is Repeat.ID and uncertain and not headers
            if lost or time.monotonic() > deadline or self._stop.is_set():
                outcome = Outcome.INDETERMINATE if uncertain else Outcome.FAILED
                self._journal.write("complete", id=number, outcome=outcome)
                return
            time.sleep(RETRY_SECONDS)

    def request(self, way: Way) -> None:
        """Send one request that nothing can tell from another, and so is never repeated: the next is a new one."""
        number = self._journal.invoke("increment", key=uuid.uuid4().hex, keyed=False)
        outcome, answer = self._attempt(way.method, way.path.format(self._plan.counter), {}, way)
        members = {"replica": None, "value": answer.get("value")} if outcome is Outcome.OK else {}
        self._journal.write("complete", id=number, outcome=outcome, **members)

    def read(self) -> None:
        """Read once."""
        number = self._journal.invoke("read")
        outcome, answer = self._attempt("GET", self._path, {})
        members = {"value": answer["value"]} if outcome is Outcome.OK else {}
        self._journal.write("complete", id=number, outcome=outcome, **members)

    def value(self, seconds: float) -> int | None:
        """Read until an answer comes."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            outcome, answer = self._attempt("GET", self._path, {})
            if outcome is Outcome.OK:
                return int(answer["value"])
            time.sleep(RETRY_SECONDS)
        return None

    def _attempt(self, method: str, path: str, headers: dict[str, str], way: Way = KEY) -> Answer:
        """Send one request. Whatever is not certain is indeterminate."""
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection(self._places[0], timeout=ATTEMPT_SECONDS)
                self._connection.connect()
        except OSError:
            self._leave()
            return Outcome.FAILED, {}  # nothing was sent
        try:
            self._connection.request(method, path, headers=headers)
            response = self._connection.getresponse()
            return way.understand(response.status, response.read())
        except (OSError, http.client.HTTPException, ValueError):
            self._leave()
            return way.unknown, {}

    def _leave(self) -> None:
        """Drop the connection; the next attempt goes to the next place."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._places = [*self._places[1:], self._places[0]]


def record(plan: Plan, stop: threading.Event | None = None) -> None:
    """Run the clients for ``plan.seconds``, or until ``stop`` is set, and write the history to ``plan.out``.

    Raises:
        OSError: the counter cannot be read before the run, or the file not be written.
        Exception: an answer that no client understands.

    """
    stop = stop or threading.Event()
    with plan.out.open("w", encoding="utf-8") as file:
        journal = Journal(file)
        observer = Client(plan, journal, stop)
        initial = observer.value(OPERATION_SECONDS)
        if initial is None:
            raise OSError(f"{plan.url}: no answer to GET /api/counters/{plan.counter}")
        journal.write("begin", counter=plan.counter, initial=initial, url=plan.url, clients=plan.clients)
        pool = ThreadPoolExecutor(plan.clients)
        clients = [pool.submit(Client(plan, journal, stop).run) for _ in range(plan.clients)]
        try:
            stop.wait(plan.seconds)
        finally:
            stop.set()
            pool.shutdown()
            journal.write("end", final=observer.value(OPERATION_SECONDS))
        for client in clients:
            client.result()  # raises what ended it early: then it has not seen the rest


@contextmanager
def recording(*plans: Plan) -> Iterator[Callable[[int], None]]:
    """Record several plans until the block ends.

    Yields a function that waits until each counter has so many more acknowledged increments; it raises TimeoutError
    after ``MORE_SECONDS``, and what ended a recording early.
    """
    stop = threading.Event()

    def more(count: int) -> None:
        wanted = [acknowledged(plan.out) + count for plan in plans]
        deadline = time.monotonic() + MORE_SECONDS
        while late := [
            plan.counter for plan, least in zip(plans, wanted, strict=True) if acknowledged(plan.out) < least
        ]:
            for ended in filter(Future.done, recordings):
                ended.result()
            if time.monotonic() > deadline:
                raise TimeoutError(f"fewer than {count} increments were acknowledged in {MORE_SECONDS:.0f} s: {late}")
            time.sleep(0.1)

    with ThreadPoolExecutor(len(plans)) as pool:
        recordings = [pool.submit(record, plan, stop) for plan in plans]
        try:
            yield more
        finally:
            stop.set()
        for ended in recordings:
            ended.result()
