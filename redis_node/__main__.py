"""``python3 -m redis_node run | role | settled [SECONDS] | use | holdings | promote``.

``use`` reads user -> password as JSON. ``holdings`` shows what each node holds, and ``promote`` makes this node the
primary where the last one will never return; both are for nodes with Sentinels.
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
from redis_node.ask import NoAnswerError
from redis_node.server import serve
from redis_node.settings import Settings

KINDS = {"cluster": "redis_node.cluster", "replicated": "redis_node.replicated", "sentinel": "redis_node.sentinel"}
"""``NODE_KIND`` -> the module that knows it."""
POLL_SECONDS = 0.5


class Kind(Protocol):
    """What a kind of node has to say; a module of functions."""

    def command(self, settings: Settings) -> Sequence[str]:
        """Decide how the server starts, and return its command. Waits as long as that is not certain."""

    def after_start(self, settings: Settings) -> None:
        """Look after the server that was started; runs beside it, and may end or not."""

    def before_stop(self, settings: Settings) -> None:
        """Do what makes it harmless that this node stops; bounded in time, and never fails."""

    def role(self, settings: Settings) -> str:
        """Return ``primary``, ``replica`` or ``sentinel``; raises NoAnswerError."""

    def unsettled(self, settings: Settings) -> str:
        """Say what keeps the whole set from losing any one node without harm; empty when nothing does."""

    def use(self, settings: Settings, passwords: Mapping[str, str]) -> None:
        """Let the server that runs log in to others with other passwords; raises NoAnswerError."""


def main(arguments: Sequence[str]) -> int:
    """Run one command; return the exit status of the process."""
    settings = Settings.from_env()
    kind = cast("Kind", importlib.import_module(KINDS[settings.kind]))
    match arguments:
        case ["run"]:
            os.umask(0o077)
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # while it waits; the server has its own way to stop
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
    """Return the commands that give an answer at once, or fail with NoAnswerError."""
    found: dict[str, Callable[[], str | None]] = {
        "role": partial(kind.role, settings),
        "use": lambda: kind.use(settings, json.load(sys.stdin)),
    }
    if settings.sentinels:
        found |= {"holdings": partial(holdings.describe, settings), "promote": partial(holdings.promote, settings)}
    return found


def _said(question: Callable[[], str | None]) -> int:
    """Print the answer, if there is one to give; otherwise say what went wrong and return 1."""
    try:
        if answer := question():
            sys.stdout.write(answer + "\n")
    except NoAnswerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _settled(kind: Kind, settings: Settings, seconds: float) -> int:
    """Wait until the set is settled; otherwise say why not and return 1."""
    deadline = time.monotonic() + seconds
    while missing := kind.unsettled(settings):
        if time.monotonic() >= deadline:
            sys.stderr.write(missing + "\n")
            return 1
        time.sleep(POLL_SECONDS)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
