"""Whose data a Redis holds. The first deployment of a stack makes a random id, ``site``, and stores it in the data."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from counter.store.keys import SITE_KEY


@dataclass(frozen=True, slots=True)
class Mark:
    """The value of ``SITE_KEY``; without a value, everything is empty."""

    site: str = ""
    stack: str = ""
    """The stack that wrote it."""
    generation: int = 0
    """Raised by each deployment, so that an older copy of the data is found out."""

    @classmethod
    def parse(cls, text: str | None) -> Mark:
        """Read the value of ``SITE_KEY``; raises ValueError where it is something else."""
        try:
            return cls(**json.loads(text)) if text else cls()
        except TypeError as error:
            raise ValueError(str(error)) from error

    def text(self) -> str:
        """Return the value of ``SITE_KEY``."""
        return json.dumps(asdict(self))


def objection(text: str | None, site: str) -> str:
    """Return why data with this value of ``SITE_KEY`` is not that of ``site``; empty if it is."""
    try:
        found = Mark.parse(text)
    except ValueError as error:
        return f"{SITE_KEY}, which is not that of a stack: {error}"
    if found.site == site:
        return ""
    if found.site:
        return f"the counters of stack {found.stack} (site {found.site}), not those of site {site}"
    return f"no counters of this stack (site {site}): they were lost or replaced"
