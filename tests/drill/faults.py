"""What a drill does to a stack. Each returns when the fault has happened; healing is waited for elsewhere."""

from __future__ import annotations

import itertools
import shlex
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from drill.containers import Container, LookError
from drill.stack import Stack

PAUSE_SECONDS = 10.0
FREEZE_SECONDS = (1.5, 1.7, 1.9, 2.1, 2.3)
LATE_SECONDS = 12.0
AWAY_SECONDS = 60.0
STALE_SECONDS = 6.0
CUT_SECONDS = 1.5
OFF_SECONDS = 20.0
EMPTY = "find /data -mindepth 1 -delete"

Fault = Callable[[Stack], None]


def kill(stack: Stack) -> None:
    """Kill the primary; Swarm starts it again a second later."""
    stack.primary().kill()


def kill_late(stack: Stack) -> None:
    """Kill the primary, and whatever comes in its place for a while."""
    ends = time.monotonic() + LATE_SECONDS
    _keep_away(stack, stack.primary().service, until=lambda: time.monotonic() > ends)


def pause(stack: Stack, seconds: float = PAUSE_SECONDS) -> None:
    """Freeze the primary, and let it go on as if nothing had happened."""
    primary = stack.primary()
    primary.freeze("pause")
    try:
        time.sleep(seconds)
    finally:
        primary.freeze("unpause")


_freezes = itertools.cycle(FREEZE_SECONDS)


def freeze(stack: Stack) -> None:
    """Freeze the primary for about as long as the Sentinels take to replace it, each time for another time."""
    pause(stack, next(_freezes))


def cut_and_kill(stack: Stack) -> None:
    """Cut the replicas off for less time than the primary needs to notice; kill it, and join them again.

    The primary is frozen while they are cut off: one that is cut off first would lack what the other confirms
    meanwhile, and the Sentinels might promote it (docs/redis.md, limits). The primary stays away until one of them is
    the primary: what it alone has must not come back with it.
    """
    primary = stack.primary()
    replicas = [node for node in stack.nodes() if node.service != primary.service]
    pids = [replica.pid() for replica in replicas]
    try:
        primary.freeze("pause")
        try:
            _network(replicas, "down", pids)
        finally:
            primary.freeze("unpause")
        time.sleep(CUT_SECONDS)
        primary.kill()
    finally:
        _network(replicas, "up", pids)
    others = {replica.service for replica in replicas}
    _keep_away(stack, primary.service, until=lambda: any(one.service in others for one in stack.primaries()))


def wipe(stack: Stack) -> None:
    """Empty the primary's volume and kill it."""
    primary = stack.primary()
    primary.exec("sh", "-c", EMPTY)
    primary.kill()


def kill_all(stack: Stack) -> None:
    """Kill all nodes and Sentinels at once: all come back with other addresses."""
    _kill(stack.redis())


_turns = itertools.count()


def late_primary(stack: Stack) -> None:
    """Keep a replica away while the others count on; kill all, and let the primary come back last.

    The replica that was away lacks increments, and must not lead. Each run takes the next replica in turn.
    """
    primary = stack.primary().service
    replicas = [node.service for node in stack.nodes() if node.service != primary]
    stale = replicas[next(_turns) % len(replicas)]
    all_killed = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        kept_away = pool.submit(_keep_away, stack, stale, all_killed.is_set)
        try:
            before = stack.value()
            time.sleep(STALE_SECONDS)
            if stack.value() == before:
                raise LookError(f"nothing was counted while {stale} was away, so it lacks nothing: this shows nothing")
            _kill([container for container in stack.redis() if container.service != stale])
        finally:
            all_killed.set()
        kept_away.result()
    ends = time.monotonic() + LATE_SECONDS
    _keep_away(stack, primary, until=lambda: time.monotonic() > ends)


def forget(stack: Stack) -> None:
    """Kill all at once, and take from the Sentinels what they knew."""
    for sentinel in stack.sentinels():
        sentinel.exec("sh", "-c", EMPTY)
    _kill(stack.redis())


def lose_host(stack: Stack, off: str, on: str) -> None:
    """Switch off the host of the primary, and on again later; both commands are followed by the host's name."""
    host = stack.primary().host
    for switch in (off, on):
        words = [*shlex.split(switch), host.name]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LookError(f"{shlex.join(words)}: {done.stderr.strip()}")
        if switch is off:
            time.sleep(OFF_SECONDS)


def soak(stack: Stack, seconds: float) -> None:
    """Do nothing for a while."""
    del stack
    time.sleep(seconds)


def command(text: str) -> Fault:
    """Return a fault that is a command of the user's: a deployment, or a host that is switched off and on."""

    def run(stack: Stack) -> None:
        del stack
        done = subprocess.run(shlex.split(text), capture_output=True, text=True, check=False)
        if done.returncode:
            raise LookError(f"{text}: {(done.stdout + done.stderr)[-2000:]}")

    return run


def _keep_away(stack: Stack, service: str, until: Callable[[], bool]) -> None:
    """Kill a node, and whatever comes in its place; raises LookError when that takes too long."""
    deadline = time.monotonic() + AWAY_SECONDS
    while time.monotonic() < deadline:
        with suppress(LookError):  # what was asked, or was to be killed, has just ended by itself
            if until():
                return
            for container in (found for found in stack.nodes() if found.service == service):
                container.kill()
        time.sleep(0.2)
    raise LookError(f"{service} was kept away for {AWAY_SECONDS:g} s, and no other node is primary")


def _network(containers: list[Container], state: str, pids: list[str]) -> None:
    with ThreadPoolExecutor(len(containers)) as pool:
        list(pool.map(Container.network, containers, [state] * len(containers), pids))


def _kill(containers: list[Container]) -> None:
    with ThreadPoolExecutor(len(containers)) as pool:
        list(pool.map(Container.kill, containers))


FAULTS: dict[str, Fault] = {
    "kill": kill,
    "kill-late": kill_late,
    "pause": pause,
    "freeze": freeze,
    "wipe": wipe,
    "cut-and-kill": cut_and_kill,
    "kill-all": kill_all,
    "late-primary": late_primary,
    "forget": forget,
}
