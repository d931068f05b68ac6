"""The primary on which the Sentinels agree."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from redis_node.ask import ask, ask_all
from redis_node.errors import NodeError
from redis_node.settings import Address, Settings

PRIMARY_NAME = "counter"
PING_MILLISECONDS = 500
INFO_MILLISECONDS = 300
"""How often a Sentinel asks the nodes whether they live, and for their state, by which it chooses a replica.

A primary counts as down a second (`redis_down_after_milliseconds`) after its last answer: half a second or more after
its death. Each state is younger than that, and shows all that the replica has received. With the defaults, one and ten
seconds, a replica that stood still could be chosen, since its last state was the youngest. Sentinel leaves out replicas
whose state is older than five pings, and asks every second once the primary is down.
"""


class View(NamedTuple):
    """The primary that one Sentinel names; ``epoch`` grows with each failover."""

    epoch: int
    primary: Address


def view(settings: Settings, sentinel: Address) -> View:
    """Ask one Sentinel; raises NodeError.

    The address is read second: in the middle of a failover MASTER shows the new epoch with the old address.
    """
    epoch = int(ask(settings, sentinel, "SENTINEL", "MASTER", PRIMARY_NAME)["config-epoch"])
    host, port = ask(settings, sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", PRIMARY_NAME)
    return View(epoch, Address(str(host), int(port)))


def views(settings: Settings) -> list[View]:
    """Ask all Sentinels at once; those that do not answer are left out."""
    answers = ask_all(settings.sentinels, lambda sentinel: view(settings, sentinel)).values()
    return [answer for answer in answers if not isinstance(answer, NodeError)]


def agreed_primary(views: list[View], sentinels: int) -> Address | None:
    """Return the primary that a majority of all Sentinels names with the highest epoch that any of them knows."""
    if not views:
        return None
    (newest, count), *_ = Counter(view for view in views if view.epoch == max(views).epoch).most_common(1)
    return newest.primary if count > sentinels // 2 else None
