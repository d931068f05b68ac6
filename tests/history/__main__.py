"""``python -m history record`` and ``python -m history check``."""

from __future__ import annotations

import argparse
import json
import sys
import uuid
from dataclasses import asdict, replace
from pathlib import Path

from history.checker import Result, Verdict, check
from history.model import HistoryError, State, load
from history.recorder import Plan, Repeat, record

EXIT = {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.INCONCLUSIVE: 2}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the process's exit status (check: 0 PASS, 1 FAIL, 2 INCONCLUSIVE, 64 bad input)."""
    parser = argparse.ArgumentParser(prog="history", description="Record and check histories of a counter.")
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record", help="run concurrent clients against a deployed counter")
    recording.add_argument("--url", required=True, help="for example http://127.0.0.1:80")
    recording.add_argument("--out", required=True, type=Path, help="the history's file")
    recording.add_argument("--clients", type=int, default=16)
    recording.add_argument("--seconds", type=float, default=30.0)
    recording.add_argument("--counter", default="", help="default: a new one")
    recording.add_argument(
        "--repeat",
        type=Repeat,
        choices=list(Repeat),
        default=Repeat.KEY,
        help="repeat with an Idempotency-Key of the client, with the operation_id of an answer, or blindly (must FAIL)",
    )
    checking = commands.add_parser("check", help="check recorded histories")
    checking.add_argument("files", nargs="+", type=Path)
    checking.add_argument("--log", type=Path, help="the counted ids, one a line: redis-cli SMEMBERS '{COUNTER}:log'")
    checking.add_argument("--state", type=Path, help='JSON: {"primaries": [...], "digests": {...}, "copies": 3}')
    checking.add_argument("--max-gap", type=float, help="longest write gap allowed, in seconds")
    checking.add_argument("--expect-switch", action="store_true", help="INCONCLUSIVE unless the primary changed")
    checking.add_argument("--json", action="store_true", help="print the results as JSON")
    options = parser.parse_args(arguments)
    try:
        if options.command == "record":
            counter = options.counter or f"history-{uuid.uuid4().hex[:12]}"
            record(Plan(options.url, counter, options.clients, options.seconds, options.out, options.repeat))
            return 0
        return max(_check(path, options) for path in options.files)
    except (HistoryError, OSError) as error:
        sys.stderr.write(f"history: {error}\n")
        return 64


def _check(path: Path, options: argparse.Namespace) -> int:
    history = load(path)
    if options.log:
        history = replace(history, log=frozenset(options.log.read_text(encoding="utf-8").split()) or None)
    state = None
    if options.state:
        found = json.loads(options.state.read_text(encoding="utf-8"))
        addresses = tuple(found.get("addresses", []))
        state = State(tuple(found["primaries"]), found.get("digests", {}), found.get("copies", 1), addresses)
    result = check(
        history,
        state=state,
        max_gap=options.max_gap,
        expect_switch=options.expect_switch,
        expect_log=options.log is not None,
    )
    text = json.dumps({"file": str(path), **asdict(result)}) if options.json else _text(path, result)
    sys.stdout.write(text + "\n")
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
