"""A primary that has just started takes no write until the Sentinels have seen it.

They may be replacing it at that moment, or one of them may still begin to: the primary would go on for a second beside
the new one, and a write that the other replica confirmed in that second would be lost when it follows the new primary.
"""

from __future__ import annotations

import math
import time

from redis_node.ask import NoAnswerError, ask, ask_all
from redis_node.quorum import PRIMARY_NAME, agreed_primary, views
from redis_node.settings import Address, Settings

FENCED = "min-replicas-to-write 1000"
"""A line of the configuration: Redis refuses writes while it has fewer replicas than this."""
OPEN = "1"
POLL_SECONDS = 0.1
REMEMBERED_SECONDS = 6.0
"""Longer than a Sentinel remembers that another one saw the primary down (five seconds).

For so long, one Sentinel that does not see the primary yet can be elected by the others, although they see it again.
"""


def open_when_seen(settings: Settings) -> str:
    """Allow writes once no Sentinel can begin to replace this node for its restart, or once it is a replica."""
    sound_since = math.inf
    while not (is_replica := _is_replica(settings)):
        sound, now = _sound(settings), time.monotonic()
        sound_since = min(sound_since, now) if sound > len(settings.sentinels) // 2 else math.inf
        if sound == len(settings.sentinels) or now - sound_since > REMEMBERED_SECONDS:
            break
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


def _sound(settings: Settings) -> int:
    """Return how many Sentinels see this node as a healthy primary; none while any of them replaces it."""

    def flags(sentinel: Address) -> frozenset[str]:
        return frozenset(ask(settings, sentinel, "SENTINEL", "MASTER", PRIMARY_NAME)["flags"].split(","))

    answers = [found for found in ask_all(settings.sentinels, flags).values() if not isinstance(found, NoAnswerError)]
    if any("failover_in_progress" in found for found in answers):
        return 0
    if agreed_primary(views(settings), len(settings.sentinels)) != settings.address:
        return 0
    return sum(found == {"master"} for found in answers)
