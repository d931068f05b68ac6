"""``python -m history check``: judges histories that a drill kept."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from history.checker import Result, Verdict, check
from history.model import HistoryError, load

EXIT = {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.INCONCLUSIVE: 2}


def main(arguments: list[str] | None = None) -> int:
    """Check the files; return the exit status: 0 PASS, 1 FAIL, 2 INCONCLUSIVE, 64 bad input."""
    parser = argparse.ArgumentParser(prog="history", description="Check histories of a counter.")
    commands = parser.add_subparsers(dest="command", required=True)
    checking = commands.add_parser("check", help="check recorded histories")
    checking.add_argument("files", nargs="+", type=Path)
    checking.add_argument("--log", type=Path, help="the counted ids, one a line: redis-cli SMEMBERS '{COUNTER}:log'")
    checking.add_argument("--max-gap", type=float, help="longest write gap allowed, in seconds")
    checking.add_argument("--expect-switch", action="store_true", help="INCONCLUSIVE unless the primary changed")
    options = parser.parse_args(arguments)
    try:
        return max(_check(path, options) for path in options.files)
    except (HistoryError, OSError) as error:
        sys.stderr.write(f"history: {error}\n")
        return 64


def _check(path: Path, options: argparse.Namespace) -> int:
    history = load(path)
    if options.log:
        history = replace(history, log=frozenset(options.log.read_text(encoding="utf-8").split()) or None)
    expect_log = options.log is not None
    result = check(history, max_gap=options.max_gap, expect_switch=options.expect_switch, expect_log=expect_log)
    sys.stdout.write(_text(path, result) + "\n")
    return EXIT[result.verdict]


def _text(path: Path, result: Result) -> str:
    lines = [
        f"{result.verdict} {path}",
        f"  {result.ok} acknowledged, {result.indeterminate} indeterminate, {result.failed} failed",
        f"  {result.reads} reads; {result.duration:.1f} s; lost {result.lost}, doubled {result.doubled}",
        f"  longest write gap {result.longest_gap:.2f} s; answered by {', '.join(result.nodes) or 'no node'}",
    ]
    lines += [f"  invariant {violation.invariant}: {violation.text}" for violation in result.violations]
    lines += [f"  {doubt}" for doubt in result.doubts]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
