"""Badges in the styles of shields.io: their texts, and where these go. ``templates/badge*.svg`` draw them.

The widths of characters (``assets/widths.json``, hundredths of a pixel for code points from 32) are those of shields'
library anafanafo 2.0, measured in Verdana and Helvetica. The pictures tell every viewer to give the texts this width,
so no font cuts one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Self

from counter.problems import Problem

_WIDTHS: dict[str, list[int]] = json.loads((Path(__file__).parent / "assets/widths.json").read_text(encoding="utf-8"))
_FIRST = 32
COLORS = {
    "brightgreen": "#4b0",
    "green": "#67ac09",
    "yellowgreen": "#95991a",
    "yellow": "#d8b800",
    "orange": "#ea7233",
    "red": "#dd4343",
    "blue": "#007ec6",
    "grey": "#555",
    "lightgrey": "#939393",
    "gray": "#555",
    "lightgray": "#939393",
    "success": "#4b0",
    "important": "#ea7233",
    "critical": "#dd4343",
    "informational": "#007ec6",
    "inactive": "#939393",
}
DEFAULT_COLORS = {"color": "blue", "labelColor": "grey"}
COLOR_RULE = f"a colour: 3 or 6 hexadecimal digits, or one of {', '.join(COLORS)}"
LABEL_RULE = "a label: at most 64 characters without control characters"
FORMATS = ("full", "short")
_HEX = re.compile("#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})")
_LABEL = re.compile("[^\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]{0,64}")
_BRIGHT = 0.69
"""From this brightness of the ground on, a text is dark."""


@dataclass(frozen=True, slots=True)
class Style:
    """How a style draws. Sizes are in pixels."""

    height: int
    baseline: float
    font: str
    message_font: str
    padding: tuple[int, int]
    """On each side of label and message."""
    spacing: float = 0.0
    """Between the characters."""
    nudge: int = 1
    """By how much the texts stand closer to each other than in the middle of their grounds."""
    radius: int = 0
    shadow: bool = False
    gradient: tuple[tuple[str, str, str], ...] = ()
    """For each stop its place, colour and opacity."""
    gap: int = 0
    """Between the two parts."""
    change: str = "unchanged"
    """What becomes of the texts' case."""


_SHADE = (("0", "#bbb", ".1"), ("1", "", ".1"))
_GLOSS = (("0", "#fff", ".7"), (".1", "#aaa", ".1"), (".9", "#000", ".3"), ("1", "#000", ".5"))
STYLES = {
    "flat": Style(20, 14, "verdana 11", "verdana 11", (5, 5), radius=3, shadow=True, gradient=_SHADE),
    "flat-square": Style(20, 14, "verdana 11", "verdana 11", (5, 5)),
    "plastic": Style(18, 13, "verdana 11", "verdana 11", (5, 5), radius=4, shadow=True, gradient=_GLOSS),
    "for-the-badge": Style(
        *(28, 17.5, "verdana 10", "verdana bold 10", (12, 12)), spacing=1.25, nudge=0, change="upper"
    ),
    "social": Style(20, 14, "helvetica bold 11", "helvetica bold 11", (5, 4), gap=6, nudge=0, change="capital"),
}


@dataclass(frozen=True, slots=True)
class Options:
    """What the query of a badge's URL asks for."""

    label: str
    color: str
    label_color: str
    style: str
    form: str
    counts: bool

    @classmethod
    def of(cls, name: str, query: Mapping[str, str]) -> Self:
        """Read the query of the badge of a counter; raises ``Problem``. Other parameters are ignored."""
        label = query.get("label", name.rpartition("/")[2])
        _require(_LABEL.fullmatch(label), "label", label, LABEL_RULE)
        color, label_color = [query.get(name, default) for name, default in DEFAULT_COLORS.items()]
        for parameter, wanted in zip(DEFAULT_COLORS, (color, label_color), strict=True):
            _require(wanted in COLORS or _HEX.fullmatch(wanted), parameter, wanted, COLOR_RULE)
        return cls(
            label,
            color,
            label_color,
            style=_choice(query, "style", STYLES, "flat"),
            form=_choice(query, "format", FORMATS, "full"),
            counts=_choice(query, "count", ("0", "1"), "0") == "1",
        )

    def text(self, value: int) -> str:
        """Return a value as the badge shows it."""
        return short(value) if self.form == "short" else f"{value:,}"


def _choice(query: Mapping[str, str], parameter: str, allowed: Collection[str], default: str) -> str:
    value = query.get(parameter, default)
    _require(value in allowed, parameter, value, f"one of {', '.join(allowed)}")
    return value


def _require(holds: object, parameter: str, value: str, rule: str) -> None:
    if not holds:
        detail = f"{parameter}={value[:80]!r} must be {rule}."
        raise Problem(HTTPStatus.BAD_REQUEST, "invalid-badge", detail)


def short(value: int) -> str:
    """Return a number with a unit, such as 1.2k or 34M: never more than was counted."""
    for power, unit in ((5, "P"), (4, "T"), (3, "G"), (2, "M"), (1, "k")):
        whole, rest = divmod(value, 1000**power)
        tenth = rest * 10 // 1000**power
        if whole:
            return f"{whole}.{tenth}{unit}" if whole < 10 and tenth else f"{whole}{unit}"  # noqa: PLR2004  # two digits are enough
    return str(value)


@dataclass(frozen=True, slots=True)
class Part:
    """One half of a badge: a text on a ground. Places and widths are in tenths of a pixel, but for the ground's."""

    text: str
    middle: float
    length: float
    left: float
    width: float
    color: str
    ink: str
    shade: str


def parts(options: Options, message: str) -> tuple[Part, Part]:
    """Return the label and the message, and where they go."""
    style = STYLES[options.style]
    label, message = (_changed(text, style.change) for text in (options.label, message))
    gap = style.gap if label else 0
    nudge = style.nudge if label else 0
    widths = [_width(text, font, style) for text, font in ((label, style.font), (message, style.message_font))]
    left = widths[0] + 2 * style.padding[0] if label else 0
    right = widths[1] + 2 * style.padding[1]
    middles = (style.padding[0] + widths[0] / 2 + nudge, left + gap + style.padding[1] + widths[1] / 2 - nudge)
    grounds = _hex(options.label_color), _hex(options.color)
    places = ((0, left), (left + gap, right))
    first, second = (
        Part(text, 10 * middle, 10 * width, *place, ground, *_inks(ground))
        for text, middle, width, place, ground in zip((label, message), middles, widths, places, grounds, strict=True)
    )
    return first, second


def _changed(text: str, change: str) -> str:
    match change:
        case "upper":
            return text.upper()
        case "capital":
            return text[:1].upper() + text[1:]
        case _:
            return text


def _width(text: str, font: str, style: Style) -> float:
    """Return the width of a text in pixels. A character that is not in the table is as wide as an m."""
    table = _WIDTHS[font]
    wide = table[ord("m") - _FIRST]
    total = int(sum(table[place] if 0 <= (place := ord(one) - _FIRST) < len(table) else wide for one in text) / 100)
    # An odd number puts the middle of the text on a pixel.
    return total + style.spacing * len(text) if style.spacing else total | 1 if text else 0


def _hex(color: str) -> str:
    return COLORS.get(color) or f"#{color.removeprefix('#').lower()}"


def _inks(ground: str) -> tuple[str, str]:
    """Return the colours of a text and of its shadow on a ground."""
    digits = ground[1:] if len(ground) == len("#rrggbb") else "".join(2 * digit for digit in ground[1:])
    red, green, blue = (int(digits[at : at + 2], 16) for at in (0, 2, 4))
    bright = (red * 299 + green * 587 + blue * 114) / 255000 > _BRIGHT
    return ("#333", "#ccc") if bright else ("#fff", "#010101")
