#!/usr/bin/env python3
"""Records the quick start on this server as docs/pictures/recording.svg: clone, deploy, count, status.

    docs/recording.py REPOSITORY             on a bare server, as root, in a checkout; the stack stays
    docs/recording.py --commands COMMAND ... other commands, one after the other in one shell

Needs Debian's package termtosvg. Pauses are cut to 2 s, and then everything is sped up to fit into 45 s.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import tempfile
from pathlib import Path

PICTURE = Path(__file__).resolve().parent / "pictures/recording.svg"
QUICK_START = (
    "git clone {repository} counter-deploy",
    "cd counter-deploy",
    "./counter deploy",
    "curl -X POST http://127.0.0.1/api/counters/demo/increment",
    "./counter status",
)
# Wide enough for each line of status, and high enough for all of them.
GEOMETRY = "100x38"
PAUSE = 2.0
LONGEST = 45.0
# Each frame is a copy of the screen, so more of them make a larger file. In milliseconds.
FRAME = 400
LAST_FRAME = 6000
# A first deployment takes minutes, and more on a slow server.
RECORD_SECONDS = 3600
RENDER_SECONDS = 600
# Types each command as a person would, and runs it.
SHELL = r"""
show() {
  printf '\e[36m$ '
  for ((i = 0; i < ${#1}; i++)); do printf %s "${1:i:1}"; sleep 0.05; done
  printf '\e[0m\n'
}
cd "$(mktemp -d)"
"""
# The colours of the other pictures. termtosvg fits it to the geometry.
TEMPLATE = """<svg xmlns="http://www.w3.org/2000/svg" id="terminal" viewBox="0 0 680 347" width="680">
<defs>
<termtosvg:template_settings xmlns:termtosvg="https://github.com/nbedos/termtosvg">
<termtosvg:screen_geometry columns="82" rows="19"/><termtosvg:animation type="css"/>
</termtosvg:template_settings>
<style type="text/css" id="generated-style"></style>
<style type="text/css" id="user-style">
.background { fill: #f6f7f5; } .foreground { fill: #17211f; } .color6, .color14 { fill: #0f766e; }
.color1, .color9 { fill: #b42318; } .color2, .color10 { fill: #1a7f37; } .color3, .color11 { fill: #8a5a00; }
@media (prefers-color-scheme: dark) {
.background { fill: #17211f; } .foreground { fill: #e7eeec; } .color6, .color14 { fill: #2dd4bf; }
.color1, .color9 { fill: #ff9d9d; } .color2, .color10 { fill: #7ee2a8; } .color3, .color11 { fill: #ffc46b; }
}
</style>
</defs>
<rect class="background" width="100%" height="100%" rx="8"/>
<svg id="screen" x="12" y="12" width="656" height="323" viewBox="0 0 656 323" preserveAspectRatio="xMidYMin slice"/>
</svg>
"""


def shortened(recording: str) -> str:
    """Return a recording (asciicast v2) whose pauses are cut, and that is sped up if it takes longer than it may."""
    header, *lines = recording.splitlines()
    events = [json.loads(line) for line in lines]
    times, before, now = [], 0.0, 0.0
    for moment, *_ in events:
        now += min(moment - before, PAUSE)
        before = moment
        times.append(now)
    pace = min(1.0, LONGEST / now)
    print(f"{events[-1][0]:.0f} s became {now * pace:.0f} s")
    return "\n".join(
        [header, *(json.dumps([time * pace, *event[1:]]) for time, event in zip(times, events, strict=True))]
    )


def record(commands: list[str]) -> None:
    """Write the picture of these commands."""
    session = SHELL + "\n".join(f"show {shlex.quote(command)}\n{command}" for command in commands)
    with tempfile.TemporaryDirectory() as name:
        cast, template = Path(name, "cast"), Path(name, "template.svg")
        template.write_text(TEMPLATE, encoding="utf-8")
        shell = shlex.join(["bash", "-c", session])
        # The end of its own input would end the recording.
        silent, _ = os.pipe()
        terminal = {**os.environ, "TERM": "xterm"}
        recorder = ["termtosvg", "record", str(cast), "-g", GEOMETRY, "-c", shell]
        subprocess.run(recorder, stdin=silent, env=terminal, check=True, timeout=RECORD_SECONDS)
        cast.write_text(shortened(cast.read_text(encoding="utf-8")), encoding="utf-8")
        options = ["-m", str(FRAME), "-D", str(LAST_FRAME), "-t", str(template)]
        render = ["termtosvg", "render", str(cast), str(PICTURE), *options]
        subprocess.run(render, check=True, timeout=RENDER_SECONDS)
    print(f"{PICTURE}: {PICTURE.stat().st_size:,} bytes")


def main() -> None:
    """Record what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("repository", nargs="?", help="what to clone")
    what.add_argument("--commands", nargs="+", metavar="COMMAND")
    given = parser.parse_args()
    record(given.commands or [command.format(repository=given.repository) for command in QUICK_START])


if __name__ == "__main__":
    main()
