"""Locust plugin: sends at a fixed rate, regardless of response times (phases L and C).

Locust's own ``constant_throughput`` measures from the moment of sending, so a stalled server also stalls the clock
(coordinated omission). Here each user follows a fixed schedule: after a late answer, the overdue request is sent at once.
Its intended time is passed in Locust's request context, and the recorder measures from that time.
"""

import random
import time
from typing import Any

from locust import events


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    """Add the option that turns pacing on."""
    parser.add_argument("--pace", type=float, default=0.0, env_var="BENCH_PACE", help="Seconds between a user's requests; 0 = as fast as answers come")


@events.test_start.add_listener
def pace(environment: Any, **_: Any) -> None:
    """Put every user class on the schedule if a pace is set; at this point, workers have received the master's options."""
    interval = environment.parsed_options.pace
    if not interval:
        return
    for user_class in environment.user_classes:
        user_class.wait_time = lambda user: wait_for_turn(user, interval)
        user_class.context = take_intended_time


def wait_for_turn(user: Any, interval: float) -> float:
    """Seconds until this user's next turn, one ``interval`` (s) after the last turn; 0 if that time has passed.

    The first turn is at a random time within one interval, so that the users' requests are not synchronised.
    """
    now = time.time()
    turn = getattr(user, "turn", None)
    user.turn = now + random.random() * interval if turn is None else turn + interval
    user.intended = user.turn
    return float(max(0.0, user.turn - now))


def take_intended_time(user: Any) -> dict[str, float]:
    """Context of a request: ``{"intended": epoch seconds}`` for the first request of a turn, empty for further requests."""
    intended = getattr(user, "intended", None)
    user.intended = None
    return {} if intended is None else {"intended": intended}
