#!/usr/bin/env python3
"""Makes the pictures of the documentation with Chromium, into docs/pictures.

    docs/pictures.py page [--url URL]        the page, of a running counter or of one that is started for this
    docs/pictures.py status                  the output of ./counter status in docs/commands.md
    docs/pictures.py report                  the top of docs/example-report/report.html

Needs Debian's packages chromium and, for the page without --url, redis-server and the environment of the tests
(./counter test quick makes it): .venv/bin/python docs/pictures.py page
"""

from __future__ import annotations

import argparse
import contextlib
import html
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from support.chromium import SWITCHES  # noqa: E402

PICTURES = ROOT / "docs/pictures"
REPORT = ROOT / "docs/example-report/report.html"
COMMANDS = ROOT / "docs/commands.md"
CHROMIUM = ["chromium", *SWITCHES, "--hide-scrollbars", "--force-device-scale-factor=1"]
VISITS = 1234
LINE_HEIGHT = 18
TERMINAL = """<!doctype html><meta charset="utf-8"><style>
  body {{ margin: 0; background: #17211f; }}
  pre {{ margin: 0; padding: 16px 20px; color: #e7eeec; font: 13px/{line_height}px "DejaVu Sans Mono", monospace; }}
  b {{ color: #2dd4bf; font-weight: normal; }}
</style><pre><b>$ ./counter status</b>
{text}</pre>"""


def screenshot(url: str, name: str, width: int, height: int) -> None:
    """Write what Chromium shows at ``url`` to docs/pictures, in pixels; raises CalledProcessError or TimeoutExpired."""
    picture = PICTURES / f"{name}.png"
    with tempfile.TemporaryDirectory() as profile:
        size = f"--window-size={width},{height}"
        command = [
            *CHROMIUM,
            size,
            f"--user-data-dir={profile}",
            f"--screenshot={picture}",
            "--virtual-time-budget=2000",
            url,
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
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
        screenshot(address, "page", 860, 720)


def draw_status() -> None:
    """Draw the status in docs/commands.md, which the scenario `newcomer` compares, as a terminal shows it."""
    output = COMMANDS.read_text(encoding="utf-8").partition("$ ./counter status\n")[2].partition("```")[0]
    lines = output.strip().splitlines()
    with tempfile.NamedTemporaryFile("w", suffix=".html", encoding="utf-8") as page:
        page.write(TERMINAL.format(line_height=LINE_HEIGHT, text=html.escape("\n".join(lines))))
        page.flush()
        screenshot(f"file://{page.name}", "status", 860, (len(lines) + 1) * LINE_HEIGHT + 32)


def main() -> None:
    """Draw what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", choices=["page", "status", "report"])
    parser.add_argument("--url", default="", help="address of a running counter")
    given = parser.parse_args()
    PICTURES.mkdir(exist_ok=True)
    match given.picture:
        case "page":
            draw_page(given.url)
        case "status":
            draw_status()
        case "report":
            screenshot(f"file://{REPORT}", "report", 1100, 760)


if __name__ == "__main__":
    main()
