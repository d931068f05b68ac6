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
    """The addresses of names, as they were last known."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._known: dict[str, list[str]] = {}
        self._lookups: dict[str, Future[list[str]]] = {}
        self._mutex = threading.Lock()

    def addresses(self, name: str) -> list[str]:
        """Return the addresses of a name; raises OSError if it never had one."""
        try:
            with self._mutex:
                if name not in self._lookups or self._lookups[name].done():
                    self._lookups[name] = _begin(name)
                lookup = self._lookups[name]
        except RuntimeError:  # the process ends, and begins no more threads
            return _look_up(name)
        try:
            self._known[name] = lookup.result(LOOKUP_SECONDS if name in self._known else None)
        except OSError:
            if name not in self._known:
                raise
        return self._known[name]


def _begin(name: str) -> Future[list[str]]:
    """Look a name up in a thread that does not keep the process from ending.

    Threads of a pool do: the process waits for ever if a signal has ended ``submit`` between the start of a thread and
    the note that the pool has it.
    """
    lookup: Future[list[str]] = Future()
    threading.Thread(target=_answer, args=(lookup, name), name="lookup", daemon=True).start()
    return lookup


def _answer(lookup: Future[list[str]], name: str) -> None:
    try:
        lookup.set_result(_look_up(name))
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
            for address in _names.addresses(name):
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
