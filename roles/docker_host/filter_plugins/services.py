"""Which services of a swarm are complete, by what ``docker service ls --format '{{.Name}} {{.Replicas}}'`` prints."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping


def complete_services(listed: str) -> dict[str, int]:
    """Return for each complete service how many tasks it has."""
    found = re.findall(r"^(\S+) +(\d+)/(\d+)\b", listed, re.MULTILINE)
    return {name: int(wanted) for name, running, wanted in found if running == wanted}


def incomplete_services(listed: str, before: Mapping[str, int]) -> list[str]:
    """Return which of the services that were complete are not, or have fewer tasks.

    What a node refuses is not among the wanted tasks of a global service, which then looks complete.
    """
    now = complete_services(listed)
    return [name for name, tasks in before.items() if now.get(name, -1) < tasks]


class FilterModule:
    """The filters."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Return them by name."""
        return {"complete_services": complete_services, "incomplete_services": incomplete_services}
