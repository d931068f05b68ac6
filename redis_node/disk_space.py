"""Waits until the disk has space. A node starts only when there is some.

Redis exits at the first write that finds the disk full, since it could not confirm it. Started again at once, it loads
its data, answers, and exits at the next write: it would come and go, and could be the primary each time. A node that
waits does not answer, so another one takes over.
"""

from __future__ import annotations

import shutil
import time

from redis_node.journal import Journal
from redis_node.settings import Settings

MIB = 2**20
DATA_MIB = 64
"""What a data node needs free: Redis appends this much before its first rewrite (``auto-aof-rewrite-min-size``).

A start itself writes less: the configuration and, if the node has to copy everything, the data twice.
"""
SENTINEL_MIB = 1
"""What a Sentinel needs free: it writes only its configuration of a few kB, and should not miss a failover."""
POLL_SECONDS = 1.0


def wait_for_space(settings: Settings) -> None:
    """Wait until the file system of the volume has space; log how much is free whenever that changes."""
    needed = SENTINEL_MIB if settings.kind == "sentinel" else DATA_MIB
    journal = Journal(settings.address)
    while (free := shutil.disk_usage(settings.data).free // MIB) < needed:
        journal.write(f"waits for room: the disk of its volume has {free} MiB free, and {needed} MiB are needed")
        time.sleep(POLL_SECONDS)
