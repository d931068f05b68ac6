"""Names of counters."""

import re

NAME_RULE = "[a-z0-9][a-z0-9._-]{0,63}"
VISITS = "visits"
"""The counter that ``GET /`` counts on."""

_NAME = re.compile(NAME_RULE)


def is_counter_name(text: str) -> bool:
    """Tell whether ``text`` may name a counter: it becomes part of a Redis key, so braces and blanks are out."""
    return _NAME.fullmatch(text) is not None
