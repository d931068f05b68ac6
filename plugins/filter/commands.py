"""Filters for the commands that messages and reports suggest."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any


def as_options(values: Mapping[str, Any]) -> str:
    """Return `` -e NAME=VALUE`` for each variable, quoted for a shell, with a leading space."""
    return "".join(f" -e {shlex.quote(_assignment(name, value))}" for name, value in values.items())


def as_words(options: Mapping[str, Any]) -> list[str]:
    """Return ``OPTION=VALUE`` for each value that is given; a list has several values."""
    lists = {name: value if isinstance(value, list | tuple) else [value] for name, value in options.items()}
    return [f"{name}={value}" for name, values in lists.items() for value in values if value]


def _assignment(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"{name}={str(value).lower()}"
    # Ansible would split a value at its blanks, and read quotes.
    if isinstance(value, str | int | float) and re.fullmatch(r"[\w./:@,+=*%&?#~-]*", str(value)):
        return f"{name}={value}"
    return json.dumps({name: value})


class FilterModule:
    """The filters by name, for Ansible."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Return the filters by name."""
        return {"as_options": as_options, "as_words": as_words}
