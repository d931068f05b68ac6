"""Sequences of faults with random length, overlap and order. A seed and a number repeat one."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from drill.containers import LookError
from drill.orchestrator import HELD, hold
from drill.stack import Stack

MOST_STEPS = 4
LONGEST_PAUSE = 30.0
SHORTEST, LONGEST = 1.0, 120.0
"""How long a fault lasts, in seconds. Short ones are as likely as long ones: most time-outs are between them."""
DONE = ": done"
PLACES = 5040
"""Divisible by how many hosts, stacks and nodes there may be, so that each is as likely."""


@dataclass(frozen=True, slots=True)
class Step:
    """A fault, and how many seconds after the former one it begins; it may still last then."""

    fault: str
    place: int
    """Which host, which stack, and which node or Sentinel of it: a number that all three are chosen from."""
    after: float
    seconds: float

    def __str__(self) -> str:
        """Return it as the output of a search shows it."""
        return f"{self.after:g} s later {self.fault} at place {self.place} for {self.seconds:g} s"


def draw(seed: int, number: int) -> list[Step]:
    """Return the steps of a sequence, at least one."""
    chance = random.Random(f"{seed}/{number}")  # to be repeated, not a secret
    return [
        Step(
            chance.choice(sorted(HELD)),
            chance.randrange(PLACES),
            round(chance.uniform(0, LONGEST_PAUSE), 1),
            round(SHORTEST * (LONGEST / SHORTEST) ** chance.random(), 1),
        )
        for _ in range(chance.randint(1, MOST_STEPS))
    ]


def play(stacks: Sequence[Stack], steps: list[Step], found: list[str]) -> None:
    """Begin each step in its time, and wait until all have ended; ``found`` gets what each came to.

    A step can come to nothing, since those before it may have stopped what it would break. If none came to anything,
    this raises LookError.
    """
    services = [stack.services() for stack in stacks]

    def attempt(step: Step) -> str:
        rest, host = divmod(step.place, len(stacks[0].hosts))
        rest, number = divmod(rest, len(stacks))
        stack, service = stacks[number], services[number][rest % len(services[number])]
        done = f"{step} ({stack.hosts[host].name}, {stack.name}, {service})"
        try:
            hold(stack, step.fault, stack.hosts[host], service, step.seconds)
        except LookError as error:
            return f"{done}: {error}"
        return f"{done}{DONE}"

    with ThreadPoolExecutor(len(steps)) as pool:
        begun = []
        for step in steps:
            time.sleep(step.after)
            begun.append(pool.submit(attempt, step))
        found[:] = [one.result() for one in begun]
    if not any(one.endswith(DONE) for one in found):
        raise LookError("no fault happened, so this shows nothing")
    for stack in stacks:
        stack.placed()
