"""``python3 -m redis_node run | role | settled [SECONDS] | use | holdings | promote``.

``use`` reads user -> password as JSON. ``holdings`` shows what each node holds. ``promote`` makes this node the primary
if the last one will never return. Both need Sentinels.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol, cast

from redis_node import holdings
from redis_node.errors import NodeError
from redis_node.room import await_room
from redis_node.server import serve
from redis_node.settings import Settings

KINDS = {"cluster": "redis_node.cluster", "replicated": "redis_node.replicated", "sentinel": "redis_node.sentinel"}
"""``NODE_KIND`` -> its module."""
POLL_SECONDS = 0.5


class Kind(Protocol):
    """What a module for a kind of node provides."""

    def command(self, settings: Settings) -> Sequence[str]:
        """Decide how the server starts and return its command. Waits until the decision is certain."""

    def after_start(self, settings: Settings) -> None:
        """Watch the running server, in a thread of its own; may run until the process ends."""

    def before_stop(self, settings: Settings) -> None:
        """Prepare the others for the stop of this node; takes a limited time. If it fails, the node stops anyway."""

    def role(self, settings: Settings) -> str:
        """Return ``primary``, ``replica`` or ``sentinel``; raises NodeError."""

    def unsettled(self, settings: Settings) -> str:
        """Return why the set could not lose any one node without harm; empty if it could."""

    def use(self, settings: Settings, passwords: Mapping[str, str]) -> None:
        """Make the running server log in to the others with new passwords; raises NodeError."""


def main(arguments: Sequence[str]) -> int:
    """Run one command; return the exit status of the process."""
    settings = Settings.from_env()
    kind = cast("Kind", importlib.import_module(KINDS[settings.kind]))
    match arguments:
        case ["run"]:
            os.umask(0o077)
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # while it waits; the server has its own way to stop
            # Before the decision, which would be out of date when there is room.
            await_room(settings)
            command = kind.command(settings)
            return serve(command, lambda: kind.after_start(settings), lambda: kind.before_stop(settings))
        case ["settled", *seconds]:
            return _settled(kind, settings, float(seconds[0]) if seconds else 0.0)
        case [word] if word in (questions := _questions(kind, settings)):
            return _said(questions[word])
        case _:
            sys.stderr.write(f"usage: {__doc__}\n")
            return 64


def _questions(kind: Kind, settings: Settings) -> dict[str, Callable[[], str | None]]:
    """Return the commands that give an answer at once, or fail with NodeError."""
    found: dict[str, Callable[[], str | None]] = {
        "role": partial(kind.role, settings),
        "use": lambda: kind.use(settings, json.load(sys.stdin)),
    }
    if settings.sentinels:
        found |= {"holdings": partial(holdings.describe, settings), "promote": partial(holdings.promote, settings)}
    return found


def _said(question: Callable[[], str | None]) -> int:
    """Print the answer, if there is one. On failure print the reason and return 1."""
    try:
        if answer := question():
            sys.stdout.write(answer + "\n")
    except NodeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _settled(kind: Kind, settings: Settings, seconds: float) -> int:
    """Wait until the set is settled. When the time is over, print the reason and return 1."""
    deadline = time.monotonic() + seconds
    while missing := kind.unsettled(settings):
        if time.monotonic() >= deadline:
            sys.stderr.write(missing + "\n")
            return 1
        time.sleep(POLL_SECONDS)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
