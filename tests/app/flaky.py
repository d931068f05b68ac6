"""A connection that does what a script says: it loses or delays requests and replies."""

from __future__ import annotations

import contextlib
import enum
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable

LATE_SECONDS = 1.2


class Fate(enum.Enum):
    """What becomes of a request, which is one round, or of its reply."""

    PASS = enum.auto()
    LOSE_REQUEST = enum.auto()
    LOSE_REPLY = enum.auto()
    LATE_REQUEST = enum.auto()
    """It arrives after its sender has given up."""
    LATE_REPLY = enum.auto()


class FlakyProxy:
    """A TCP proxy that loses or delays requests and replies as its script says."""

    def __init__(self, target: int) -> None:
        """Take the port that requests go to."""
        self.target = target
        self._script: deque[Fate] = deque()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._busy = 0
        self._mutex = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def follow(self, script: Iterable[Fate]) -> None:
        """Apply the script to the next requests; later ones pass."""
        self._script = deque(script)

    def quiet(self) -> None:
        """Wait until no request is under way."""
        while self._busy:
            time.sleep(0.01)

    def close(self) -> None:
        """Stop accepting connections."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """Pass on requests, each of which is sent at once."""
        with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.target)) as server:
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            fates = [Fate.PASS]
            threading.Thread(target=self._replies, args=[server, client, fates], daemon=True).start()
            while request := client.recv(1 << 20):
                with self._mutex:
                    fate = self._script.popleft() if self._script else Fate.PASS
                    self._busy += 1
                try:
                    if fate is Fate.LOSE_REQUEST:
                        break
                    if fate is Fate.LATE_REQUEST:
                        time.sleep(LATE_SECONDS)
                    fates[0] = fate
                    server.sendall(request)
                    if fate is not Fate.PASS:
                        time.sleep(0.05)  # it is executed, whatever becomes of the reply
                finally:
                    with self._mutex:
                        self._busy -= 1
            client.shutdown(socket.SHUT_RDWR)
            server.shutdown(socket.SHUT_RDWR)

    def _replies(self, server: socket.socket, client: socket.socket, fates: list[Fate]) -> None:
        with contextlib.suppress(OSError):
            while reply := server.recv(1 << 20):
                match fates[0]:
                    case Fate.LOSE_REPLY:
                        client.shutdown(socket.SHUT_RDWR)
                        return
                    case Fate.LATE_REPLY:
                        time.sleep(LATE_SECONDS)
                client.sendall(reply)
