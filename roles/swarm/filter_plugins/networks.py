"""A filter of the role, which has to run without the project's plugins."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv4Network


def apart_from(networks: Iterable[str], others: Iterable[str]) -> list[str]:
    """Return those of the IPv4 networks that overlap none of the others."""
    taken = list(map(IPv4Network, others))
    return [text for text in networks if not any(map(IPv4Network(text).overlaps, taken))]


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Return the filter by name."""
        return {"apart_from": apart_from}
