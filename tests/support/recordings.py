"""Recorded runs of the benchmark: ``tests/bench/recorded`` holds an archive of each.

An archive is made with ``tar --create --xz --file NAME.tar.xz NAME``. NAME is the directory that a run leaves in
``reports``, without what was made from its data: ``arms``, ``resources`` and ``manifest.json``.
"""

from __future__ import annotations

import tarfile
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from support.ansible import ROOT

_ARCHIVES = {path.name.removesuffix(".tar.xz"): path for path in ROOT.glob("tests/bench/recorded/*.tar.xz")}
_SHARED = TemporaryDirectory(prefix="counter-recorded-")

RUNS = sorted(_ARCHIVES)
"""The names of the recorded runs."""


def unpack(run: str, directory: Path) -> Path:
    """Unpack a run into ``directory``, and return the directory of the run in there."""
    with tarfile.open(_ARCHIVES[run]) as archive:
        archive.extractall(directory, filter="data")
    return directory / run


@cache
def unpacked(run: str) -> Path:
    """Return the directory of a run. All tests share it, so that none may change it."""
    return unpack(run, Path(_SHARED.name))
