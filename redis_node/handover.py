"""The planned end of a primary: a replica that holds everything takes over, and no write is lost or waits for long."""

from __future__ import annotations

import time
from collections.abc import Callable

from redis_node.ask import NoAnswerError, ask, info
from redis_node.quorum import PRIMARY_NAME, believed, view, views
from redis_node.settings import Address, Settings

PAUSE_SECONDS = 6.0
"""Writes go on by themselves after this time, whatever happens here."""
IN_STEP_SECONDS = 2.0
PROMOTION_SECONDS = 4.0
POLL_SECONDS = 0.02
RIPE_MILLISECONDS = (450, 700)
"""How old a Sentinel's INFO of the replicas is at the best moment to ask it for a failover.

During a failover it asks them again when its last INFO is one second old, and believes in the promotion only then. The
promotion itself takes about 0.3 s. So the gap in writes is about half a second at this moment, up to 1.5 s at others.
"""
RIPE_SECONDS = 11.0
"""Within this time the moment comes: a Sentinel asks every 10 s."""


def hand_over(settings: Settings) -> str:
    """Make a replica the primary, if this node is the primary; return what was done, in one sentence.

    Raises:
        NoAnswerError: it could not be done; writes go on here.

    """
    me = settings.address
    if ask(settings, me, "ROLE")[0] != "master":
        return "stops as a replica"
    if believed(views(settings), len(settings.sentinels)) != me:
        return "stops without handing over: no majority of the Sentinels names this node"
    sentinel = _ripe_sentinel(settings)
    began = time.monotonic()
    ask(settings, me, "CLIENT", "PAUSE", int(PAUSE_SECONDS * 1000), "WRITE")
    try:
        _until(IN_STEP_SECONDS, lambda: _in_step(settings), "the replicas are not in step")
        ask(settings, sentinel, "SENTINEL", "FAILOVER", PRIMARY_NAME)
        _until(PROMOTION_SECONDS, lambda: _promoted(settings, sentinel), f"{sentinel} promoted no replica")
        primary = view(settings, sentinel).primary
        # What waits here is refused as by any replica, and goes to the new primary at once.
        ask(settings, me, "REPLICAOF", primary.host, primary.port)
        ask(settings, me, "CONFIG", "REWRITE")
    finally:
        ask(settings, me, "CLIENT", "UNPAUSE")
    return f"handed over to {primary} in {time.monotonic() - began:.2f} s"


def _until(seconds: float, probe: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + seconds
    while not probe():
        if time.monotonic() > deadline:
            raise NoAnswerError(otherwise)
        time.sleep(POLL_SECONDS)


def _in_step(settings: Settings) -> bool:
    """Tell whether every replica has confirmed all that this primary wrote."""
    facts = info(settings, settings.address, "replication")
    replicas = [
        dict(item.split("=", 1) for item in value.split(","))
        for name, value in facts.items()
        if name.removeprefix("slave").isdigit()
    ]
    return bool(replicas) and all(
        replica["state"] == "online" and int(replica["offset"]) >= int(facts["master_repl_offset"])
        for replica in replicas
    )


def _promoted(settings: Settings, sentinel: Address) -> bool:
    """Tell whether the Sentinel names another primary, and that node agrees."""
    primary = view(settings, sentinel).primary
    return primary != settings.address and ask(settings, primary, "ROLE")[0] == "master"


def _ripe_sentinel(settings: Settings) -> Address:
    """Wait for the right moment of any Sentinel, and return it; the first that answers where none has one."""
    deadline = time.monotonic() + RIPE_SECONDS
    answering: Address | None = None
    while time.monotonic() < deadline:
        for sentinel in settings.sentinels:
            try:
                replicas = ask(settings, sentinel, "SENTINEL", "REPLICAS", PRIMARY_NAME)
            except NoAnswerError:
                continue
            answering = answering or sentinel
            ages = [int(replica["info-refresh"]) for replica in replicas if "down" not in replica["flags"]]
            if ages and RIPE_MILLISECONDS[0] <= min(ages) and max(ages) <= RIPE_MILLISECONDS[1]:
                return sentinel
        time.sleep(POLL_SECONDS)
    if answering is None:
        raise NoAnswerError("no Sentinel answers")
    return answering
