"""How a node that has started finds its place among the others, one step at a time.

Redis Cluster heals by itself as long as one address that a node kept still leads to another node. After a restart of
all, none does: then each node asks for the names and meets the others there. And a node whose volume was emptied is a
stranger to the others: it joins them again, waits until its partner serves what it served, has its former id forgotten,
and follows the partner.

Afterwards it looks after its place: the first node of a pair becomes the primary again when all is well. The first
nodes are on different hosts; a host with the primaries of two pairs would take the majority of primaries with it.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from redis_node.ask import NoAnswerError, ask, info
from redis_node.cluster.members import Member, first_of_its_pair, forget, members, merged, partner, resolve
from redis_node.settings import Address, Settings

NO_FAILOVER = "cluster-replica-no-failover"
"""Setting of Redis: with ``yes`` a replica does not take over when its primary fails, but does when it is asked to."""
POLL_SECONDS = 0.5
WATCH_SECONDS = 2.0
WELL_SECONDS = 10.0
"""For how long all must have been well before a pair's first node becomes its primary again: it may often fail."""


class Joining:
    """What is done beside the server."""

    def __init__(self, settings: Settings, own: Address) -> None:
        """Take the address that the node has now."""
        self._settings, self._own = settings, own
        self._name = settings.address.host
        self._said = ""
        self._well_since = float("inf")

    def run(self) -> None:
        """Take steps until there is none left; from then on see that the node keeps its place."""
        placed = False
        while True:
            try:
                placed = placed or self._step()
                self._allow_to_take_over()
                if placed:
                    self._follow_to_another_address()
                    self._become_primary_again()
            except NoAnswerError as error:
                self._say(f"waits: {error}")
            time.sleep(WATCH_SECONDS if placed else POLL_SECONDS)

    def _step(self) -> bool:
        """Do what is next; return whether the node has its place. Raises NoAnswerError."""
        known = members(self._settings, self._own)
        me = next(member for member in known if member.mine)
        mate = next((member for member in known if member.name == partner(self._name)), None)
        placed = me.replica or me.slots or mate is None
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
        """Let the node take over from its primary once it has been in sync, with the copy on its disk."""
        if "no" in self._do("CONFIG", "GET", NO_FAILOVER).values():
            return
        facts = info(self._settings, self._own, "replication", "persistence")
        copies = facts["aof_rewrite_in_progress"] != "0" or facts["aof_rewrite_scheduled"] != "0"
        if facts.get("master_link_status") == "up" and not copies:
            self._do("CONFIG", "SET", NO_FAILOVER, "no")
            self._say("has a whole copy, and may take over")

    def _follow_to_another_address(self) -> None:
        """Follow the primary to where it is now.

        A Redis that learns of that from another node, before the primary itself has told it, goes on looking for the
        primary where it was (seen with Redis 8.0, after a restart of all nodes).
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
        """Take the slots over from the pair's second node. No write is lost: it takes none until this node has all."""
        known = members(self._settings, self._own)
        me = next(member for member in known if member.mine)
        well = first_of_its_pair(self._name) and me.replica and all(member.alive for member in known)
        if not well or info(self._settings, self._own, "replication").get("master_link_status") != "up":
            self._well_since = float("inf")
            return
        self._well_since = min(self._well_since, time.monotonic())
        if time.monotonic() - self._well_since >= WELL_SECONDS:
            self._do("CLUSTER", "FAILOVER")
            self._say(f"becomes the primary of its pair again, in the place of {partner(self._name)}")
            self._well_since = float("inf")

    def _former(self, me: Member, known: list[Member]) -> list[Member]:
        """Return what the others know this one as besides. Nobody tells a new node about one that is gone."""
        others = [members(self._settings, member.address) for member in known if member.alive and not member.mine]
        return [member for member in merged(others) if member.name == self._name and member.id != me.id]

    def _look_for_a_cluster(self, me: Member) -> None:
        """Join the cluster that knows a node of this name. Where there is none, the deployment takes the node in."""
        self._say("knows nobody: waits to be taken in")
        for name in [partner(self._name), *(node.host for node in self._settings.nodes)]:
            place = self._place(name)
            if not place or place == self._own:
                continue
            try:
                known = members(self._settings, place)
            except NoAnswerError:
                continue
            if any(member.name == self._name and member.id != me.id for member in known):
                self._do("CLUSTER", "MEET", place.host, place.port)
                self._say(f"was emptied: {name} knows it by another id. Joins again as a new node")
                return

    def _replace(self, former: list[Member], known: list[Member]) -> None:
        """Have the ids forgotten that this node had before, once they serve nothing."""
        if serving := sum(member.slots for member in former):
            self._say(
                f"waits until {partner(self._name)} serves the {serving} slots that it served before it was emptied"
            )
            return
        for member in former:
            forget(self._settings, member, known)
            self._say(f"is no longer known as {member.id}")

    def _do(self, *command: str | int) -> Any:
        return ask(self._settings, self._own, *command)

    def _place(self, name: str) -> Address | None:
        return resolve(name, self._own.port) if name else None

    def _say(self, text: str) -> None:
        """Log a line, unless it is the last one."""
        if text != self._said:
            sys.stderr.write(f"{self._name}: {text}\n")
            sys.stderr.flush()
            self._said = text
