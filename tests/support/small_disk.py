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
        """Take all room, but ``leave`` bytes. Others may write meanwhile, and never see more room than that."""
        with self._filler.open("ab") as file:
            while (more := shutil.disk_usage(self._path).free - leave) != 0:
                taken = file.seek(0, os.SEEK_END)
                if more < 0:
                    file.truncate(taken + more)
                    return
                with contextlib.suppress(OSError):
                    os.posix_fallocate(file.fileno(), taken, more)

    def make_room(self) -> None:
        """Give the room back."""
        self._filler.unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(path: Path, mib: int = 96) -> Iterator[SmallDisk]:
    """Mount one on an empty directory; skip the test for a user who may not do that."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(path)]
    mounted = subprocess.run(mount, check=False, capture_output=True, text=True)
    assert os.geteuid() or not mounted.returncode, mounted.stderr
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)
