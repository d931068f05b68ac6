"""A disk that a test can fill: a file system in memory."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

MIB = 2**20


class SmallDisk:
    """A mounted file system, and the file that takes its room."""

    def __init__(self, path: Path) -> None:
        """Take the directory."""
        self._path = path
        self._filler = path / "filler"

    def fill(self, leave: int = 0) -> None:
        """Take all room, but ``leave`` bytes; others may write meanwhile."""
        self.make_room()
        with self._filler.open("wb") as file:
            while (free := shutil.disk_usage(self._path).free) > leave:
                with contextlib.suppress(OSError):
                    os.posix_fallocate(file.fileno(), 0, file.seek(0, os.SEEK_END) + free - leave)

    def make_room(self) -> None:
        """Give the room back."""
        self._filler.unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(path: Path, mib: int = 96) -> Iterator[SmallDisk]:
    """Mount one on an empty directory; skip the test where that is not permitted."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(path)]
    mounted = subprocess.run(mount, check=False, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)
