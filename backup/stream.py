"""What a Redis node sends to its replicas, written to files: a copy of its data, and every change since."""

from __future__ import annotations

import io
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Buffer, Callable, Iterator
from contextlib import suppress
from typing import IO, Any

from backup.errors import BackupError
from backup.segments import Segments
from counter.config import Address

CONNECT_SECONDS = 5.0
SILENCE_SECONDS = 60.0
"""How long a node may send nothing. While it prepares its copy it sends empty lines, and later pings."""
ANSWER_SECONDS = 1.0
"""How often replicas answer. A node drops those that do not."""
LEAST_CHANGES = 64 << 20
LEAST_FREE = 512 << 20
"""What a stream leaves free on its disk, in bytes, once its changes take ``LEAST_CHANGES``: Redis nodes may need it."""
CHUNK = 1 << 16
POLL_SECONDS = 0.02
_ACKNOWLEDGED_NOTHING = (b"REPLCONF", b"ACK", b"0")
_NO_CHANGES = {b"PING", b"REPLCONF", b"PUBLISH"}
"""Also the messages of Sentinels, which Redis does not write to its own files."""


class BrokenError(BackupError):
    """Changes may be missing, so that the files have to begin anew."""


class EndedError(BackupError):
    """A stream ended, and can go on by its offset at a node with the same history."""


class Stream:
    """Follows nodes as their replica, one after another, and never confirms what it got.

    So no increment is safe because it is here. The segments are, one after another, an append-only file as Redis writes
    it: a copy (an RDB preamble), then commands. ``#TS:`` and the seconds since the epoch are before the first command
    that arrived in a second (``aof-timestamp-enabled``).
    """

    def __init__(self, user: str, password: str, ca_file: str | None, files: Segments) -> None:
        """Take how to log in, and where to write."""
        self._user, self._password, self._ca_file, self._files = user, password, ca_file, files
        self._guard = threading.Lock()
        self._thread = threading.Thread()
        self._connection: _Connection | None = None
        self._node: Address | None = None
        self.name = files.stream
        self.copied = 0
        """How many bytes the copy takes."""
        self._second = self._least = 0
        self._reason, self._broken = "nothing is followed", False
        self.replication_id, self.offset = "?", -2
        """What the node calls its changes, and how many bytes of them are in the files."""
        self.arrived = 0
        """The second to which the last of them belongs: that in which it came, or the next one after ``end_second``."""

    @property
    def is_following(self) -> bool:
        """Whether changes arrive."""
        return not self._reason

    def follow(self, node: Address, replication_id: str | None) -> None:
        """Copy the data of a node, or go on where the changes ended, and follow it.

        ``replication_id``: what the primary of a replica calls the changes. A replica that has been promoted has
        another one. It is not followed: it would take this for a replica of its own, and accept writes.

        Raises:
            OSError, BackupError: the node cannot be reached or refuses.
            BrokenError: it does not have the changes that come next.

        """
        self.close()
        self._node, self._reason = node, "it has not been copied"
        connection = self._connection = _Connection(node, self._ca_file)
        connection.ask(b"AUTH", self._user.encode(), self._password.encode())
        connection.ask(b"REPLCONF", b"capa", b"eof", b"capa", b"psync2")
        answer = connection.ask(b"PSYNC", self.replication_id.encode(), b"%d" % (self.offset + 1))
        kind, found, *offset = answer.decode().split()
        if kind == "FULLRESYNC" and self._files.size:
            raise BrokenError(f"{node} does not have the changes that come next")
        if replication_id not in {None, found}:
            raise EndedError(f"{node} is no longer a replica of the same primary")
        self.replication_id = found
        if kind == "FULLRESYNC":
            self.offset = int(offset[0])
            connection.copy(self._write)
            self.copied, self.arrived = self._files.size, int(time.time())
        connection.answer_nothing()
        self._reason = ""
        self._thread = threading.Thread(target=self._record, args=(connection,), daemon=True, name=f"stream of {node}")
        self._thread.start()

    def _record(self, connection: _Connection) -> None:
        """Write changes until the connection ends."""
        try:
            transaction: list[bytes] = []
            for name, sent in commands(connection.incoming):
                if name in {b"FLUSHALL", b"FLUSHDB"}:
                    raise BrokenError("its data was replaced")
                if name == b"MULTI" or transaction:
                    transaction.append(sent)
                    if name != b"EXEC":
                        continue
                with self._guard:
                    if name not in _NO_CHANGES:
                        self._begin_second(int(time.time()))
                        self._write(b"".join(transaction) or sent)
                    self.offset += sum(map(len, transaction)) or len(sent)
                    self.arrived = max(int(time.time()), self._second)
                transaction = []
        except OSError as error:
            self._reason = str(error) or type(error).__name__
        except Exception as error:  # noqa: BLE001  # whatever it is, changes are missing
            self._broken, self._reason = True, str(error) or type(error).__name__

    def reach(self, replication_id: str, offset: int, seconds: float) -> None:
        """Wait until everything up to an offset is in the files.

        Raises:
            BackupError: it takes longer; EndedError: it is not going to be; BrokenError: changes are missing.

        """
        deadline = time.monotonic() + seconds
        while self.is_following and self.replication_id == replication_id and self.offset < offset:
            if time.monotonic() > deadline:
                raise BackupError(f"{self._node} sends changes too slowly")
            time.sleep(POLL_SECONDS)
        reason = f"the changes of {self._node} ended: {self._reason or 'its primary was replaced'}"
        if self._broken:
            raise BrokenError(reason)
        if self.replication_id != replication_id or self.offset < offset:
            raise EndedError(reason)

    def end_second(self, second: int) -> dict[str, Any]:
        """End a second and the segment: later changes belong to later seconds. Returns what describes all segments."""
        with self._guard:
            self._refuse_past(second + 1)
            self._least = max(self._least, second + 1)
            return self._files.end()

    def end_segment(self) -> dict[str, Any]:
        """End the segment with what has arrived; return what describes all segments."""
        with self._guard:
            return self._files.end()

    @property
    def changed(self) -> int:
        """How many bytes the changes take."""
        return self._files.size - self.copied

    def close(self) -> None:
        """End the connection."""
        if self._connection:
            self._connection.end()
        if self._thread.is_alive():
            self._thread.join()
        if self._connection:
            self._connection.close()

    def _begin_second(self, now: int) -> None:
        self._refuse_past(now)
        if (second := max(now, self._least)) > self._second:
            if self.changed > LEAST_CHANGES and shutil.disk_usage(self._files.directory).free < LEAST_FREE:
                raise BrokenError("the disk is nearly full")
            self._write(b"#TS:%d\r\n" % second)
            self._second = second

    def _refuse_past(self, second: int) -> None:
        if second < max(self._second, self._least) - 1:  # `end_second` is one ahead
            raise BrokenError("the clock was set back")

    def _write(self, sent: bytes) -> None:
        try:
            self._files.write(sent)
        except OSError as error:
            raise BrokenError(f"its files cannot be written: {error}") from error


class _Connection:
    """A connection to a node, as its replica."""

    def __init__(self, node: Address, ca_file: str | None) -> None:
        """Connect; raises OSError."""
        self._node = node
        self._socket = _connected(node, ca_file)
        self._source = _Source(self._socket)
        self.incoming = io.BufferedReader(self._source)

    def ask(self, *words: bytes) -> bytes:
        """Return the answer to a command; raises OSError, or BackupError if it is an error."""
        self._send(*words)
        answer = self._line()
        if not answer.startswith(b"+"):
            raise BackupError(f"{self._node} refuses {words[0].decode()}: {answer[1:].decode(errors='replace')}")
        return answer[1:]

    def copy(self, write: Callable[[bytes], None]) -> None:
        """Write the copy, of which the node sends the length before it or a mark after it."""
        kind = self._line()
        if kind.startswith(b"$EOF:"):
            mark, tail = kind[5:], b""
            # The node waits for an answer after the mark.
            while tail != mark:
                tail += self._some(CHUNK)
                write(tail[: -len(mark)])
                tail = tail[-len(mark) :]
        else:
            left = int(kind[1:])
            while left:
                write(chunk := self._some(min(left, CHUNK)))
                left -= len(chunk)

    def answer_nothing(self) -> None:
        """Answer from now on, while waiting, that nothing is safe here."""
        self._source.answer = lambda: self._send(*_ACKNOWLEDGED_NOTHING)

    def end(self) -> None:
        """Let whoever reads from it find its end."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close it, when nobody reads from it."""
        self._socket.close()

    def _send(self, *words: bytes) -> None:
        self._socket.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))

    def _line(self) -> bytes:
        """Return the next line that is not empty."""
        while not (line := _read_line(self.incoming)):
            pass
        return line

    def _some(self, most: int) -> bytes:
        if not (chunk := self.incoming.read1(most)):
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
