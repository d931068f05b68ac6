"""Names of counters, and keys of operations."""

import re

# The hyphen is escaped for browsers, which also check a name by this pattern.
_CHARACTER = r"[A-Za-z0-9._\-]"
# NAMESPACE/increment would be the path that counts on the counter NAMESPACE.
NAME_PATTERN = rf"[A-Za-z0-9]{_CHARACTER}{{0,63}}(?:/(?!increment(?!{_CHARACTER})){_CHARACTER}{{1,64}})?"
NAME_RULE = (
    "1 to 64 letters, digits, dots, hyphens or underscores, beginning with a letter or digit; "
    "or NAMESPACE/NAME, each of 1 to 64 such characters"
)
VISITS = "visits"
"""The counter that ``GET /`` counts on."""

_NAME = re.compile(NAME_PATTERN)


def is_counter_name(text: str) -> bool:
    """Tell whether ``text`` may name a counter: it becomes part of a Redis key, so braces and blanks are out."""
    return _NAME.fullmatch(text) is not None


KEY_RULE = "1 to 128 printable ASCII characters without blanks"
_KEY = re.compile(r"[!-~]{1,128}")
_QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])*)"')


def idempotency_key(header: str) -> str | None:
    """Return the key of an ``Idempotency-Key`` header, None where it breaks ``KEY_RULE``.

    The IETF draft makes it a structured-field string (``"abc"``); the bare form that most clients send is the same key.
    """
    text = header.strip()
    if text.startswith('"'):
        quoted = _QUOTED.fullmatch(text)
        text = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else ""
    return text if _KEY.fullmatch(text) else None
