"""The drain flag: one byte that the processes of a replica share.

As soon as gunicorn handles SIGTERM, it closes its listening socket and drops the connections that wait there
(gunicorn issue 3397). So the replica drains first: it reports "not ready" and keeps serving until the edge has stopped
sending. Only then does gunicorn stop. The master sets the flag, its worker reads it.
"""

import mmap

# Anonymous memory is inherited by the worker that the master forks after importing this module.
_flag = mmap.mmap(-1, 1)


def start_draining() -> None:
    """Make this replica report that it is not ready."""
    _flag[0] = 1


def draining() -> bool:
    """Tell whether this replica is about to stop."""
    return _flag[0] == 1


def _reset() -> None:
    """Undo ``start_draining`` (tests share one process)."""
    _flag[0] = 0
