"""What a Redis node sends to its replicas, written to a file: a copy of its data, and every change since."""

from __future__ import annotations

import io
import os
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Buffer, Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO

from backup.errors import BackupError
from counter.config import Address

CONNECT_SECONDS = 5.0
SILENCE_SECONDS = 60.0
"""How long a node may send nothing. While it prepares its copy it sends empty lines, and later pings."""
ANSWER_SECONDS = 1.0
"""How often replicas answer. A node drops those that do not."""
LEAST_CHANGES = 64 << 20
LEAST_FREE = 512 << 20
"""What a file leaves free on its disk, in bytes, once its changes take ``LEAST_CHANGES``: Redis nodes may need it."""
CHUNK = 1 << 16
POLL_SECONDS = 0.02
_ACKNOWLEDGED_NOTHING = (b"REPLCONF", b"ACK", b"0")
_NO_CHANGES = {b"PING", b"REPLCONF", b"PUBLISH"}
"""Also the messages of Sentinels, which Redis does not write to its own files."""


class BrokenError(BackupError):
    """Changes may be missing, so that the file has to begin anew."""


class Stream(threading.Thread):
    """Follows a node as its replica, and never confirms what it got: an increment is not safe because it is here.

    The file is an append-only file as Redis writes it: a copy (an RDB preamble), then commands. ``#TS:`` and the
    seconds since the epoch are before the first command that arrived in a second (``aof-timestamp-enabled``).
    """

    def __init__(self, node: Address, user: str, password: str, ca_file: str | None, path: Path) -> None:
        """Log in and copy the data; returns when changes can follow (``start``).

        Raises:
            OSError, BackupError: the node cannot be reached or refuses.

        """
        super().__init__(daemon=True, name=f"stream of {node}")
        self.node = node
        self._guard = threading.Lock()
        self._second = 0
        self._reason = ""
        self._ending = ExitStack()
        try:
            self._file = self._ending.enter_context(path.open("wb"))
            self._socket = self._ending.enter_context(_connected(node, ca_file))
            self._source = _Source(self._socket)
            self._incoming = io.BufferedReader(self._source)
            self._ask(b"AUTH", user.encode(), password.encode())
            self._ask(b"REPLCONF", b"capa", b"eof")
            _, replication_id, offset = self._ask(b"PSYNC", b"?", b"-1").split()
            self.replication_id, self.offset = replication_id.decode(), int(offset)
            self._copy()
            self._copied = self._file.tell()
            self._source.answer = lambda: self._send(*_ACKNOWLEDGED_NOTHING)
        except BaseException:
            self.close()
            raise

    def run(self) -> None:
        """Write changes until the connection ends."""
        try:
            transaction: list[bytes] = []
            for name, sent in commands(self._incoming):
                if name in {b"FLUSHALL", b"FLUSHDB"}:
                    raise BrokenError("its data was replaced")
                if name == b"MULTI" or transaction:
                    transaction.append(sent)
                    if name != b"EXEC":
                        continue
                with self._guard:
                    if name not in _NO_CHANGES:
                        self._begin_second(int(time.time()))
                        self._file.write(b"".join(transaction) or sent)
                    self.offset += sum(map(len, transaction)) or len(sent)
                transaction = []
        except Exception as error:  # noqa: BLE001  # whatever it is, changes are missing
            self._reason = str(error) or type(error).__name__

    def reach(self, replication_id: str, offset: int, seconds: float) -> None:
        """Wait until everything up to an offset is in the file.

        Raises:
            BackupError: it takes longer; BrokenError: changes are missing.

        """
        deadline = time.monotonic() + seconds
        while not self._reason and self.replication_id == replication_id and self.offset < offset:
            if time.monotonic() > deadline:
                raise BackupError(f"{self.node} sends changes too slowly")
            time.sleep(POLL_SECONDS)
        if self._reason or self.replication_id != replication_id:
            raise BrokenError(f"the changes of {self.node} ended: {self._reason or 'its primary was replaced'}")

    def end_second(self, second: int) -> None:
        """End a second: later changes belong to later seconds. Write all to the file."""
        with self._guard:
            self._begin_second(second + 1)
            self._file.flush()

    def close(self) -> None:
        """End the connection."""
        if self.is_alive():
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self.join()
        # The disk may be full.
        with suppress(OSError):
            self._ending.close()

    def _begin_second(self, second: int) -> None:
        if second < self._second - 1:  # `end_second` is one ahead
            raise BrokenError("the clock was set back")
        if second > self._second:
            changes = self._file.tell() - self._copied
            if changes > LEAST_CHANGES and shutil.disk_usage(self._file.name).free < LEAST_FREE:
                raise BrokenError("the disk is nearly full")
            self._file.write(b"#TS:%d\r\n" % second)
            self._second = second

    def _send(self, *words: bytes) -> None:
        self._socket.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))

    def _ask(self, *words: bytes) -> bytes:
        self._send(*words)
        answer = self._line()
        if not answer.startswith(b"+"):
            raise BackupError(f"{self.node} refuses {words[0].decode()}: {answer[1:].decode(errors='replace')}")
        return answer[1:]

    def _line(self) -> bytes:
        """Return the next line that is not empty."""
        while not (line := _read_line(self._incoming)):
            pass
        return line

    def _copy(self) -> None:
        """Write the copy, of which the node sends the length before it or a mark after it."""
        kind = self._line()
        if kind.startswith(b"$EOF:"):
            mark, tail = kind[5:], b""
            # The node waits for an answer after the mark.
            while not tail.endswith(mark):
                self._file.write(chunk := self._some(CHUNK))
                tail = (tail + chunk)[-len(mark) :]
            self._file.seek(-len(mark), os.SEEK_END)
            self._file.truncate()
        else:
            left = int(kind[1:])
            while left:
                left -= self._file.write(self._some(min(left, CHUNK)))

    def _some(self, most: int) -> bytes:
        if not (chunk := self._incoming.read1(most)):
            raise ConnectionError("the connection was closed")
        return chunk


class _Source(io.RawIOBase):
    """What arrives at a socket. While waiting, it answers if there is an ``answer``."""

    def __init__(self, incoming: socket.socket) -> None:
        self._socket = incoming
        self._socket.settimeout(ANSWER_SECONDS)
        self.answer: Callable[[], None] | None = None
        self._answered = 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        began = time.monotonic()
        while True:
            if self.answer and time.monotonic() - self._answered >= ANSWER_SECONDS:
                self._answered = time.monotonic()
                self.answer()
            try:
                return self._socket.recv_into(buffer)
            except TimeoutError:
                if time.monotonic() - began > SILENCE_SECONDS:
                    raise


def commands(source: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the name of each command, and all that was sent for it.

    Raises:
        OSError: the connection ended; ValueError: this is not how Redis writes commands.

    """
    while True:
        sent = [_read_line(source)]
        for _ in range(int(sent[0].removeprefix(b"*"))):
            length = _read_line(source)
            size = int(length.removeprefix(b"$")) + 2
            if len(word := source.read(size)) < size:
                raise ConnectionError("the connection was closed")
            sent += [length, word[:-2]]
        yield sent[2].upper(), b"\r\n".join([*sent, b""])


def _read_line(source: IO[bytes]) -> bytes:
    """Return a line without its end."""
    if not (line := source.readline()).endswith(b"\n"):
        raise ConnectionError("the connection was closed")
    return line.rstrip(b"\r\n")


def _connected(node: Address, ca_file: str | None) -> socket.socket:
    plain = socket.create_connection((node.host, node.port), CONNECT_SECONDS)
    if not ca_file:
        return plain
    try:
        return ssl.create_default_context(cafile=ca_file).wrap_socket(plain, server_hostname=node.host)
    except BaseException:
        plain.close()
        raise
