"""The server as a child of this process: looked after, prepared for its stop, and ended with this process."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence

AGAIN_SECONDS = 1.0


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
        try:
            before_stop()
        finally:
            threading.Thread(target=_terminate, args=(child,), daemon=True).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    # A session of its own, since a terminal's interrupt goes to all processes of one; and killed when this process is.
    child = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], start_new_session=True)
    threading.Thread(target=_look_after, args=(after_start,), daemon=True).start()
    return child.wait()


def _look_after(work: Callable[[], None]) -> None:
    """Do the work to its end. Where it fails, its log says why, and it begins again: a server is not left alone."""
    while True:
        try:
            return work()
        except (Exception, SystemExit):  # noqa: BLE001  # whatever it is
            traceback.print_exc()
            time.sleep(AGAIN_SECONDS)


def _terminate(child: subprocess.Popen[bytes]) -> None:
    """Tell the server to stop until it does: one that writes its first append-only file after a copy refuses once."""
    while child.returncode is None:
        child.terminate()
        time.sleep(AGAIN_SECONDS)
