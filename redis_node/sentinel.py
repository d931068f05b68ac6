"""A Sentinel. Each start writes its configuration again and keeps what the Sentinel has learned."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Mapping, Sequence

from redis_node.ask import ask, ask_all
from redis_node.atomic_write import atomic_write
from redis_node.errors import NodeError, StateError
from redis_node.journal import Journal
from redis_node.kind import Kind
from redis_node.quorum import INFO_MILLISECONDS, PING_MILLISECONDS, PRIMARY_NAME, View, agreed_primary, view, views
from redis_node.settings import Address, Settings
from redis_node.settled import what_is_missing

POLL_SECONDS = 0.3
PERIOD_SECONDS = 5.0
REPLICAS_SECONDS = 10.0
CONNECTED_SECONDS = 20.0
RECONNECT_MILLISECONDS = 1000
"""The youngest connection that a Sentinel replaces when a ping on it is not answered. With the default, 15 seconds, a
server that is back is found when TCP repeats its request, which it does ever more rarely."""
USER = "sentinel"
LEARNED = ("myid", "current-epoch", "config-epoch", "leader-epoch", "known-sentinel")
"""Directives of its file that a Sentinel has learned, besides the primary."""


class Sentinel(Kind):
    """A Sentinel."""

    def command(self) -> Sequence[str]:
        """Write the configuration, and return the server's command; on a new volume, wait for a primary first."""
        path = self.settings.data / "sentinel.conf"
        learned = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        known = {words[1]: words for line in learned if (words := line.split())[:1] == ["sentinel"]}
        if "monitor" in known:
            # Redis adds the epoch when it has started.
            epoch = int(known["config-epoch"][3]) if "config-epoch" in known else 0
            own = View(epoch, Address(known["monitor"][3], int(known["monitor"][4])))
            primary = _corrected(self.settings, own) or own.primary
            learned = [line for line in learned if line.startswith(tuple(f"sentinel {word} " for word in LEARNED))]
            learned = [_monitor(self.settings, primary), *_with_replicas(self.settings, learned, primary)]
        else:
            learned = [_monitor(self.settings, _primary(self.settings))]
        atomic_write(path, configuration(self.settings, learned))
        return ["redis-server", str(path), "--sentinel"]

    def after_start(self) -> None:
        """Make the Sentinel ask the nodes often, and reconnect fast; start again if it has missed a failover.

        This is repeated, because a handover that is killed leaves another period behind.
        """
        periods: tuple[str | int, ...] = (
            *("PING-PERIOD", PING_MILLISECONDS, "INFO-PERIOD", INFO_MILLISECONDS),
            *("MIN-LINK-RECONNECT-PERIOD", RECONNECT_MILLISECONDS),
        )
        journal, missed = Journal(self.settings.address), False
        while True:
            with contextlib.suppress(NodeError):
                ask(self.settings, self.settings.address, "SENTINEL", "DEBUG", *periods)
                own = view(self.settings, self.settings.address)
                # Two answers that are not from the same moment say nothing; the same twice does.
                missed, before = _corrected(self.settings, own) is not None, missed
                if missed and before:
                    journal.write(f"starts again: it names {own.primary}, and the other Sentinels another node")
                    os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(PERIOD_SECONDS)

    def before_stop(self) -> None:
        """Do nothing: the other Sentinels are a majority."""

    def role(self) -> str:
        """Return ``sentinel``; raises NodeError."""
        ask(self.settings, self.settings.address, "PING")
        return "sentinel"

    def use(self, passwords: Mapping[str, str]) -> None:
        """Make the running Sentinel use a new password; raises NodeError.

        It reconnects to all servers, unless it uses this one already. Do not change the next Sentinel before this one
        is connected again: several Sentinels that do not hear the primary would replace it.
        """
        if passwords[USER] == self.settings.passwords[USER]:
            return  # the file of logins is written last
        ask(self.settings, self.settings.address, "SENTINEL", "CONFIG", "SET", "sentinel-pass", passwords[USER])
        ask(self.settings, self.settings.address, "SENTINEL", "SET", PRIMARY_NAME, "auth-pass", passwords[USER])
        began = time.monotonic()
        while True:
            facts = ask(self.settings, self.settings.address, "SENTINEL", "MASTER", PRIMARY_NAME)
            passed = time.monotonic() - began
            if facts["flags"] == "master" and int(facts["last-ok-ping-reply"]) / 1000 < passed:
                return
            if passed > CONNECTED_SECONDS:
                raise StateError(f"{self.settings.address} does not hear the primary: {facts['flags']}")
            time.sleep(POLL_SECONDS)

    def what_is_missing(self) -> str:
        """Return the first thing that is missing in the set, or nothing."""
        return what_is_missing(self.settings)


def configuration(settings: Settings, learned: Sequence[str]) -> str:
    """Return this Sentinel's own part, the shared configuration, and what it has learned."""
    password = settings.passwords[USER]
    own = [
        *settings.listen,
        f"dir {settings.data}",
        f"sentinel announce-ip {settings.address.host}",
        f"sentinel announce-port {settings.address.port}",
        f"sentinel sentinel-user {USER}",
        f"sentinel sentinel-pass {password}",
        f"sentinel auth-user {PRIMARY_NAME} {USER}",
        f"sentinel auth-pass {PRIMARY_NAME} {password}",
    ]
    shared = settings.config.read_text(encoding="utf-8").splitlines()
    return "\n".join([*own, *shared, *learned]) + "\n"


def _monitor(settings: Settings, primary: Address) -> str:
    return f"sentinel monitor {PRIMARY_NAME} {primary.host} {primary.port} {len(settings.sentinels) // 2 + 1}"


def _corrected(settings: Settings, own: View) -> Address | None:
    """Return the primary of the other Sentinels if this one has their epoch, but names another; otherwise None.

    If the name of the new primary cannot be resolved at the moment when a Sentinel hears of it, as on a host that has
    just started, Redis 8.0 takes the epoch of the failover and keeps the former address for good.
    """
    others = [found for found in views(settings) if found.primary != own.primary]
    agreed = agreed_primary(others, len(settings.sentinels))
    if agreed and max(others).epoch == own.epoch:
        with contextlib.suppress(NodeError):
            if ask(settings, agreed, "ROLE")[0] == "master":
                return agreed
    return None


def _with_replicas(settings: Settings, learned: Sequence[str], primary: Address) -> list[str]:
    """Return what was learned, with all other nodes as replicas.

    While no name can be resolved, as after a stop of all hosts, Redis 8.0 writes the primary in place of each replica,
    and does not start with such a file.
    """
    others = [node for node in settings.nodes if node != primary]
    return [*learned, *(f"sentinel known-replica {PRIMARY_NAME} {node.host} {node.port}" for node in others)]


def _primary(settings: Settings) -> Address:
    """Return the primary on which the other Sentinels agree, or the only node that is one."""
    journal = Journal(settings.address)
    while True:
        if known := agreed_primary(views(settings), len(settings.sentinels)):
            return known
        roles = ask_all(settings.nodes, lambda node: str(ask(settings, node, "ROLE")[0]))
        primaries = [node for node, role in roles.items() if not isinstance(role, NodeError) and role == "master"]
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
            # The change log of backups follows without a port.
            ports = [int(port) for _, port, _ in ask(settings, primary, "ROLE")[2]]
            if len([port for port in ports if port]) == len(settings.nodes) - 1:
                return
        except NodeError:
            pass
        time.sleep(POLL_SECONDS)
