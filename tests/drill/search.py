"""Sequences of faults with random length, overlap and order. A seed and a number repeat one."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from drill.containers import Host, LookError
from drill.orchestrator import HELD, hold
from drill.stack import Stack

MOST_STEPS = 4
LONGEST_PAUSE = 30.0
SHORTEST, LONGEST = 1.0, 120.0
"""How long a fault lasts, in seconds. Short ones are as likely as long ones: most time-outs are between them."""


@dataclass(frozen=True, slots=True)
class Step:
    """A fault, and how many seconds after the former one it begins; it may still last then."""

    fault: str
    place: int
    """Which host, or which node or Sentinel: a number that is taken modulo how many there are."""
    after: float
    seconds: float

    def __str__(self) -> str:
        """Return it as the output of a search shows it."""
        return f"{self.after:g} s later {self.fault} at {self.place} for {self.seconds:g} s"


def draw(seed: int, number: int) -> list[Step]:
    """Return the steps of a sequence, at least one."""
    chance = random.Random(f"{seed}/{number}")  # to be repeated, not a secret
    return [
        Step(
            chance.choice(sorted(HELD)),
            chance.randrange(60),
            round(chance.uniform(0, LONGEST_PAUSE), 1),
            round(SHORTEST * (LONGEST / SHORTEST) ** chance.random(), 1),
        )
        for _ in range(chance.randint(1, MOST_STEPS))
    ]


def play(stack: Stack, steps: list[Step], found: list[str]) -> None:
    """Begin each step in its time, and wait until all have ended; ``found`` gets what each came to.

    A step can come to nothing, since those before it may have stopped what it would break.
    """
    services = sorted({container.service for container in stack.redis()})

    def attempt(step: Step) -> str:
        host: Host = stack.hosts[step.place % len(stack.hosts)]
        try:
            hold(stack, step.fault, host, services[step.place % len(services)], step.seconds)
        except LookError as error:
            return f"{step}: {error}"
        return f"{step}: done"

    with ThreadPoolExecutor(len(steps)) as pool:
        begun = []
        for step in steps:
            time.sleep(step.after)
            begun.append(pool.submit(attempt, step))
        found[:] = [one.result() for one in begun]
    stack.placed()
