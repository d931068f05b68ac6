"""A primary that has just started takes no write until the Sentinels have seen it.

They may be replacing it at that moment, or one of them may still begin to: the primary would go on for a second beside
the new one, and a write that the other replica confirmed in that second would be lost when it follows the new primary.
"""

from __future__ import annotations

import math
import time

from redis_node.ask import ask, ask_all, info
from redis_node.errors import NodeError
from redis_node.journal import Journal
from redis_node.quorum import PRIMARY_NAME, View, agreed_primary, view
from redis_node.settings import Address, Settings

FENCED = "min-replicas-to-write 1000"
"""A line of the configuration: Redis refuses writes while it has fewer replicas than this."""
OPEN = "1"
POLL_SECONDS = 0.1
REMEMBERED_SECONDS = 6.0
"""Longer than a Sentinel remembers that another one saw the primary down (five seconds).

For so long, a Sentinel that does not see the primary yet can be elected by the others, although they see it again.
"""
LONG_SECONDS = 2 * REMEMBERED_SECONDS
"""After which the node says why it waits."""


def unfence_when_safe(settings: Settings, journal: Journal) -> None:
    """Allow writes once no Sentinel that answers can begin to replace this node, or once it is a replica."""
    started = time.monotonic()
    loaded_at = seen_since = math.inf
    while True:
        try:
            facts = info(settings, settings.address, "server", "replication", "persistence")
            if facts["role"] == "slave":
                _unfence(settings)
                journal.write("is a replica")
                return
            began = time.monotonic()
            # The server also answers the Sentinels' pings while it loads its data; those say nothing.
            if facts["loading"] == "0":
                loaded_at = min(loaded_at, began)
            seeing = _sentinels_that_see_it(settings, facts["run_id"], loaded_at)
            seen_since = min(seen_since, time.monotonic()) if seeing > len(settings.sentinels) // 2 else math.inf
            if seeing == len(settings.sentinels) or began - seen_since > REMEMBERED_SECONDS:
                _unfence(settings)
                journal.write("the Sentinels see it; takes writes as primary")
                return
            reason = "it loads its data" if facts["loading"] != "0" else "too few Sentinels see it"
        except NodeError as error:
            reason = str(error)
        if time.monotonic() - started > LONG_SECONDS:
            journal.write(f"takes no write as primary yet: {reason}")
        time.sleep(POLL_SECONDS)


def _unfence(settings: Settings) -> None:
    ask(settings, settings.address, "CONFIG", "SET", "min-replicas-to-write", OPEN)


def _sentinels_that_see_it(settings: Settings, run_id: str, loaded_at: float) -> int:
    """Return how many Sentinels have reached this server as the primary since it loaded its data; 0 during a failover.

    Another server, which had the name of this one before, may have answered their last ping.
    """

    def look(sentinel: Address) -> tuple[View, set[str], float]:
        asked = time.monotonic()
        facts = ask(settings, sentinel, "SENTINEL", "MASTER", PRIMARY_NAME)
        heard_at = asked - int(facts["last-ok-ping-reply"]) / 1000 if facts["runid"] == run_id else -math.inf
        return view(settings, sentinel), set(facts["flags"].split(",")), heard_at

    answers = [found for found in ask_all(settings.sentinels, look).values() if not isinstance(found, NodeError)]
    if any("failover_in_progress" in flags for _, flags, _ in answers):
        return 0
    if agreed_primary([seen for seen, _, _ in answers], len(settings.sentinels)) != settings.address:
        return 0
    me = settings.address
    return sum(seen.primary == me and flags == {"master"} and heard > loaded_at for seen, flags, heard in answers)
