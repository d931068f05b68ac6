"""The volume of a cluster node before its server starts."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from redis_node.atomic_write import atomic_write
from redis_node.cluster.members import Member, parse
from redis_node.data_node import FILES, INCOMPLETE, holds_data

IDENTITY = "nodes.conf"
PURGE = "./counter destroy -e stack_name=STACK_NAME -e purge=true -e confirm=STACK_NAME"
OUTDATED = "outdated"
"""Where the files go that lack what the node held in memory: a node with keys cannot follow another one."""


def prepare(data: Path) -> str:
    """Make the volume safe to start with, and return what was found.

    Removes the identity of a node whose data is gone. Exits if the data is that of another topology.
    """
    identity = data / IDENTITY
    kept = holds_data(data)
    if not kept:
        (data / INCOMPLETE).touch()
    if not identity.exists():
        if kept:
            sys.exit(
                f"{data} holds data but no {IDENTITY}: it is not the data of a cluster node, and is left as it is. "
                f"Deploy with the redis_topology that it comes from. If the other node of this pair has the counters, "
                f"remove this volume only, with docker volume rm. If no node has any, this removes all volumes: {PURGE}"
            )
        return "its volume is empty: it starts as a new node"
    me = next((member for member in read(identity) if member.mine), None)
    if kept or me is None or not me.slots:
        return "it starts as the node that it was"
    # With its id it would serve its slots without data, and its replica would delete the only copy.
    if (data / FILES).exists():
        shutil.rmtree(data / OUTDATED, ignore_errors=True)
        (data / FILES).rename(data / OUTDATED)
    atomic_write(data / INCOMPLETE, "")
    identity.unlink()
    gone = "gone" if not (data / OUTDATED).exists() else "outdated"
    return f"its data is {gone}: it gives up the id {me.id}, which serves {me.slots} slots, and starts as a new node"


def read(identity: Path) -> list[Member]:
    """Read the file that Redis writes: CLUSTER NODES, and a line of variables."""
    lines = identity.read_text(encoding="utf-8").splitlines()
    return parse("\n".join(line for line in lines if line and not line.startswith("vars ")))
