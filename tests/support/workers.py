"""What one of pytest's workers makes for all of them."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once[T](factory: pytest.TempPathFactory, name: str, make: Callable[[Path], T]) -> T:
    """Return what ``make`` returns for a new directory, which JSON must be able to hold.

    The first worker that asks for ``name`` makes it, and the others wait for it: a fixture belongs to one worker, and a
    run of Ansible takes up to a minute.
    """
    directory = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        directory = directory.parent
    made = directory / f"{name}.json"
    with made.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            made.write_text(json.dumps(make(factory.mktemp(name))), "utf-8")
    found: T = json.loads(made.read_text("utf-8"))
    return found
