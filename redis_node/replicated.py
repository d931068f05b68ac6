"""A data node that Sentinels watch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from redis_node import fence, promotable
from redis_node.ask import ask_all, info
from redis_node.atomic_write import atomic_write
from redis_node.data_node import DataNode, directives, holds_data, wait_for_no_follower
from redis_node.decision import Peer, Situation, Start, Wait, decide
from redis_node.errors import NodeError, StateError
from redis_node.handover import hand_over
from redis_node.journal import Journal
from redis_node.quorum import views
from redis_node.settings import Address, Settings
from redis_node.settled import what_is_missing

POLL_SECONDS = 0.3
PATIENCE_SECONDS = 10.0
"""How long the Sentinels may take to start before the node decides without them."""


class ReplicatedNode(DataNode):
    """Such a node."""

    def command(self) -> Sequence[str]:
        """Decide, write the configuration, and return the server's command."""
        primary = _decided(self.settings)
        return ["redis-server", str(_configure(self.settings, primary))]

    def after_start(self) -> None:
        """Allow writes once the Sentinels cannot replace this primary any more; then watch if it can be promoted."""
        fence.unfence_when_safe(self.settings, Journal(self.settings.address))
        promotable.watch(self.settings)

    def before_stop(self) -> None:
        """Make a replica the primary, and follow it after the next start."""
        journal = Journal(self.settings.address)
        try:
            if self.role() != "primary":
                wait_for_no_follower(self.settings)
                return
            primary, seconds = hand_over(self.settings)
            wait_for_no_follower(self.settings)
        except NodeError as error:
            journal.write(f"stops without handing over: {error}")
            return
        journal.write(f"handed over to {primary} in {seconds:.2f} s")
        try:
            _configure(self.settings, primary)
        except OSError as error:
            journal.write(f"could not write that it follows {primary}: {error}")

    def what_is_missing(self) -> str:
        """Return the first thing that is missing, or nothing."""
        return what_is_missing(self.settings)


def configuration(settings: Settings, primary: Address) -> str:
    """Return the node's own part of the configuration. Redis rewrites the file when a Sentinel changes the role."""
    lines = [
        f"include {settings.config}",
        *settings.listen,
        f"replica-announce-ip {settings.address.host}",
        f"replica-announce-port {settings.address.port}",
        *directives(settings.passwords),
        *promotable.directives(settings),
    ]
    lines.append(fence.FENCED if primary == settings.address else f"replicaof {primary.host} {primary.port}")
    return "\n".join(lines) + "\n"


def _configure(settings: Settings, primary: Address) -> Path:
    """Write the configuration for the next start; return its path."""
    path = settings.data / "redis.conf"
    atomic_write(path, configuration(settings, primary))
    return path


def last_primary(settings: Settings) -> Address | None:
    """Return the primary in the configuration on the volume, the node itself if it was one; None on a new volume."""
    try:
        lines = (settings.data / "redis.conf").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    for words in map(str.split, lines):
        if words[:1] == ["replicaof"]:
            return Address(words[1].strip('"'), int(words[2]))
    return settings.address


def _decided(settings: Settings) -> Address:
    """Ask until the decision is certain; log each new reason to wait."""
    began, journal = time.monotonic(), Journal(settings.address)
    while True:
        found = decide(_situation(settings, patient=time.monotonic() - began < PATIENCE_SECONDS))
        match found:
            case Start(primary, reason):
                what = "primary" if primary == settings.address else f"replica of {primary}"
                journal.write(f"starts as {what}: {reason}")
                return primary
            case Wait(reason):
                journal.write(f"waits: {reason}")
        time.sleep(POLL_SECONDS)


def _situation(settings: Settings, *, patient: bool) -> Situation:
    def peer(address: Address) -> Peer:
        facts = info(settings, address, "everything")
        databases = [value for name, value in facts.items() if name.startswith("db") and name[2:].isdigit()]
        keys = sum(int(value.partition("keys=")[2].partition(",")[0]) for value in databases)
        if facts["loading"] != "0":
            raise StateError(f"{address}: loads its data")
        return Peer(facts["role"] == "master", keys)

    peers = ask_all(settings.peers, peer)
    return Situation(
        me=settings.address,
        first=settings.nodes[0],
        peers={address: None if isinstance(found, NodeError) else found for address, found in peers.items()},
        views=views(settings),
        sentinels=len(settings.sentinels),
        has_data=holds_data(settings.data),
        last_primary=last_primary(settings),
        patient=patient,
    )
