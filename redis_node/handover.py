"""The planned end of a primary: a replica that has everything takes over. No write is lost, and none waits for long."""

from __future__ import annotations

import re
import time

from redis_node.ask import ask, info, is_primary, until
from redis_node.errors import NodeError, StateError
from redis_node.quorum import PRIMARY_NAME, agreed_primary, view, views
from redis_node.settings import Address, Settings

PAUSE_SECONDS = 30.0
"""Longer than this node will run."""
SYNC_SECONDS = 2.0
PROMOTION_SECONDS = 4.0
POLL_SECONDS = 0.02
PREPARATION_SECONDS = 0.15
"""How long it usually takes until writes are paused and the replicas are in sync."""
FAILOVER_INFO_MILLISECONDS = 1000
"""How often a Sentinel asks the replicas during a failover. Its own program makes it ask more often again."""
PROMOTION_AT = 0.6
"""How old a Sentinel's INFO of the replicas should be when it is asked for a failover, in seconds.

During a failover it asks them again when its last INFO is one second old, and sees the promotion only then. The
promotion itself takes about 0.3 s. So the gap in writes is about half a second at this age, and up to 1.5 s at others.
"""
YOUNG_SECONDS = 0.15
ALIGN_SECONDS = 2.0


def hand_over(settings: Settings) -> tuple[Address, float]:
    """Make a replica the primary instead of this node; return the replica, and for how many seconds writes waited.

    The node must stop afterwards, even if this fails, because it takes no more writes.

    Raises:
        NodeError: it could not be done.

    """
    me = settings.address
    if agreed_primary(views(settings), len(settings.sentinels)) != me:
        raise StateError("no majority of the Sentinels names this node")
    sentinel, moment, eligible = _moment(settings)
    time.sleep(max(0.0, moment - PREPARATION_SECONDS - time.monotonic()))
    # A ping that only one replica received would set it apart from the new primary: it would have to copy everything.
    ask(settings, me, "CONFIG", "SET", "repl-ping-replica-period", 3600)
    began = time.monotonic()
    ask(settings, me, "CLIENT", "PAUSE", int(PAUSE_SECONDS * 1000), "WRITE")
    until(lambda: _in_sync(settings, eligible), SYNC_SECONDS, "the replicas are not in sync")
    time.sleep(max(0.0, moment - time.monotonic()))
    ask(settings, sentinel, "SENTINEL", "FAILOVER", PRIMARY_NAME)
    until(lambda: _promoted(settings, sentinel), PROMOTION_SECONDS, f"{sentinel} promoted no replica")
    return view(settings, sentinel).primary, time.monotonic() - began


def _in_sync(settings: Settings, eligible: set[Address]) -> bool:
    """Tell whether every replica has all that this primary wrote, those that may be promoted among them.

    The Sentinel does not know yet of a link that broke a moment ago. This asks the replicas, since they report to their
    primary only once a second unless a client waits for them.
    """
    facts = info(settings, settings.address, "replication")
    followers = [
        dict(item.split("=", 1) for item in value.split(","))
        for name, value in facts.items()
        if name.removeprefix("slave").isdigit()
    ]
    # The change log of backups has no port, and never confirms anything.
    replicas = [one for one in followers if one["port"] != "0"]
    listed = {Address(one["ip"], int(one["port"])): one["state"] for one in replicas}
    return eligible <= set(listed) and all(
        state == "online" and _held(settings, replica) >= int(facts["master_repl_offset"])
        for replica, state in listed.items()
    )


def _held(settings: Settings, replica: Address) -> int:
    """Return the offset up to which a replica has everything on its disk; -1 if it is no replica any more."""
    role = ask(settings, replica, "ROLE")
    return int(role[4]) if role[0] == "slave" else -1


def _promoted(settings: Settings, sentinel: Address) -> bool:
    """Tell whether the Sentinel names another primary, and that node agrees."""
    primary = view(settings, sentinel).primary
    return primary != settings.address and is_primary(settings, primary)


def _moment(settings: Settings) -> tuple[Address, float, set[Address]]:
    """Make one Sentinel ask all replicas now.

    Return it, the best monotonic time to ask it for a failover, and the replicas that it may promote.
    """
    reason: NodeError = StateError("there is no Sentinel")
    for sentinel in settings.sentinels:
        try:
            # After a pause of its own, a Sentinel accepts the command, and does nothing for 30 s.
            if info(settings, sentinel, "sentinel")["sentinel_tilt"] != "0":
                raise StateError(f"{sentinel} is in TILT mode")
            ask(settings, sentinel, "SENTINEL", "DEBUG", "INFO-PERIOD", 50)
            try:
                asked, oldest, eligible = _young(settings, sentinel)
            finally:
                ask(settings, sentinel, "SENTINEL", "DEBUG", "INFO-PERIOD", FAILOVER_INFO_MILLISECONDS)
        except NodeError as error:
            reason = error
        else:
            return sentinel, asked + PROMOTION_AT - oldest, eligible
    raise reason


def _young(settings: Settings, sentinel: Address) -> tuple[float, float, set[Address]]:
    """Wait until the Sentinel has a young INFO of every replica.

    Return when, the age of the oldest in seconds, and the replicas that it may promote.
    """
    deadline = time.monotonic() + ALIGN_SECONDS
    while True:
        asked = time.monotonic()
        replicas = ask(settings, sentinel, "SENTINEL", "REPLICAS", PRIMARY_NAME)
        reached = [replica for replica in replicas if not re.search("down|disconnected", replica["flags"])]
        eligible = {Address(one["ip"], int(one["port"])) for one in reached if int(one["slave-priority"])}
        if not eligible:
            raise StateError(f"{sentinel} may promote none of the {len(replicas)} replicas that it knows")
        ages = [int(replica["info-refresh"]) / 1000 for replica in reached]
        oldest = max(ages, default=PROMOTION_AT)
        if oldest <= YOUNG_SECONDS or asked > deadline:
            return asked, oldest, eligible
        time.sleep(POLL_SECONDS)
