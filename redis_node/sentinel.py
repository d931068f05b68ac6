"""A Sentinel. Each start writes its configuration again and keeps what the Sentinel has learned."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence

from redis_node.ask import NoAnswerError, ask, ask_all
from redis_node.journal import Journal
from redis_node.quorum import INFO_MILLISECONDS, PRIMARY_NAME, agreed_primary, views
from redis_node.settings import Address, Settings
from redis_node.settled import unsettled as unsettled  # noqa: PLC0414  # part of the interface of a kind
from redis_node.whole import write_whole

POLL_SECONDS = 0.3
PERIOD_SECONDS = 5.0
REPLICAS_SECONDS = 10.0
CONNECTED_SECONDS = 20.0
RECONNECT_MILLISECONDS = 1000
"""The youngest connection that a Sentinel replaces when a ping on it is not answered. With the default, 15 seconds, a
server that is back is found when TCP repeats its request, which it does ever more rarely."""
USER = "sentinel"
LEARNED = ("monitor", "myid", "current-epoch", "config-epoch", "leader-epoch", "known-replica", "known-sentinel")
"""Directives of its file that a Sentinel has learned."""


def command(settings: Settings) -> Sequence[str]:
    """Write the configuration, and return the server's command; on a new volume, wait for a primary first."""
    path = settings.data / "sentinel.conf"
    learned = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    learned = [line for line in learned if line.startswith(tuple(f"sentinel {word} " for word in LEARNED))]
    if monitor := [line.split() for line in learned if line.startswith("sentinel monitor ")]:
        learned = _with_replicas(settings, learned, Address(monitor[0][3], int(monitor[0][4])))
    else:
        primary = _primary(settings)
        learned = [f"sentinel monitor {PRIMARY_NAME} {primary.host} {primary.port} {len(settings.sentinels) // 2 + 1}"]
    write_whole(path, configuration(settings, learned))
    return ["redis-server", str(path), "--sentinel"]


def after_start(settings: Settings) -> None:
    """Make the Sentinel ask the nodes every second, and reconnect as fast.

    This is repeated, because a handover that is killed leaves another period behind.
    """
    periods = ("INFO-PERIOD", INFO_MILLISECONDS, "MIN-LINK-RECONNECT-PERIOD", RECONNECT_MILLISECONDS)
    while True:
        with contextlib.suppress(NoAnswerError):
            ask(settings, settings.address, "SENTINEL", "DEBUG", *periods)
        time.sleep(PERIOD_SECONDS)


def before_stop(settings: Settings) -> None:
    """Do nothing: the other Sentinels are a majority."""


def role(settings: Settings) -> str:
    """Return ``sentinel``; raises NoAnswerError."""
    ask(settings, settings.address, "PING")
    return "sentinel"


def use(settings: Settings, passwords: Mapping[str, str]) -> None:
    """Make the running Sentinel use a new password; raises NoAnswerError.

    It reconnects to all servers. Do not change the next Sentinel before this one is connected again: several Sentinels
    that do not hear the primary would replace it.
    """
    ask(settings, settings.address, "SENTINEL", "CONFIG", "SET", "sentinel-pass", passwords[USER])
    ask(settings, settings.address, "SENTINEL", "SET", PRIMARY_NAME, "auth-pass", passwords[USER])
    began = time.monotonic()
    while True:
        facts = ask(settings, settings.address, "SENTINEL", "MASTER", PRIMARY_NAME)
        passed = time.monotonic() - began
        if facts["flags"] == "master" and int(facts["last-ok-ping-reply"]) / 1000 < passed:
            return
        if passed > CONNECTED_SECONDS:
            raise NoAnswerError(f"{settings.address} does not hear the primary: {facts['flags']}")
        time.sleep(POLL_SECONDS)


def configuration(settings: Settings, learned: Sequence[str]) -> str:
    """Return the shared configuration, this Sentinel's own part, and what it has learned.

    Directives about the primary must follow the line that names it.
    """
    monitor = [line for line in learned if line.startswith("sentinel monitor ")]
    password = settings.passwords[USER]
    own = [
        *settings.listen,
        f"dir {settings.data}",
        f"sentinel announce-ip {settings.address.host}",
        f"sentinel announce-port {settings.address.port}",
        f"sentinel sentinel-user {USER}",
        f"sentinel sentinel-pass {password}",
        *monitor,
        f"sentinel auth-user {PRIMARY_NAME} {USER}",
        f"sentinel auth-pass {PRIMARY_NAME} {password}",
    ]
    shared = settings.config.read_text(encoding="utf-8").splitlines()
    return "\n".join([*own, *shared, *(line for line in learned if line not in monitor)]) + "\n"


def _with_replicas(settings: Settings, learned: Sequence[str], primary: Address) -> list[str]:
    """Return what was learned, with all other nodes as replicas.

    While no name can be resolved, as after a stop of all hosts, Redis 8.0 writes the primary in place of each replica,
    and does not start with such a file.
    """
    kept = [line for line in learned if not line.startswith("sentinel known-replica ")]
    others = [node for node in settings.nodes if node != primary]
    return [*kept, *(f"sentinel known-replica {PRIMARY_NAME} {node.host} {node.port}" for node in others)]


def _primary(settings: Settings) -> Address:
    """Return the primary on which the other Sentinels agree, or the only node that is one."""
    journal = Journal(settings.address)
    while True:
        if known := agreed_primary(views(settings), len(settings.sentinels)):
            return known
        roles = ask_all(settings.nodes, lambda node: str(ask(settings, node, "ROLE")[0]))
        primaries = [node for node, role in roles.items() if not isinstance(role, NoAnswerError) and role == "master"]
        if len(primaries) == 1:
            _await_replicas(settings, primaries[0])
            return primaries[0]
        journal.write(f"waits: {len(primaries)} nodes say they are primary")
        time.sleep(POLL_SECONDS)


def _await_replicas(settings: Settings, primary: Address) -> None:
    """Wait for the replicas: a Sentinel looks for them when it starts, and after that only from time to time."""
    deadline = time.monotonic() + REPLICAS_SECONDS
    while time.monotonic() < deadline:
        try:
            if len(ask(settings, primary, "ROLE")[2]) == len(settings.nodes) - 1:
                return
        except NoAnswerError:
            pass
        time.sleep(POLL_SECONDS)
