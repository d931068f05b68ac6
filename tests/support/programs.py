"""Programs in Python, each a process of its own, but forked from one that has imported what they import."""

from __future__ import annotations

import math
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from multiprocessing import forkserver
from pathlib import Path
from typing import Self

POLL_SECONDS = 0.02
_forks = multiprocessing.get_context("forkserver")
# Half a second of processor time for each start, which most runs take for nothing else.
_forks.set_forkserver_preload([__name__, "backup.__main__"])
_numbers = count()


class Program:
    """``python -m MODULE ARGUMENT...`` in a session of its own, as ``subprocess.Popen`` would run it."""

    def __init__(self, module: str, arguments: Sequence[str], environ: Mapping[str, str], directory: Path) -> None:
        """Start it in a directory, where its outputs are files: what nobody reads then stops no program."""
        paths = [directory / f"{next(_numbers)}.{name}" for name in ("printed", "said")]
        for path in paths:
            path.touch()
        self._printed, self._said = (path.open(encoding="utf-8") for path in paths)
        self._process = _forks.Process(target=_run, args=(module, arguments, dict(environ), directory, paths))
        # The status can be read once.
        self._asking = threading.Lock()
        self._process.start()
        assert self._process.pid
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()

    @property
    def returncode(self) -> int | None:
        """Its exit status, less than zero if a signal ended it; None while it runs."""
        with self._asking:
            return self._process.exitcode

    @property
    def said(self) -> Iterator[str]:
        """The lines that it writes to standard error, as they come."""
        while True:
            has_ended = self.returncode is not None
            if line := self._said.readline():
                yield line
            elif has_ended:
                return
            else:
                time.sleep(POLL_SECONDS)

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit status; raises subprocess.TimeoutExpired."""
        deadline = time.monotonic() + (math.inf if timeout is None else timeout)
        while (status := self.returncode) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            time.sleep(POLL_SECONDS)
        return status

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Return what it wrote to its two outputs, when it has ended; raises subprocess.TimeoutExpired."""
        self.wait(timeout)
        return self._printed.read(), self._said.read()

    def send_signal(self, number: signal.Signals) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def end_forks() -> None:
    """End the process that programs are forked from, so that their processor time counts as that of this one."""
    forkserver._forkserver._stop()  # type: ignore[attr-defined]  # noqa: SLF001  # nothing else waits for it


def _run(
    module: str, arguments: Sequence[str], environ: Mapping[str, str], directory: Path, outputs: Sequence[Path]
) -> None:
    os.setsid()
    for number, path in enumerate(outputs, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environ)
    sys.argv[1:] = arguments
    # The one that was imported, since another one will be run.
    sys.modules.pop(f"{module}.__main__", None)
    runpy.run_module(module, run_name="__main__", alter_sys=True)
