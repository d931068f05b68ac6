"""Which replicas the Sentinels may promote: those that have been in sync with the primary since they started.

Redis does not keep its replication offset on disk. After a restart of all nodes the Sentinels see equal offsets,
whatever the nodes hold, and could promote a replica that was away while others confirmed writes. So a node starts
with priority 0, with which it is never promoted. While all replicas have priority 0, the last primary is waited for.

A replica whose primary was restarted gets priority 0 again until it is in sync, since their offsets cannot be compared.
So does one whose link broke before it had all that another replica has, since the Sentinels may not reach the other one
at the moment when they choose. So does one that was away, while its copy is not on its disk yet. (Promoted before that,
it would acknowledge nothing.)

With the write concern ``none`` nothing is promised, and the Sentinels choose among all replicas.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from redis_node.ask import ask, ask_all, info
from redis_node.data_node import holds_data, mark
from redis_node.errors import NodeError
from redis_node.journal import Journal
from redis_node.quorum import agreed_primary, views
from redis_node.settings import Address, Settings

NOT_PROMOTABLE = 0
PROMOTABLE = 100
UNKNOWN = -1
POLL_SECONDS = 0.5


def directives(settings: Settings) -> list[str]:
    """Return the lines of the configuration with which a node starts."""
    return [f"replica-priority {NOT_PROMOTABLE}"] if _applies(settings) else []


def watch(settings: Settings) -> None:
    """Raise the priority of this node when it can be promoted, and lower it when it is the primary. Does not return."""
    journal, wanted, sound = Journal(settings.address), NOT_PROMOTABLE, ""
    while True:
        try:
            copy = copy_id(settings)  # before the facts: they are not older than the copy
            facts = info(settings, settings.address, "replication", "persistence")
            mark(settings.data, facts, serves=facts["role"] == "master")
            if _applies(settings):
                reason = missing(settings, facts)
                sound = copy if reason == "" else sound
                # Compared with the present value, because `promote` changes it too. A primary does not report its own.
                now = int(facts.get("slave_priority", UNKNOWN))
                connected = facts.get("master_link_status") == "up"
                stays = reason and (copy == sound if connected else not lacks(settings, facts))
                wanted = PROMOTABLE if reason == "" else now if stays else NOT_PROMOTABLE
                if wanted != now:
                    set_priority(settings, wanted)
                journal.write("can be promoted" if wanted else f"cannot be promoted yet: {reason}" if reason else "")
        except (NodeError, OSError) as error:
            if not wanted:
                journal.write(f"cannot be promoted yet: {error}")
        time.sleep(POLL_SECONDS)


def set_priority(settings: Settings, value: int) -> None:
    """Let the Sentinels promote this node (``PROMOTABLE``), or not (``NOT_PROMOTABLE``); raises NodeError."""
    ask(settings, settings.address, "CONFIG", "SET", "replica-priority", value)


def copy_id(settings: Settings) -> str:
    """Return what changes when this replica receives a new copy of the primary; empty without a link to a primary.

    It is the id of Redis' own connection, which Redis keeps when it continues where a link broke. So a copy is noticed
    even if the link was broken and restored between two looks. Raises NodeError.
    """
    return str(ask(settings, settings.address, "CLIENT", "LIST", "TYPE", "MASTER")).partition(" ")[0]


def missing(settings: Settings, facts: Mapping[str, str]) -> str | None:
    """Return what a replica lacks to be promoted, empty when it lacks nothing, and None for a primary.

    ``facts``: the section ``replication`` of its INFO. Raises NodeError.
    """
    if facts["role"] == "master":
        return None
    primary = Address(facts["master_host"], int(facts["master_port"]))
    if facts["master_link_status"] != "up":
        return f"it is not in sync with {primary}"
    if not holds_data(settings.data):
        return "its copy is not on its disk yet"
    # A primary that was replaced but does not know it yet may lack what others hold.
    if agreed_primary(views(settings), len(settings.sentinels)) != primary:
        return f"no majority of the Sentinels names {primary}, which it follows"
    return ""


def lacks(settings: Settings, facts: Mapping[str, str]) -> bool:
    """Tell whether a replica that is not in sync may lack what others hold. ``facts``: as for ``missing``.

    Raises NodeError.
    """
    return is_behind(settings, facts) or is_outdated(settings, facts)


def is_behind(settings: Settings, facts: Mapping[str, str]) -> bool:
    """Tell whether another replica that can be promoted holds more of the same history. ``facts``: as for ``missing``.

    The primary is not asked: if it died, that would take seconds.
    """
    primary = Address(facts["master_host"], int(facts["master_port"]))

    def is_ahead(node: Address) -> bool:
        other = info(settings, node, "replication")
        return (
            other["role"] == "slave"
            and other["master_replid"] == facts["master_replid"]
            and int(other["slave_repl_offset"]) > int(facts["slave_repl_offset"])
            and int(other["slave_priority"]) != NOT_PROMOTABLE
        )

    return True in ask_all([node for node in settings.peers if node != primary], is_ahead).values()


def is_outdated(settings: Settings, facts: Mapping[str, str]) -> bool:
    """Tell whether a replica that is not in sync counts its offset in a history that its primary does not have.

    A primary that was restarted begins a new history at 0, so the larger offset would win against replicas that hold
    more. After a failover, the new primary also has the id of the history before it. ``facts``: the section
    ``replication`` of the replica's INFO. Raises NodeError.
    """
    primary = info(settings, Address(facts["master_host"], int(facts["master_port"])), "replication")
    histories = {primary["master_replid"], primary["master_replid2"]}
    return primary["role"] == "master" and facts["master_replid"] not in histories


def _applies(settings: Settings) -> bool:
    return settings.write_concern != "none"
