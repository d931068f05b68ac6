"""A node of a Redis Cluster.

The cluster identifies a node by an id on its volume. Its name stays the same, and its address changes with each start.
The node announces both, and joins the others again (``joining``) if none of the addresses that it remembers is valid.
Two nodes form a pair (``members.partner``): they hold the same slots, and either of them can be the primary.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from redis_node.ask import ask, until
from redis_node.atomic_write import atomic_write
from redis_node.cluster.joining import NO_FAILOVER, Joining, lacks_copy
from redis_node.cluster.members import Member, first_of_its_pair, members, partner, resolve
from redis_node.cluster.volume import prepare
from redis_node.data_node import INCOMPLETE, DataNode, directives, wait_for_no_follower
from redis_node.errors import NodeError, StateError
from redis_node.journal import Journal
from redis_node.settings import Address, Settings

HAND_OVER_SECONDS = 5.0


class ClusterNode(DataNode):
    """Such a node."""

    def command(self) -> Sequence[str]:
        """Prepare the volume, write the configuration, and return the server's command."""
        settings = self.settings
        journal = Journal(settings.address.host)
        journal.write(prepare(settings.data))
        own = own_address(settings)
        config = settings.data / "redis.conf"
        atomic_write(config, configuration(settings, own))
        journal.write(f"announces {own}")
        return ["redis-server", str(config)]

    def after_start(self) -> None:
        """Find this node's place in the cluster, and watch it."""
        Joining(self.settings, own_address(self.settings)).run()

    def before_stop(self) -> None:
        """Hand a primary's slots to its replica."""
        try:
            said = hand_over(self.settings)
            wait_for_no_follower(self.settings)
        except NodeError as error:
            said = f"stops without handing over: {error}"
        Journal(self.settings.address.host).write(said)

    def what_is_missing(self) -> str:
        """Return the first thing that is missing, or nothing.

        The cluster is settled if every node is reached and reports the state ok, every replica is in sync and may take
        over, and the first node of each pair is its primary.
        """
        try:
            known = members(self.settings, own_address(self.settings))
            return next((missing for member in known if (missing := _missing(self.settings, member, known))), "")
        except NodeError as error:
            return str(error)


def own_address(settings: Settings) -> Address:
    """Return the address that this node's name has in its own container."""
    found = resolve(settings.address.host, settings.address.port)
    if found is None:
        sys.exit(f"{settings.address.host}: the name of this node has no address")
    return found


def configuration(settings: Settings, own: Address) -> str:
    """Return the node's own part of the configuration."""
    lines = [
        f"include {settings.config}",
        *settings.listen,
        f"cluster-announce-hostname {settings.address.host}",
        f"cluster-announce-ip {own.host}",
        *directives(settings.passwords),
        # A node must not take over before its first copy is whole (``joining``).
        *([f"{NO_FAILOVER} yes"] if (settings.data / INCOMPLETE).exists() else []),
    ]
    return "\n".join(lines) + "\n"


def hand_over(settings: Settings) -> str:
    """Make the replica take over, which loses no write; return what was done in one sentence.

    Raises:
        NodeError: it could not be done; writes go on here.

    """
    known = members(settings, own_address(settings))
    me = next(member for member in known if member.mine)
    if not me.slots:
        return "stops while it serves no slots"
    replica = next((member for member in known if member.primary == me.id and member.alive), None)
    if replica is None:
        return f"stops without handing over: no replica has a copy of its {me.slots} slots"
    began = time.monotonic()
    if lacks_copy(settings, replica.address):
        raise StateError(f"{replica.name} does not have its copy on its disk yet")
    until(lambda: not behind(settings, replica, me), HAND_OVER_SECONDS, "the replica is not in sync")
    ask(settings, replica.address, "CLUSTER", "FAILOVER")
    until(
        lambda: all(_serves(settings, replica.id, where) for where in (replica.address, me.address)),
        HAND_OVER_SECONDS,
        f"{replica.name} did not take over",
    )
    return f"handed {me.slots} slots over to {replica.name} in {time.monotonic() - began:.2f} s"


def _missing(settings: Settings, member: Member, known: Sequence[Member]) -> str:
    """Return the first thing that one node lacks, or nothing; raises NodeError."""
    if not member.alive:
        return f"{member.name or member.id} cannot be reached"
    primary = next((one for one in known if one.id == member.primary), None)
    pair = next((one for one in known if one.name == partner(member.name)), None)
    if primary and (late := behind(settings, member, primary)):
        return late
    if pair and not primary and pair.primary != member.id:
        return f"{pair.name} does not follow {member.name} yet"
    if pair and not primary and first_of_its_pair(pair.name):
        return f"{pair.name} is not the primary of its pair again yet"
    if primary and lacks_copy(settings, member.address):
        return f"{member.name} cannot take over yet: its copy is not on its disk"
    state = _state(settings, member.address)
    return "" if state == "ok" else f"{member.name} says that the cluster's state is {state}"


def behind(settings: Settings, replica: Member, primary: Member) -> str:
    """Return what a replica lacks of what its primary has now; raises NodeError."""
    served, answer = (ask(settings, node.address, "ROLE") for node in (primary, replica))
    # They may have changed places since they were listed.
    if served[0] != "master" or answer[0] != "slave" or answer[3] != "connected":
        return f"{replica.name} does not follow {primary.name} yet"
    late = int(served[1]) - int(answer[4])
    return f"{replica.name} is behind {primary.name} by {late} bytes" if late > 0 else ""


def _serves(settings: Settings, identifier: str, asked: Address) -> bool:
    return any(member.id == identifier and member.slots for member in members(settings, asked))


def _state(settings: Settings, node: Address) -> str:
    text = str(ask(settings, node, "CLUSTER", "INFO"))
    return next(line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("cluster_state:"))
