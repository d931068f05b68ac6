#!/usr/bin/env python3
"""Makes the pictures of the documentation, in docs/pictures, each for light and for dark screens.

    docs/pictures.py                         the terminals, from the blocks of docs/commands.md; a test compares them
    docs/pictures.py page [--url URL]        the page's number, of a running counter or of one that is started for this
    docs/pictures.py report                  the top and a chart of docs/example-report/report.html
    docs/pictures.py kill --history FILE     the rate while a primary is killed, from a history that a drill kept
    docs/pictures.py problem --output FILE   `./counter status` with a problem, from what it printed

Needs the environment and the programs of the tests (./counter test quick installs them), and for the page, reports and
charts Debian's package pngquant: .venv/bin/python docs/pictures.py page
one-server.svg and three-servers.svg are drawn by hand; recording.py makes recordings.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from math import ceil, floor
from pathlib import Path

from rich.color import parse_rgb_hex
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from selenium import webdriver

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from history.model import Outcome, load  # noqa: E402
from support.chromium import SWITCHES  # noqa: E402

from bench.charts import Axis, Chart, Line  # noqa: E402

PICTURES = ROOT / "docs/pictures"
REPORT = ROOT / "docs/example-report/report.html"
STYLE = ROOT / "bench/templates/report.css"
COMMANDS = ROOT / "docs/commands.md"
# Few colours, so that a picture with many pixels is a small file.
PNGQUANT = ["pngquant", "32", "-"]
# Above and below what a picture of a page shows.
MARGIN = 15
VISITS = 1234
# Parts of a second for which the chart of a kill has a point, and the seconds that it shows before and after.
PARTS = 10
AROUND = 3
# Pictures of terminals, and the commands whose blocks in docs/commands.md they show.
TERMINALS = {"status": "./counter status"}
# Background, text and accent of terminals, as the page has them.
SCHEMES = {"light": ("#f6f7f5", "#17211f", "#0f766e"), "dark": ("#17211f", "#e7eeec", "#2dd4bf")}
# Of what rich offers, without fonts from the Internet, which GitHub does not load. Each line has the length that it has
# in rich's font, so none is cut in the reader's.
TERMINAL = """<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">
<style>
.{unique_id}-matrix {{ font: {char_height}px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }}
svg > rect {{ stroke: #8886; }}
{styles}
</style>
<defs>{lines}</defs>
{chrome}
<g class="{unique_id}-matrix" transform="translate({terminal_x}, {terminal_y})">{matrix}</g>
</svg>
"""


def terminal(command: str, output: str, scheme: str) -> str:
    """Return an SVG of a terminal that shows a command and its output, in the colours of a scheme."""
    typed = f"$ {command}"
    width = max(map(len, [typed, *output.splitlines()]))
    background, text, accent = SCHEMES[scheme]
    theme = TerminalTheme(parse_rgb_hex(background[1:]), parse_rgb_hex(text[1:]), [])
    console = Console(record=True, file=io.StringIO(), width=width + 1, color_system="truecolor")
    console.print(typed, style=f"bold {accent}", markup=False, highlight=False)
    console.print(output, markup=False, highlight=False)
    return console.export_svg(title="", theme=theme, code_format=TERMINAL, unique_id="terminal")


def shown(command: str) -> str:
    """Return the output of a command in docs/commands.md, which the scenario `newcomer` compares."""
    return COMMANDS.read_text(encoding="utf-8").partition(f"$ {command}\n")[2].partition("```")[0]


def drawings() -> dict[str, str]:
    """Return the pictures that are made from texts, by the names of their files."""
    return {
        f"{name}-{scheme}.svg": terminal(command, shown(command), scheme)
        for name, command in TERMINALS.items()
        for scheme in SCHEMES
    }


@contextlib.contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """Yield the distribution's Chromium."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for switch in [*SWITCHES, "--hide-scrollbars"]:
        options.add_argument(switch)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
    try:
        yield driver
    finally:
        driver.quit()


def photograph(url: str, name: str, width: int, first: str, last: str) -> None:
    """Write what Chromium shows at ``url`` from one element to another, with two pixels for one of CSS."""
    with browser() as driver:
        screen = {"width": width, "height": 400, "deviceScaleFactor": 2, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        driver.get(url)
        begin, end = (driver.find_element("css selector", one).rect for one in (first, last))
        left, top = begin["x"] - MARGIN, begin["y"] - MARGIN
        bottom = end["y"] + end["height"] + MARGIN
        clip = {"x": left, "y": top, "width": begin["width"] + 2 * MARGIN, "height": bottom - top, "scale": 1}
        for scheme in SCHEMES:
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
            shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
            picture = PICTURES / f"{name}-{scheme}.png"
            picture.write_bytes(subprocess.check_output(PNGQUANT, input=base64.b64decode(shot["data"])))
            print(f"{picture.relative_to(ROOT)}: {picture.stat().st_size:,} bytes")


@contextlib.contextmanager
def running_counter() -> Iterator[str]:
    """Yield the address of a counter on this machine, as the app's tests start it."""
    from support.processes import Gunicorn, RedisServer, running  # noqa: PLC0415

    version = (ROOT / "VERSION").read_text(encoding="utf-8").strip()
    with tempfile.TemporaryDirectory() as name:
        redis = RedisServer(Path(name), "appendonly yes", "appendfsync always")
        app = Gunicorn(
            Path(name),
            "3",
            REDIS_NODES=redis.address,
            EDGE="proxy",
            NODE="node-2",
            VERSION=version,
            WRITE_CONCERN="none",
        )
        with running(redis, app):
            redis.up().client().set("{visits}:value", VISITS - 1)
            yield app.up().url


def draw_page(url: str) -> None:
    """Draw the page of a counter."""
    with contextlib.nullcontext(url) if url else running_counter() as address:
        photograph(address, "page", 760, ".count", ".count")


def chart_of_kill(file: Path) -> Chart:
    """Return the chart of the acknowledged increments around the longest time without any."""
    ends = sorted(one.end for one in load(file).increments if one.outcome is Outcome.OK)
    last, first = max(pairwise(ends), key=lambda pair: pair[1] - pair[0])
    gap = first - last
    counts = Counter(floor((end - last + AROUND) * PARTS) for end in ends)
    points = [(at / PARTS - AROUND, counts[at] * PARTS) for at in range(int((gap + 2 * AROUND) * PARTS))]
    seconds = [(float(second), str(second)) for second in range(-AROUND, ceil(gap) + AROUND + 1)]
    return Chart(
        "kill",
        "Acknowledged increments a second while the primary is killed",
        f"No increment is acknowledged for {gap:.1f} s.",
        Axis("seconds since the last increment that the killed primary acknowledged", ticks=seconds),
        Axis("acknowledged increments/s"),
        [Line("acknowledged", points, 0)],
        bands=[(0, gap, f"{gap:.1f} s")],
    )


def draw_kill(file: Path) -> None:
    """Draw the chart of a kill."""
    style = STYLE.read_text(encoding="utf-8") + "section { width: 760px; margin: 20px; } .legend { display: none; }"
    page = f"<!doctype html><meta charset=utf-8><style>{style}</style><section>{chart_of_kill(file).svg()}</section>"
    with tempfile.NamedTemporaryFile("w", suffix=".html", encoding="utf-8") as written:
        written.write(page)
        written.flush()
        photograph(Path(written.name).as_uri(), "kill", 900, "section", "section")


def main() -> None:
    """Draw what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", nargs="?", choices=["page", "report", "kill", "problem"])
    parser.add_argument("--url", default="", help="address of a running counter")
    parser.add_argument("--history", type=Path, help="history that a drill kept (`python -m drill kill --keep`)")
    parser.add_argument("--output", type=Path, help="what `./counter status` printed")
    given = parser.parse_args()
    match given.picture:
        case "page":
            draw_page(given.url)
        case "report":
            photograph(REPORT.as_uri(), "report", 1100, "h1", "#why")
            photograph(REPORT.as_uri(), "report-time", 900, "#time figure", "#time figure")
        case "kill" if given.history:
            draw_kill(given.history)
        case "problem" if given.output:
            for scheme in SCHEMES:
                drawing = terminal("./counter status", given.output.read_text(encoding="utf-8").rstrip(), scheme)
                (PICTURES / f"problem-{scheme}.svg").write_text(drawing, encoding="utf-8")
        case "kill" | "problem":
            parser.error("kill needs --history, and problem --output")
        case _:
            for name, drawing in drawings().items():
                (PICTURES / name).write_text(drawing, encoding="utf-8")


if __name__ == "__main__":
    main()
