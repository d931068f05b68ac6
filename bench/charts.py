"""Charts as inline SVG: lines with axes, units and a legend, and stacked bars. Colours come from the page's style sheet.

Every chart has a title and a description for screen readers; the page shows a table of the same figures next to it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 760, 340
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 14, 50
PLOT_WIDTH, PLOT_HEIGHT = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

Point = tuple[float, float | None]


@dataclass(frozen=True)
class Line:
    """One line: ``points`` (x, y; None leaves a gap), ``colour`` 0 to 7, ``style`` solid, dashed or dotted."""

    label: str
    points: Sequence[Point]
    colour: int
    style: str = "solid"
    markers: bool = False


@dataclass(frozen=True)
class Axis:
    """An axis: title with its unit; ``log`` for a logarithmic scale; fixed ``ticks`` as (value, text) for a special scale."""

    title: str
    log: bool = False
    ticks: Sequence[tuple[float, str]] = ()


@dataclass(frozen=True)
class Chart:
    """A line chart; ``bands`` are shaded ranges of x: (from, to, text)."""

    name: str
    title: str
    description: str
    x: Axis
    y: Axis
    lines: Sequence[Line]
    bands: Sequence[tuple[float, float, str]] = ()

    def svg(self) -> str:
        """The chart as an ``<svg>`` element."""
        xs = [x for line in self.lines for x, y in line.points if y is not None]
        ys = [y for line in self.lines for _, y in line.points if y is not None]
        if not xs or not ys:
            return f'<p class="empty">{escape(self.title)}: nothing was measured.</p>'
        x_ticks, to_x = _scale(self.x, xs, LEFT, LEFT + PLOT_WIDTH)
        y_ticks, to_y = _scale(self.y, ys, TOP + PLOT_HEIGHT, TOP)
        parts = [
            f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{self.name}-t {self.name}-d">',
            f'<title id="{self.name}-t">{escape(self.title)}</title><desc id="{self.name}-d">{escape(self.description)}</desc>',
            *(_band(to_x(a), to_x(b), text) for a, b, text in self.bands),
            *(_grid_y(to_y(value), text) for value, text in y_ticks),
            *(_grid_x(to_x(value), text) for value, text in x_ticks),
            f'<text class="axis" x="{LEFT + PLOT_WIDTH / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(self.x.title)}</text>',
            f'<text class="axis" transform="translate(14 {TOP + PLOT_HEIGHT / 2}) rotate(-90)" text-anchor="middle">{escape(self.y.title)}</text>',
            *(_line(line, to_x, to_y) for line in self.lines),
            "</svg>",
            _legend([(line.label, line.colour, line.style) for line in self.lines]),
        ]
        return "".join(parts)


@dataclass(frozen=True)
class Bars:
    """Horizontal stacked bars: ``rows`` of (label, values), one value per entry of ``segments``; ``axis`` is the axis title."""

    name: str
    title: str
    description: str
    axis: str
    segments: Sequence[str]
    rows: Sequence[tuple[str, Sequence[float]]]

    def svg(self) -> str:
        """The chart as an ``<svg>`` element."""
        if not self.rows or not self.segments:
            return f'<p class="empty">{escape(self.title)}: nothing was measured.</p>'
        row_height, left = 30, 110
        height = TOP + row_height * len(self.rows) + BOTTOM
        ticks, to_x = _scale(Axis(self.axis), [0.0, max(sum(values) for _, values in self.rows)], left, WIDTH - RIGHT)
        bottom = TOP + row_height * len(self.rows)
        parts = [
            f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="{self.name}-t {self.name}-d">',
            f'<title id="{self.name}-t">{escape(self.title)}</title><desc id="{self.name}-d">{escape(self.description)}</desc>',
        ]
        for value, text in ticks:
            parts.append(f'<path class="grid" d="M{to_x(value):.1f} {TOP}V{bottom}"/>')
            parts.append(f'<text class="tick" x="{to_x(value):.1f}" y="{bottom + 16}" text-anchor="middle">{text}</text>')
        for index, (label, values) in enumerate(self.rows):
            y = TOP + index * row_height + 5
            parts.append(f'<text class="tick name" x="{left - 10}" y="{y + 14}" text-anchor="end">{escape(label)}</text>')
            start = 0.0
            for colour, (segment, value) in enumerate(zip(self.segments, values, strict=True)):
                width = to_x(start + value) - to_x(start)
                tip = escape(f"{label}, {segment}: {value:.3f}")
                parts.append(
                    f'<rect class="fill c{colour % 8}" x="{to_x(start):.1f}" y="{y}" width="{max(0.0, width):.1f}" height="{row_height - 10}"'
                    f' data-tip="{tip}"/>'
                )
                start += value
        parts.append(f'<text class="axis" x="{(left + WIDTH - RIGHT) / 2}" y="{height - 8}" text-anchor="middle">{escape(self.axis)}</text></svg>')
        parts.append(_legend([(segment, index, "block") for index, segment in enumerate(self.segments)]))
        return "".join(parts)


def nines(percentile: float) -> float:
    """Position of a percentile on an axis that gives each further nine equal space: 0 -> 0, 90 -> 1, 99 -> 2."""
    return -math.log10(1 - min(percentile, 99.9999) / 100)


NINES_AXIS = Axis("percentile of requests", ticks=[(nines(p), f"{p:g}") for p in (0, 50, 90, 99, 99.9, 99.99)])


def _scale(axis: Axis, values: Sequence[float], start: float, end: float) -> tuple[list[tuple[float, str]], Callable[[float], float]]:
    """Ticks (value, text), and the function that maps a value to a coordinate between ``start`` and ``end``."""
    highest = max([*values, 0])
    if axis.ticks:
        ticks = [tick for tick in axis.ticks if tick[0] <= highest * 1.25 + 0.2]
        low, high = ticks[0][0], max(ticks[-1][0], highest)
    elif axis.log:
        positive = [value for value in values if value > 0] or [1.0]
        marks = [step * 10.0**decade for decade in range(-4, 10) for step in (1, 2, 5)]
        low = max(mark for mark in marks if mark <= min(positive) or mark == marks[0])
        high = min(mark for mark in marks if (mark >= max(positive) and mark > low) or mark == marks[-1])
        inside = [mark for mark in marks if low <= mark <= high]
        shown = inside if len(inside) <= 9 else [mark for mark in inside if math.log10(mark) % 1 < 1e-9]
        span = math.log10(high) - math.log10(low)
        return [(mark, f"{mark:,.10g}") for mark in shown], lambda value: start + (end - start) * (math.log10(max(value, low)) - math.log10(low)) / span
    else:
        step = _nice_step(highest or 1)
        low, high = 0.0, step * math.ceil((highest or 1) / step)
        ticks = [(index * step, f"{index * step:,.10g}") for index in range(round(high / step) + 1)]
    return ticks, lambda value: start + (end - start) * (value - low) / ((high - low) or 1)


def _nice_step(highest: float, wanted: int = 6) -> float:
    magnitude = 10.0 ** math.floor(math.log10(highest / wanted))
    return next(step * magnitude for step in (1, 2, 5, 10) if step * magnitude * wanted >= highest)


def _grid_y(y: float, text: str) -> str:
    return f'<path class="grid" d="M{LEFT} {y:.1f}H{LEFT + PLOT_WIDTH}"/><text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'


def _grid_x(x: float, text: str) -> str:
    bottom = TOP + PLOT_HEIGHT
    return f'<path class="grid" d="M{x:.1f} {TOP}V{bottom}"/><text class="tick" x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{text}</text>'


def _band(start: float, end: float, text: str) -> str:
    label = f'<text class="tick" x="{start + 6:.1f}" y="{TOP + 15}">{escape(text)}</text>' if text else ""
    return f'<rect class="band" x="{start:.1f}" y="{TOP}" width="{max(0.0, end - start):.1f}" height="{PLOT_HEIGHT}"/>{label}'


def _line(line: Line, to_x: Callable[[float], float], to_y: Callable[[float], float]) -> str:
    path, dots, pen = [], [], "M"
    for x, y in line.points:
        if y is None:
            pen = "M"
            continue
        path.append(f"{pen}{to_x(x):.1f} {to_y(y):.1f}")
        shown = f"dot {line.style}" if line.markers or len(line.points) == 1 else "hit"
        dots.append(f'<circle class="{shown} c{line.colour % 8}" cx="{to_x(x):.1f}" cy="{to_y(y):.1f}" r="4" data-tip="{escape(line.label)}: {y:,.6g}"/>')
        pen = "L"
    return f'<path class="line {line.style} c{line.colour % 8}" d="{"".join(path)}"/>{"".join(dots)}'


def _legend(entries: Sequence[tuple[str, int, str]]) -> str:
    keys = "".join(
        f'<li><svg class="key" viewBox="0 0 26 10" aria-hidden="true"><path class="{"fill" if style == "block" else f"line {style}"} c{colour % 8}"'
        f' d="{"M2 0H24V10H2Z" if style == "block" else "M0 5H26"}"/></svg>{escape(label)}</li>'
        for label, colour, style in entries
    )
    return f'<ul class="legend">{keys}</ul>'
