"""Commands to Redis nodes and Sentinels. Each is bounded in time, name lookup included."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import hiredis

from redis_node.errors import NoAnswerError, NodeError, RefusedError, StateError, refusal
from redis_node.settings import Address, Settings

CONNECT_SECONDS = 1.0
ANSWER_SECONDS = 2.0
POLL_SECONDS = 0.02
USER = "operator"
_READ_BYTES = 65536

Word = str | int
"""A part of a command. Text may hold any bytes of Redis, those that are no UTF-8 as surrogates."""


class Connection:
    """A connection to one server, logged in as the operator; a context manager."""

    def __init__(self, settings: Settings, address: Address) -> None:
        """Connect and log in; raises NoAnswerError or RefusedError."""
        self.address = address
        self._awaited = 0
        self._reader = hiredis.Reader(encoding="utf-8", errors="surrogateescape")
        try:
            self._socket = _connect(address)
            try:
                if settings.ca:
                    self._socket = _context(settings.ca).wrap_socket(self._socket)
                self.ask("HELLO", 3, "AUTH", USER, settings.passwords[USER])
            except BaseException:
                self._socket.close()
                raise
        except OSError as error:
            raise NoAnswerError(f"{address}: {error.strerror or error}") from None

    def __enter__(self) -> Self:
        """Return the connection."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self._socket.close()

    def ask(self, *command: Word) -> Any:
        """Return the reply: text, number, list, dictionary or None; raises NoAnswerError or RefusedError."""
        (reply,) = self.ask_each([command])
        if isinstance(reply, RefusedError):
            raise reply
        return reply

    def ask_each(self, commands: Iterable[Sequence[Word]]) -> list[Any]:
        """Send all commands at once and return their replies, a RefusedError in the place of one that is an error.

        Raises:
            NoAnswerError: a reply did not come in time; what was done is not known.

        """
        self.send(commands)
        return self.receive()

    def send(self, commands: Iterable[Sequence[Word]]) -> None:
        """Send commands, whose replies ``receive`` returns; raises NoAnswerError."""
        packed = [hiredis.pack_command(tuple(map(_bytes, command))) for command in commands]  # type: ignore[arg-type]
        with self._explained():
            self._socket.settimeout(ANSWER_SECONDS)
            self._socket.sendall(b"".join(packed))
        self._awaited += len(packed)

    def receive(self) -> list[Any]:
        """Return the replies to all that was sent, a RefusedError in the place of one that is an error."""
        awaited, self._awaited = self._awaited, 0
        with self._explained():
            return [self._reply() for _ in range(awaited)]

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            raise NoAnswerError(f"{self.address}: no answer within {ANSWER_SECONDS:g} s") from None
        except (OSError, hiredis.HiredisError) as error:
            raise NoAnswerError(f"{self.address}: {error}") from None

    def _reply(self) -> Any:
        deadline = time.monotonic() + ANSWER_SECONDS
        while (reply := self._reader.gets()) is False:  # no command of ours is answered with a RESP3 boolean
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            read = self._socket.recv(_READ_BYTES)
            if not read:
                raise ConnectionResetError("closed the connection")
            self._reader.feed(read)
        return refusal(self.address, str(reply)) if isinstance(reply, hiredis.ReplyError) else reply


def ask(settings: Settings, address: Address, *command: Word) -> Any:
    """Return the reply to one command: text, number, list, dictionary or None.

    Raises:
        NoAnswerError: no reply in time.
        RefusedError: an error as the reply.

    """
    with Connection(settings, address) as connection:
        return connection.ask(*command)


def ask_all[T](addresses: Iterable[Address], question: Callable[[Address], T]) -> dict[Address, T | NodeError]:
    """Ask all addresses at the same time; return each answer, or the error in its place."""

    def answer(address: Address) -> T | NodeError:
        try:
            return question(address)
        except NodeError as error:
            return error

    addresses = list(addresses)
    with ThreadPoolExecutor(max(1, len(addresses))) as pool:
        return dict(zip(addresses, pool.map(answer, addresses), strict=True))


def until(probe: Callable[[], bool], seconds: float, otherwise: str) -> None:
    """Wait until ``probe`` returns True; raises StateError with the text ``otherwise`` when that takes too long."""
    deadline = time.monotonic() + seconds
    while not probe():
        if time.monotonic() > deadline:
            raise StateError(otherwise)
        time.sleep(POLL_SECONDS)


def info(settings: Settings, address: Address, *sections: str) -> dict[str, str]:
    """Return sections of INFO as name -> value; raises NodeError."""
    lines = str(ask(settings, address, "INFO", *sections)).splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def is_primary(settings: Settings, address: Address) -> bool:
    """Tell whether a node is a primary; False without an answer: a node that is promoted closes its connections."""
    try:
        return bool(ask(settings, address, "ROLE")[0] == "master")
    except NodeError:
        return False


def _connect(address: Address) -> socket.socket:
    """Return a connected socket; raises OSError."""
    error: OSError = TimeoutError(f"its name was not found within {CONNECT_SECONDS:g} s")
    for host in lookup(address):
        try:
            connected = socket.create_connection((host, address.port), CONNECT_SECONDS)
        except OSError as refused:
            error = refused
        else:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connected
    raise error


def lookup(address: Address) -> list[str]:
    """Return the addresses of a name, none when that takes too long; raises OSError. A lookup has no time limit."""
    found: list[str] | OSError = []

    def look() -> None:
        nonlocal found
        try:
            found = [str(where[0]) for *_, where in socket.getaddrinfo(*address, type=socket.SOCK_STREAM)]
        except OSError as error:
            found = error

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    looking.join(CONNECT_SECONDS)
    if isinstance(found, OSError):
        raise found
    return found


def _context(ca: str) -> ssl.SSLContext:
    """Return a context that verifies the authority but no name, as Redis does: cluster nodes are reached by address."""
    context = ssl.create_default_context(cafile=ca)
    context.check_hostname = False
    return context


def _bytes(word: Word) -> bytes:
    return str(word).encode("utf-8", "surrogateescape")
