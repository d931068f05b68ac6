"""The files of a stream of changes: closed one after another, and never changed then."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from backup.errors import BadBackupError

DIRECTORY_HOLDS = 60
"""How many segments are in a directory: a list of all files would be a large part of an upload after some days."""


class Segments:
    """Writes the segments ``N.K.aof`` of stream N: one after another they are an append-only file of Redis.

    They are closed when they are saved, so that restic reads and stores each of them once.
    """

    def __init__(self, directory: Path, stream: str) -> None:
        """Take where they go; the first is made with the first bytes."""
        self.directory, self.stream = directory, stream
        self._file: BinaryIO | None = None
        self._digest = hashlib.sha256()
        self._closed = 0
        self.size = 0
        """Of all segments together, in bytes."""

    def write(self, sent: bytes) -> None:
        """Append bytes; raises OSError, and what it appended is then not a part of the segment."""
        if not self._file:
            path = _path(self.directory, self.stream, self._closed)
            path.parent.mkdir(exist_ok=True)
            self._file = path.open("wb", buffering=0)
        began = self._file.tell()
        try:
            left = memoryview(sent)
            while left:
                left = left[self._file.write(left) :]
        except OSError:
            self._file.seek(began)
            self._file.truncate()
            raise
        self._digest.update(sent)
        self.size += len(sent)

    def end(self) -> dict[str, Any]:
        """End the present segment; return what ``joined`` compares with all of them."""
        if self._file:
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None
            self._closed += 1
        return {"segments": self._closed, "size": self.size, "sha256": self._digest.hexdigest()}


def joined(directory: Path, stream: str, manifest: Mapping[str, Any]) -> Path:
    """Return one file with all segments of a stream, which it replaces; raises BadBackupError unless all are there."""
    whole = directory / f"{stream}.aof"
    with whole.open("wb") as file:
        for number in range(manifest["segments"]):
            segment = _path(directory, stream, number)
            try:
                with segment.open("rb") as part:
                    shutil.copyfileobj(part, file)
            except FileNotFoundError:
                raise BadBackupError(f"{segment.name} of the log is missing") from None
            segment.unlink()
    if (size := whole.stat().st_size) != manifest["size"]:
        raise BadBackupError(f"stream {stream} of the log has {size} bytes instead of {manifest['size']}")
    with whole.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != manifest["sha256"]:
            raise BadBackupError(f"stream {stream} of the log is not what was saved")
    return whole


def _path(directory: Path, stream: str, number: int) -> Path:
    return directory / f"{number // DIRECTORY_HOLDS}" / f"{stream}.{number}.aof"
