"""Filters for runs that change something: the process of a run, its hooks, and what its audit line says."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Callable, Container, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any


def process(pid: int) -> dict[str, Any]:
    """Return what tells a process of this machine from every other one; ``start`` is empty if there is none.

    ``machine`` includes the namespace of process ids, since containers can share a name and an id.
    """
    stat = _read(f"/proc/{pid}/stat")
    with suppress(OSError):
        return {
            "machine": f"{socket.gethostname()} {_read('/etc/machine-id')} {Path('/proc/self/ns/pid').readlink()}",
            "boot": _read("/proc/sys/kernel/random/boot_id"),
            "pid": pid,
            # The name of the program may contain spaces and parentheses. The 22nd field is the 20th after it.
            "start": stat.rpartition(")")[2].split()[19] if stat else "",
        }
    # Without /proc, nothing is known about processes, so all count as running.
    return {"machine": "", "boot": "", "pid": pid, "start": ""}


def has_ended(run: Mapping[str, Any]) -> bool:
    """Tell whether the ``process`` of a run is known to have ended; false if it belongs to another machine."""
    then = run["process"]
    now = process(then["pid"])
    if now["boot"] == then["boot"] and not now["start"] and _is_hidden(then["pid"]):
        return False
    return bool(now["machine"] == then["machine"] and now != then)


def _is_hidden(pid: int) -> bool:
    """Tell whether a process of another user runs that /proc does not show (mount option ``hidepid``)."""
    try:
        with suppress(ProcessLookupError):
            os.kill(pid, 0)
    except PermissionError:
        return True
    return False


def hooks(directory: str, before: Iterable[str], after: Iterable[str]) -> dict[str, Any]:
    """Return ``found``, the names of the hooks in a directory, and ``refused``: name -> why it would never run.

    ``before``, ``after``: the verbs before and after which hooks may run. Files that end in ``.example`` are no hooks.
    """
    known = ["after-failure", *(f"before-{verb}" for verb in before), *(f"after-{verb}" for verb in after)]
    found, refused = [], {}
    for path in sorted(Path(directory).glob("[!.]*")):
        if path.suffix == ".example":
            continue
        if path.name not in known:
            refused[path.name] = f"its name must be {', '.join(known[:-1])} or {known[-1]}"
        elif not (path.is_file() and os.access(path, os.X_OK)):
            refused[path.name] = f"it must be executable: chmod +x {path}"
        else:
            found.append(path.name)
    return {"found": found, "refused": refused}


def without_secrets(values: Mapping[str, Any], public: Container[str]) -> dict[str, Any]:
    """Return the values; of each whose name is not among ``public``, the first digits of its SHA-256 only.

    Of Ansible's own variables not even these, since a password for ``sudo`` could be guessed from them.
    """
    return {
        name: value if name in public else "***" if name.startswith("ansible_") else _digest(value)
        for name, value in values.items()
    }


def _digest(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _read(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text(encoding="utf-8").strip()
    return ""


class FilterModule:
    """The filters by name, for Ansible."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Return the filters by name."""
        return {
            "process": process,
            "has_ended": has_ended,
            "hooks": hooks,
            "without_secrets": without_secrets,
        }
