"""Connections to names. While the name service does not know a name, they go to its last addresses.

Docker's name service forgets the containers of a host that does not reach the other hosts' engines, and does not answer
while its own engine hangs. Packets may arrive nevertheless. An address may belong to another container by then: who
connects verifies whom it has reached, by a password, its role, and with TLS its certificate.
"""

from __future__ import annotations

import socket
import threading
from concurrent.futures import Future
from typing import Any

from redis.connection import Connection, SSLConnection

LOOKUP_SECONDS = 0.2
"""How long a lookup may take if there are last addresses."""


class Names:
    """The addresses of names, as they were last known. A lookup that takes long goes on, and the next caller waits."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._known: dict[str, list[str]] = {}
        self._lookups: dict[str, Future[None]] = {}
        self._mutex = threading.Lock()

    def addresses(self, name: str, seconds: float | None) -> list[str]:
        """Return the addresses of a name; raises OSError if none is known by then."""
        try:
            with self._mutex:
                if name not in self._lookups or self._lookups[name].done():
                    self._lookups[name] = self._begin(name)
                lookup = self._lookups[name]
        except RuntimeError:  # the process ends, and begins no more threads
            return _look_up(name)
        try:
            lookup.result(LOOKUP_SECONDS if name in self._known else seconds)
        except OSError:
            if name not in self._known:
                raise
        return self._known[name]

    def _begin(self, name: str) -> Future[None]:
        """Look a name up in a thread that does not keep the process from ending.

        Threads of a pool do: the process waits for ever if a signal has ended ``submit`` between the start of a thread
        and the note that the pool has it.
        """
        lookup: Future[None] = Future()
        threading.Thread(target=self._answer, args=(lookup, name), name="lookup", daemon=True).start()
        return lookup

    def _answer(self, lookup: Future[None], name: str) -> None:
        try:
            self._known[name] = _look_up(name)  # also if nobody waits for it any more
            lookup.set_result(None)
        except Exception as error:  # noqa: BLE001 - whoever waits raises it
            lookup.set_exception(error)


def _look_up(name: str) -> list[str]:
    return [str(found[4][0]) for found in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]


_names = Names()


class NamedConnection(Connection):
    """A connection that finds its host by ``Names``."""

    def _connect(self) -> Any:
        name = self.host
        error = OSError(f"{name} has no address")
        try:
            for address in _names.addresses(name, self.socket_connect_timeout):
                self.host = address
                try:
                    return super()._connect()  # type: ignore[no-untyped-call]
                except OSError as failed:
                    error = failed
        finally:
            self.host = name
        raise error


class NamedSSLConnection(SSLConnection, NamedConnection):
    """The same with TLS, which verifies the name."""
