"""Types the commands of docs/commands.md on a host, and compares what they print with the page.

verbs.py CONTAINER           fail if anything but numbers differs, or a command fails whose failure is not shown
verbs.py CONTAINER --write   write what was printed into the page

Lines that are too long for the page go on in lines that begin with six blanks. A line `...` stands for any others; an
output with it is not written.
"""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs/commands.md"
BLOCK = re.compile(r"```text\n\$ (?P<command>[^\n]+)\n(?P<output>.*?)```", re.DOTALL)
# What a stage is doing that takes longer than half a minute, which it does on some machines.
LONG_STAGE = re.compile(r".* localhost +# s  (?!# changes?$|skipped$|failed$)")
LONGEST_SECONDS = 600
WIDTH = 120
CONTINUED = " " * 6


def typed(container: str, command: str) -> tuple[str, int]:
    """Return what a command prints there, and its exit code."""
    where = ["--user", "admin", "--workdir", "/home/admin/counter-deploy", "--env", "NO_COLOR=1"]
    words = ["docker", "exec", *where, container, "bash", "-c", f"{command} 2>&1"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LONGEST_SECONDS, check=False)
    return done.stdout, done.returncode


def folded(output: str) -> str:
    """Return the output without empty lines at its ends and with long lines folded."""
    lines = [textwrap.wrap(line, WIDTH, subsequent_indent=CONTINUED) or [""] for line in output.strip().splitlines()]
    return "\n".join(each for line in lines for each in line) + "\n"


def lines_of(text: str) -> set[str]:
    """Return its lines, with each number (also in hexadecimal digits, and with a unit) as # and blanks as one."""
    joined = re.sub(rf"\n{CONTINUED} *", " ", text)
    numbered = re.sub(r"\b[0-9a-f]{7,}\b|\d+(\.\d+)*( ?[KMGkmg]?[Bb]\b)?", "#", joined)
    return {" ".join(line.split()) for line in numbered.splitlines() if line.strip() and not LONG_STAGE.match(line)}


def main() -> None:
    """Type all commands, one after the other."""
    container, write = sys.argv[1], "--write" in sys.argv
    page, faults = PAGE.read_text(encoding="utf-8"), []
    typed_commands = list(BLOCK.finditer(page))
    for block in typed_commands:
        command, shown = block["command"], block["output"]
        began = time.monotonic()
        printed, code = typed(container, command)
        print(f"$ {command}  {time.monotonic() - began:.0f} s", flush=True)
        seen = folded(printed)
        expected, found, partial = lines_of(shown) - {"..."}, lines_of(seen), "...\n" in shown
        if write and not partial:
            page = page.replace(block[0], f"```text\n$ {command}\n{seen}```")
        elif expected - found or (found - expected and not partial) or (code != 0) != ("FAILED on " in shown):
            missing = "".join(f"-{line}\n" for line in sorted(expected - found))
            more = "" if partial else "".join(f"+{line}\n" for line in sorted(found - expected))
            faults.append(f"$ {command} (exit code {code})\n{missing}{more}\n{seen}")
    if not typed_commands:
        sys.exit(f"{PAGE} shows no command")
    if write:
        PAGE.write_text(page, encoding="utf-8")
    elif faults:
        sys.exit("docs/commands.md shows something else (- there, + printed):\n" + "\n".join(faults))


if __name__ == "__main__":
    main()
