"""``python -m drill FAULT --url URL --stack NAME``: prints one JSON object with the verdict; exit status as its.

A search may drill several stacks of the same hosts at once: ``--url URL --stack NAME`` for each of them. It ends with
the first sequence that fails.
Keys: ``fault``; ``verdict`` PASS, FAIL or INCONCLUSIVE; ``runs``, each as the checker of histories returns it, with its
``number``, its ``stack`` and, of a search, its ``steps``; ``gaps``, the longest time without an acknowledged increment
of each run, with ``median_gap`` and ``worst_gap``, all in seconds; ``acknowledged``, ``lost`` and ``doubled``
increments of all.
"""

from __future__ import annotations

import argparse
import binascii
import itertools
import json
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from history.checker import Result, Verdict, Violation, check
from history.model import State, load
from history.recorder import Plan, Repeat, recording

from drill.containers import Host, LookError
from drill.faults import FAULTS, Fault, command, lose_host, soak
from drill.orchestrator import HELD, HELD_SECONDS, PLACES, held
from drill.search import draw, play
from drill.stack import Stack

WORSE = (Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL)
EXIT = {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.INCONCLUSIVE: 2}
BEFORE_SECONDS = 3.0
AFTER_SECONDS = 3.0
MORE = 50
"""Increments of each counter that must be acknowledged before the fault, and after it."""
STATE_ATTEMPTS = 3
LONGEST_SECONDS = 1800.0
SOAK_SECONDS = 600.0
MOVES_PRIMARY = frozenset({"kill-late", "pause", "wipe", "lose-host"})
"""Faults after which another node is primary for certain; a run in which it is not shows nothing."""


def main() -> int:
    """Run the drill; print the verdict."""
    options = arguments()
    hosts = tuple(Host(prefix) for prefix in options.host or [""])
    stacks = [Stack(name, hosts) for name in options.stack or ["counter"]]
    done: list[dict[str, Any]] = []
    if options.resume and options.resume.exists():
        done = json.loads(options.resume.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as scratch:
        directory = options.keep or Path(scratch)
        directory.mkdir(parents=True, exist_ok=True)
        unfrozen: dict[str, str] = {}
        last = options.first + options.times - 1
        for number in range(options.first, last + 1):
            if any(one["number"] == number for one in done):
                continue
            drills = [
                drill_of(stack, url, options, directory, number) for stack, url in zip(stacks, options.url, strict=True)
            ]
            stack = drills[0].stack
            steps: list[str] = []
            try:
                epochs = stack.epochs() if options.fault == "soak" else {}
                if options.fault == "freeze" and not unfrozen:
                    unfrozen = stack.epochs()
                moved = options.fault in MOVES_PRIMARY
                fault = chosen(options, number, steps, [drill.stack for drill in drills])
                found = run(drills, fault, expect_switch=moved, max_gap=options.max_gap)
                if epochs:
                    found = [(name, undisturbed(result, epochs, stack.epochs())) for name, result in found]
                if unfrozen and number == last and stack.epochs() == unfrozen:
                    raise LookError(
                        f"no Sentinel began to replace the primary in {options.times} freezes: this shows nothing"
                    )
            except (LookError, OSError) as error:
                sys.stderr.write("\n".join([f"drill: {options.fault} {number}: {error}", *steps, ""]))
                return 64
            done += [{"number": number, "stack": name, "steps": steps, **asdict(result)} for name, result in found]
            if options.resume:
                options.resume.write_text(json.dumps(done, indent=1), encoding="utf-8")
            if options.fault == "search" and any(result.verdict is Verdict.FAIL for _, result in found):
                break
    verdict = max((Verdict(one["verdict"]) for one in done), key=WORSE.index)
    gaps = [round(one["longest_gap"], 2) for one in done]
    document = {
        "fault": options.fault,
        "verdict": verdict,
        "acknowledged": sum(one["ok"] for one in done),
        "lost": sum(one["lost"] for one in done),
        "doubled": sum(one["doubled"] for one in done),
        "gaps": gaps,
        "median_gap": round(median(gaps), 2),
        "worst_gap": max(gaps),
        "runs": done,
    }
    sys.stdout.write(json.dumps(document, indent=1) + "\n")
    return EXIT[verdict]


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(prog="drill", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("fault", choices=[*FAULTS, *HELD, "lose-host", "command", "soak", "search"])
    parser.add_argument(
        "--url", action="append", required=True, help="where the counter is served; several separated by commas"
    )
    parser.add_argument("--stack", action="append", help="name of the stack; default: counter")
    parser.add_argument(
        "--host",
        action="append",
        help="command prefix that runs a command on a host, for example 'ssh node-1'; default: this machine",
    )
    parser.add_argument("--command", default="", help="with the fault `command`: what is run while clients count")
    parser.add_argument("--seconds", type=float, help=f"how long `soak` (600) or a fault ({HELD_SECONDS:g}) lasts")
    parser.add_argument("--at", choices=[*PLACES], default="primary", help="the host that a lasting fault hits")
    parser.add_argument("--seed", type=int, default=0, help="with `search`: draws other sequences of faults")
    parser.add_argument("--first", type=int, default=1, help="number of the first run, or of the first sequence")
    parser.add_argument("--resume", type=Path, help="JSON file of the runs that are done, which are not repeated")
    parser.add_argument(
        "--off", default="docker kill", help="with `lose-host`: command that switches off a host; the name is appended"
    )
    parser.add_argument("--on", default="docker start", help="with `lose-host`: switches it on")
    parser.add_argument(
        "--times", "--sequences", type=int, default=1, help="number of runs, each with a new counter, or of sequences"
    )
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument(
        "--tick", type=float, default=0.0, help="how many seconds a client waits between two operations"
    )
    parser.add_argument("--counters", type=int, default=1, help="number of counters, each used by --clients clients")
    parser.add_argument("--max-gap", type=float, help="fail when no increment is acknowledged for longer, in seconds")
    parser.add_argument("--keep", type=Path, help="directory for the histories; default: none are kept")
    options = parser.parse_args()
    if len(options.url) != len(options.stack or ["counter"]) or (len(options.url) > 1 and options.fault != "search"):
        parser.error("takes one --url for each --stack, and several of both only for `search`")
    return options


@dataclass(frozen=True, slots=True)
class Drill:
    """A stack, with the first counter of its run, and what the clients do."""

    stack: Stack
    plans: Sequence[Plan]


def drill_of(stack: Stack, url: str, options: argparse.Namespace, directory: Path, number: int) -> Drill:
    """Return what the clients of a run do: with keys on each counter, and without keys on one more."""
    plans = [
        Plan(
            url=url,
            counter=f"drill-{uuid.uuid4().hex[:12]}",
            clients=options.clients,
            seconds=LONGEST_SECONDS,
            tick=options.tick,
            out=directory / f"{stack.name}-{options.fault}-{number}-{counter}.jsonl",
        )
        for counter in range(1, options.counters + 1)
    ]
    return Drill(replace(stack, counter=plans[0].counter), [*plans, without_keys(plans[0])])


def chosen(options: argparse.Namespace, number: int, steps: list[str], stacks: Sequence[Stack]) -> Fault:
    """Return the fault of a run. A search hits all stacks, and adds to ``steps`` what each of its steps came to."""
    match options.fault:
        case "command":
            return command(options.command)
        case "lose-host":
            return partial(lose_host, off=options.off, on=options.on)
        case "soak":
            return partial(soak, seconds=options.seconds or SOAK_SECONDS)
        case "search":
            steps += map(str, draw(options.seed, number))
            return lambda _: play(stacks, draw(options.seed, number), steps)
        case name if name in HELD:
            return partial(held, name=name, at=options.at, seconds=options.seconds or HELD_SECONDS)
        case name:
            return FAULTS[name]


def without_keys(plan: Plan) -> Plan:
    """Return a second plan, with another counter on the same primary whose clients give no keys."""
    names = (f"{plan.counter}-unkeyed-{number}" for number in itertools.count())
    return replace(
        plan,
        counter=next(name for name in names if slot(name) == slot(plan.counter)),
        clients=max(1, plan.clients // 4),
        out=plan.out.with_suffix(".unkeyed.jsonl"),
        repeat=Repeat.ID,
    )


def slot(counter: str) -> int:
    """Return the slot of a counter in a cluster: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/."""
    return binascii.crc_hqx(counter.encode(), 0) % 16384


def run(
    drills: Sequence[Drill], fault: Fault, *, expect_switch: bool, max_gap: float | None
) -> list[tuple[str, Result]]:
    """Count, break what holds the first counter, heal, count on, and judge; raises LookError or OSError.

    Returns the name of the stack and the result for each counter.
    """
    all_healed(drills)
    with recording(*(plan for drill in drills for plan in drill.plans)) as more:
        time.sleep(BEFORE_SECONDS)
        more(MORE)
        fault(drills[0].stack)
        all_healed(drills)
        more(MORE)
        time.sleep(AFTER_SECONDS)
    with ThreadPoolExecutor(len(drills)) as pool:
        found = pool.map(partial(judged, expect_switch=expect_switch, max_gap=max_gap), drills)
    return [(drill.stack.name, result) for drill, results in zip(drills, found, strict=True) for result in results]


def judged(drill: Drill, *, expect_switch: bool, max_gap: float | None) -> list[Result]:
    """Return the result for each counter; raises LookError."""
    results = []
    for plan in drill.plans:
        there = replace(drill.stack, counter=plan.counter)
        history = replace(load(plan.out), log=there.log())
        moved = expect_switch and plan is drill.plans[0]
        state = settled_state(there)
        results.append(check(history, state=state, expect_switch=moved, max_gap=max_gap, expect_log=True))
        there.forget_log()
    return results


def all_healed(drills: Sequence[Drill]) -> None:
    """Wait until each stack could lose any one node; raises LookError."""
    for drill in drills:
        drill.stack.healed()


def settled_state(stack: Stack) -> State:
    """Return the state of a stack that heals; raises LookError.

    The nodes are asked one by one, so their answers only belong together if no primary was replaced meanwhile.
    """
    for _ in range(STATE_ATTEMPTS):
        before = stack.epochs()
        stack.healed()
        state = stack.state()
        if stack.epochs() == before:
            return state
    raise LookError(f"primaries of {stack.name} were replaced in each of {STATE_ATTEMPTS} attempts to read them")


def undisturbed(result: Result, before: dict[str, str], after: dict[str, str]) -> Result:
    """Fail the result if a primary was replaced, or should have been: nothing had failed."""
    if before == after:
        return result
    false = Violation(6, f"an attempt was made to replace a primary: epochs {before} before, {after} after")
    return replace(result, verdict=Verdict.FAIL, violations=(*result.violations, false))


if __name__ == "__main__":
    sys.exit(main())
