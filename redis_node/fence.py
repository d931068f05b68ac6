"""A primary that has just started takes no write until the Sentinels have seen it.

They may be replacing it at that moment. A write that a replica confirmed would then be lost when the replica follows
the new primary.
"""

from __future__ import annotations

import time

from redis_node.ask import NoAnswerError, ask, ask_all
from redis_node.quorum import PRIMARY_NAME, agreed_primary, views
from redis_node.settings import Address, Settings

FENCED = "min-replicas-to-write 1000"
"""A line of the configuration: Redis refuses writes while it has fewer replicas than this."""
OPEN = "1"
POLL_SECONDS = 0.1


def open_when_seen(settings: Settings) -> str:
    """Allow writes once a majority of the Sentinels sees this node as a healthy primary, or once it is a replica."""
    while not (is_replica := _is_replica(settings)) and not _is_seen(settings):
        time.sleep(POLL_SECONDS)
    while True:
        try:
            ask(settings, settings.address, "CONFIG", "SET", "min-replicas-to-write", OPEN)
        except NoAnswerError:
            time.sleep(POLL_SECONDS)
        else:
            return "the Sentinels made it a replica" if is_replica else "the Sentinels see it; takes writes as primary"


def _is_replica(settings: Settings) -> bool:
    try:
        return bool(ask(settings, settings.address, "ROLE")[0] == "slave")
    except NoAnswerError:
        return False


def _is_seen(settings: Settings) -> bool:
    def flags(sentinel: Address) -> frozenset[str]:
        return frozenset(ask(settings, sentinel, "SENTINEL", "MASTER", PRIMARY_NAME)["flags"].split(","))

    answers = [found for found in ask_all(settings.sentinels, flags).values() if not isinstance(found, NoAnswerError)]
    sound = [found for found in answers if found == {"master"}]
    return (
        len(sound) > len(settings.sentinels) // 2
        and not any("failover_in_progress" in found for found in answers)
        and agreed_primary(views(settings), len(settings.sentinels)) == settings.address
    )
