"""How a node that has started finds its place in the cluster, step by step, and watches it afterwards.

Redis Cluster heals by itself while one of the addresses that a node remembers is still valid. After a restart of all
nodes none is, so each node looks up the names and meets the others at their new addresses. A node whose volume was
emptied is unknown to the others. It joins them again, waits until its partner serves its slots, makes the others forget
its former id, and follows the partner.

The first node of a pair becomes the primary again once all nodes have been well for a while. The first nodes are on
different hosts. The loss of a host with the primaries of two pairs could take the majority of the primaries away.
"""

from __future__ import annotations

import shutil
import time
from typing import Any

from redis_node.ask import ask, info
from redis_node.cluster.members import Member, first_of_its_pair, forget, members, merged, partner, resolve
from redis_node.cluster.volume import OUTDATED
from redis_node.data_node import INCOMPLETE, mark
from redis_node.errors import NodeError
from redis_node.journal import Journal
from redis_node.settings import Address, Settings

NO_FAILOVER = "cluster-replica-no-failover"
"""Setting of Redis: with ``yes`` a replica does not take over when its primary fails, but does when it is asked to.
A node has it, and the file ``INCOMPLETE`` on its volume, until its first copy is on its disk or it serves slots."""
POLL_SECONDS = 0.5
WATCH_SECONDS = 2.0
WELL_SECONDS = 10.0
"""How long all nodes must have been well before the first node of a pair becomes the primary again."""


class Joining:
    """The work beside the server."""

    def __init__(self, settings: Settings, own: Address) -> None:
        """Take the present address of the node."""
        self._settings, self._own = settings, own
        self._name = settings.address.host
        self._say = Journal(self._name).write
        self._well_since = float("inf")

    def run(self) -> None:
        """Take steps until the node has its place; then watch it. Does not return."""
        placed = False
        while True:
            try:
                placed = placed or self._step()
                self._allow_to_take_over()
                if placed:
                    self._follow_to_another_address()
                    self._become_primary_again()
            except (NodeError, OSError) as error:
                self._say(f"waits: {error}")
            time.sleep(WATCH_SECONDS if placed else POLL_SECONDS)

    def _step(self) -> bool:
        """Take the next step; return whether the node has its place. Raises NodeError."""
        known = members(self._settings, self._own)
        me = next(member for member in known if member.mine)
        mate = next((member for member in known if member.name == partner(self._name)), None)
        # A node has no name until it has answered once; until all have, the partner may be one of those without.
        alone = mate is None and all(member.name for member in known)
        placed = me.replica or me.slots or alone
        if len(known) == 1:
            self._look_for_a_cluster(me)
        elif not placed and (former := self._former(me, known)):
            self._replace(former, known)
        elif not placed and mate and mate.slots and mate.alive:
            self._do("CONFIG", "SET", NO_FAILOVER, "yes")
            self._do("CLUSTER", "REPLICATE", mate.id)
            self._say(f"follows {mate.name}, which serves the {mate.slots} slots of their pair")
        elif lost := {
            member.name: place for member in known if not member.alive and (place := self._place(member.name))
        }:
            for place in lost.values():
                self._do("CLUSTER", "MEET", place.host, place.port)
            self._say(f"meets {', '.join(sorted(lost))} at their present addresses")
        elif placed and "cluster_state:ok" in ask(self._settings, self._own, "CLUSTER", "INFO"):
            self._say(
                f"has its place as {'replica' if me.replica else 'primary'} among {len(known)} nodes; the cluster is ok"
            )
            return True
        return False

    def _allow_to_take_over(self) -> None:
        """Allow the node to take over from its primary once it has been in sync and has its copy on disk."""
        data, facts = self._settings.data, info(self._settings, self._own, "replication", "persistence")
        serves = facts["role"] == "master" and any(
            member.mine and member.slots for member in members(self._settings, self._own)
        )
        whole = mark(data, facts, serves=serves)
        if whole:
            shutil.rmtree(data / OUTDATED, ignore_errors=True)
        if lacks_copy(self._settings, self._own):
            if serves or whole:
                self._do("CONFIG", "SET", NO_FAILOVER, "no")
                self._say("serves slots" if serves else "has a whole copy, and can take over")
            else:
                (data / INCOMPLETE).touch()

    def _follow_to_another_address(self) -> None:
        """Follow the primary to its new address.

        Redis keeps trying the old address if it learns the new one from another node before it hears from the primary
        itself (seen with Redis 8.0 after a restart of all nodes).
        """
        link = info(self._settings, self._own, "replication")
        if link.get("master_link_status") != "down":
            return
        known = members(self._settings, self._own)
        me = next(member for member in known if member.mine)
        primary = next((member for member in known if member.id == me.primary), None)
        if primary and primary.alive and primary.address.host != link["master_host"]:
            self._do("CLUSTER", "REPLICATE", primary.id)
            self._say(f"follows {primary.name} from {link['master_host']} to {primary.address}")

    def _become_primary_again(self) -> None:
        """Take the slots back from the second node of the pair, which loses no write."""
        known = members(self._settings, self._own)
        me = next(member for member in known if member.mine)
        well = first_of_its_pair(self._name) and me.replica and all(member.alive for member in known)
        well = well and info(self._settings, self._own, "replication").get("master_link_status") == "up"
        if not well or lacks_copy(self._settings, self._own):
            self._well_since = float("inf")
            return
        self._well_since = min(self._well_since, time.monotonic())
        if time.monotonic() - self._well_since >= WELL_SECONDS:
            self._do("CLUSTER", "FAILOVER")
            self._say(f"becomes the primary of its pair again, in the place of {partner(self._name)}")
            self._well_since = float("inf")

    def _former(self, me: Member, known: list[Member]) -> list[Member]:
        """Return this node's former ids. The others know them but do not report lost nodes to a new one."""
        others = [members(self._settings, member.address) for member in known if member.alive and not member.mine]
        return [member for member in merged(others) if member.name == self._name and member.id != me.id]

    def _look_for_a_cluster(self, me: Member) -> None:
        """Join the cluster that knows a node of this name. Without one, the deployment will add the node."""
        self._say("knows no other node: waits until it is added")
        for name in [partner(self._name), *(node.host for node in self._settings.nodes)]:
            place = self._place(name)
            if not place or place == self._own:
                continue
            try:
                known = members(self._settings, place)
            except NodeError:
                continue
            if any(member.name == self._name and member.id != me.id for member in known):
                self._do("CLUSTER", "MEET", place.host, place.port)
                self._say(f"was emptied: {name} knows it by another id. It joins again as a new node")
                return

    def _replace(self, former: list[Member], known: list[Member]) -> None:
        """Make the others forget the former ids of this node, once those serve no slots."""
        if serving := sum(member.slots for member in former):
            self._say(
                f"was emptied: waits until {partner(self._name)} serves the {serving} slots that this node served"
            )
            return
        for member in former:
            forget(self._settings, member, known)
            self._say(f"is no longer known as {member.id}")

    def _do(self, *command: str | int) -> Any:
        return ask(self._settings, self._own, *command)

    def _place(self, name: str) -> Address | None:
        return resolve(name, self._own.port) if name else None


def lacks_copy(settings: Settings, node: Address) -> bool:
    """Tell whether a node must not take over, since its first copy is not on its disk; raises NodeError."""
    return "yes" in ask(settings, node, "CONFIG", "GET", NO_FAILOVER).values()
