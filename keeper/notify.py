"""Sends messages to ``notify_urls``, each in a thread of its own, and calls ``heartbeat_url`` while all is well."""

from __future__ import annotations

import logging
import queue
import re
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

import requests
from apprise import Apprise, NotifyType

from keeper import metrics
from keeper.watch import Event

LOG = logging.getLogger("keeper")
PAUSES = (30.0, 120.0, 600.0)
"""Seconds between attempts to send a message; after the last one, it is given up."""
MOST_WAITING = 100
"""Messages that may wait for a receiver."""
BEAT_SECONDS = 60.0
REQUEST_SECONDS = 10
TITLES = {"begins": "PROBLEM", "ends": "ended"}
KINDS = {"begins": NotifyType.FAILURE, "ends": NotifyType.SUCCESS}

Message = tuple[Event, str, str]
"""What happened, the title and the text."""


class _Said(logging.Handler):
    """What the library logs in this thread: why it failed."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.lines.append(record.getMessage())


class Receiver(threading.Thread):
    """One of ``notify_urls``. Its URL is a secret, so it is named by its number and what the URL begins with."""

    def __init__(self, number: int, url: str, hurry: float) -> None:
        """Take the URL; ``hurry`` shortens the pauses."""
        super().__init__(daemon=True, name=f"receiver {number}")
        self.number, self._url, self._hurry = number, url, hurry
        self._waiting: queue.Queue[Message] = queue.Queue(MOST_WAITING)
        self._apprise = Apprise()
        self.title = f"number {number} of notify_urls ({url.partition(':')[0]})"
        self.failure = self._attempt(lambda: bool(self._apprise.add(url)))

    def take(self, message: Message) -> None:
        """Send a message soon."""
        if not self._apprise:
            self._give_up(f"{message[1]} ({self.failure})")
            return
        try:
            self._waiting.put_nowait(message)
        except queue.Full:
            self._give_up("too many messages wait")

    def run(self) -> None:
        """Send one message after the other."""
        while True:
            self._send(*self._waiting.get())

    def _send(self, event: Event, title: str, text: str) -> None:
        for pause in (*PAUSES, None):
            failure = self._attempt(lambda: bool(self._apprise.notify(text, title, KINDS[event])))
            if not failure:
                self.failure = ""
                metrics.MESSAGES.labels(str(self.number), "sent").inc()
                return
            self.failure = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}: {failure}"
            metrics.MESSAGES.labels(str(self.number), "failed").inc()
            LOG.warning("a message did not reach %s: %s", self.title, failure)
            if pause is not None:
                time.sleep(pause * self._hurry)
        self._give_up(title)

    def _give_up(self, what: str) -> None:
        metrics.MESSAGES.labels(str(self.number), "given up").inc()
        LOG.error("%s does not get a message: %s", self.title, what)

    def _attempt(self, attempt: Callable[[], bool]) -> str:
        """Return why an attempt failed; empty if it succeeded."""
        logger, said = logging.getLogger("apprise"), _Said()
        logger.addHandler(said)
        try:
            if attempt():
                return ""
        # Its receivers are many, and any may raise anything.
        except Exception as error:  # noqa: BLE001
            said.lines.append(f"{type(error).__name__}: {error}")
        finally:
            logger.removeHandler(said)
        return self._without_secrets(" ".join(" ".join(said.lines).split())) or "no reason given"

    def _without_secrets(self, text: str) -> str:
        """Return the text without parts of the URL but its beginning, any of which may be a token."""
        for part in sorted(re.split(r"[^\w.-]+", self._url.partition(":")[2]), key=len, reverse=True):
            text = re.sub(rf"(?<!\w){re.escape(part)}(?!\w)", "***", text) if part else text
        return text[:300]


class Messages:
    """All receivers of a stack."""

    def __init__(self, stack: str, urls: tuple[str, ...], hurry: float) -> None:
        """Take the URLs, in the notation of the library."""
        self._stack = stack
        self.receivers = [Receiver(number, url, hurry) for number, url in enumerate(urls, 1)]
        for receiver in self.receivers:
            if receiver.failure:
                LOG.error("%s cannot be used: %s", receiver.title, receiver.failure)
            receiver.start()

    def tell(self, event: Event, lines: list[str]) -> None:
        """Tell everybody of problems that began or ended."""
        several = f" ({len(lines)})" if len(lines) > 1 else ""
        title, text = f"{self._stack}: {TITLES[event]}{several}", "\n".join(lines)
        LOG.warning("%s: %s", title, text)
        for receiver in self.receivers:
            receiver.take((event, title, text))


class Heartbeat(threading.Thread):
    """Calls a URL every minute while ``is_well``; whoever waits for the calls notices the death of everything."""

    def __init__(self, url: str, is_well: Callable[[], bool], hurry: float) -> None:
        """Take the URL, which is a secret."""
        super().__init__(daemon=True, name="heartbeat")
        self._url, self._is_well, self._hurry = url, is_well, hurry
        self.failure = ""

    def run(self) -> None:
        """Call, or be silent."""
        while True:
            if self._is_well():
                self._call()
            time.sleep(BEAT_SECONDS * self._hurry)

    def _call(self) -> None:
        try:
            # A redirection would look good, and reach nobody.
            answer = requests.get(self._url, timeout=REQUEST_SECONDS, allow_redirects=False)
            failure = "" if answer.status_code // 100 == 2 else f"the status {answer.status_code}"  # noqa: PLR2004
        except (OSError, ValueError) as error:
            # Its text has the URL.
            failure = type(error).__name__
        if failure and failure != self.failure:
            LOG.warning("heartbeat_url did not answer well: %s", failure)
        self.failure = failure
        metrics.HEARTBEAT.set(not failure)
