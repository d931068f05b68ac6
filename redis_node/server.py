"""Runs the server as a child: watches it, prepares its stop, and ends it with this process."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence

STOPS = (signal.SIGTERM, signal.SIGINT)
AGAIN_SECONDS = 1.0
STOP_SECONDS = 15.0
"""How long the server may take to stop. It may wait ten seconds for its replicas."""


def serve(command: Sequence[str], after_start: Callable[[], None], before_stop: Callable[[], None]) -> int:
    """Run the server until it ends, and return its exit status.

    ``after_start`` runs beside it. At SIGTERM or SIGINT ``before_stop`` runs first, while the server still serves; then
    the server is told to stop.
    """
    child: subprocess.Popen[bytes] | None = None
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        if child is None:
            sys.exit(0)
        if stopping:
            return
        stopping = True
        # Not in the handler, which interrupts whatever this thread is doing.
        threading.Thread(target=_end, args=(child, before_stop), daemon=True).start()

    for number in STOPS:
        signal.signal(number, stop)
    # A session of its own keeps the interrupt of a terminal away. The child is killed when this process dies. The child
    # inherits the descriptor that holds the volume (``hold-volume``), the only one that Python passes on.
    child = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], start_new_session=True, close_fds=False)
    # A signal that another thread receives would not end the wait of this one, which runs the handler.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    threading.Thread(target=_look_after, args=(after_start,), daemon=True).start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
    return child.wait()


def _look_after(work: Callable[[], None]) -> None:
    """Do the work to its end. If it fails, log the error and begin again, so that the server stays watched."""
    while True:
        try:
            return work()
        except (Exception, SystemExit):  # noqa: BLE001  # whatever it is
            traceback.print_exc()
            time.sleep(AGAIN_SECONDS)


def _end(child: subprocess.Popen[bytes], before_stop: Callable[[], None]) -> None:
    try:
        before_stop()
    finally:
        _terminate(child)


def _terminate(child: subprocess.Popen[bytes]) -> None:
    """Ask the server to stop until it does, and kill it in the end.

    While it writes its first file after a copy, Redis refuses: once, or as long as the disk is full.
    """
    deadline = time.monotonic() + STOP_SECONDS
    while child.returncode is None:
        if time.monotonic() < deadline:
            child.terminate()
        else:
            child.kill()
        time.sleep(AGAIN_SECONDS)
