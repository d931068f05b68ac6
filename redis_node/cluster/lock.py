"""One run at a time changes the shape of a cluster. A run that is killed leaves its program behind in the container."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from redis_node.ask import Connection
from redis_node.errors import NodeError
from redis_node.settings import Address, Settings

NAME = "shape"
_HOLDER = re.compile(rf"^id=(\d+) .* name={NAME} ", re.MULTILINE)


class Lock:
    """A named connection to a node: the oldest one of its name holds the lock. It ends with its process."""

    def __init__(self, settings: Settings, node: Address) -> None:
        """Connect to the node that all runs use; raises NodeError."""
        self._connection = Connection(settings, node)
        with self._whole():
            self._connection.ask("CLIENT", "SETNAME", NAME)
            self._id = int(self._connection.ask("CLIENT", "ID"))

    def held(self) -> bool:
        """Tell whether this one holds the lock; raises NodeError if it is lost."""
        with self._whole():
            return self._id == min(map(int, _HOLDER.findall(self._connection.ask("CLIENT", "LIST"))))

    def release(self) -> None:
        """Close the connection."""
        self._connection.__exit__()

    @contextlib.contextmanager
    def _whole(self) -> Iterator[None]:
        """Release it after a failure: the next lock would wait for it."""
        try:
            yield
        except NodeError:
            self.release()
            raise
