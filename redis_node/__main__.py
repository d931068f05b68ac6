"""``python3 -m redis_node run | role | settled [SECONDS] | use | holdings | promote``.

``use`` reads user -> password as JSON. ``holdings`` shows what each node holds. ``promote`` makes this node the primary
if the last one will never return. Both need Sentinels.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

from redis_node import contents
from redis_node.cluster import ClusterNode
from redis_node.disk_space import wait_for_space
from redis_node.errors import NodeError
from redis_node.kind import Kind
from redis_node.replicated import ReplicatedNode
from redis_node.sentinel import Sentinel
from redis_node.server import serve
from redis_node.settings import Settings

KINDS: dict[str, type[Kind]] = {"cluster": ClusterNode, "replicated": ReplicatedNode, "sentinel": Sentinel}
"""``NODE_KIND`` -> its class."""
POLL_SECONDS = 0.5


def main(arguments: Sequence[str]) -> int:
    """Run one command; return the exit status of the process."""
    settings = Settings.from_env()
    node = KINDS[settings.kind](settings)
    match arguments:
        case ["run"]:
            os.umask(0o077)
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # while it waits; the server has its own way to stop
            # Before the decision, which would be out of date when there is space.
            wait_for_space(settings)
            return serve(node.command(), node.after_start, node.before_stop)
        case ["settled", *seconds]:
            return _settled(node, float(seconds[0]) if seconds else 0.0)
        case [word] if word in (questions := _questions(node)):
            return _said(questions[word])
        case _:
            sys.stderr.write(f"usage: {__doc__}\n")
            return 64


def _questions(node: Kind) -> dict[str, Callable[[], str | None]]:
    """Return the commands that give an answer at once, or fail with NodeError."""
    found: dict[str, Callable[[], str | None]] = {
        "role": node.role,
        "use": lambda: node.use(json.load(sys.stdin)),
    }
    if (settings := node.settings).sentinels:
        # The words stay, since a deployment also uses them in containers of the version before.
        found |= {"holdings": partial(contents.describe, settings), "promote": partial(contents.promote, settings)}
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


def _settled(node: Kind, seconds: float) -> int:
    """Wait until the set is settled. When the time is over, print the reason and return 1."""
    deadline = time.monotonic() + seconds
    while missing := node.what_is_missing():
        if time.monotonic() >= deadline:
            sys.stderr.write(missing + "\n")
            return 1
        time.sleep(POLL_SECONDS)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
