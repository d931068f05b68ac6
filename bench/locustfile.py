"""The users of the benchmark: each opens the page, increments a counter and reads it.

You can replace this file by your own (``bench_locustfile``). Any Locust file works, since recording and pacing are separate
plugins. Name a request ``increment`` if it adds one to ``--counter``, and ``page`` if it counts a visit: the ledger compares
these two with the counters. Requests with other names are measured, but are not part of the ledger.
"""

from typing import Any

from locust import FastHttpUser, constant, events, task

WEIGHTS = {"page": 1, "increment": 3, "read": 1}


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    """Add the options for the counter's name and the share of each action."""
    parser.add_argument("--counter", default="bench", env_var="BENCH_COUNTER", help="Counter to increment and read")
    for action, weight in WEIGHTS.items():
        parser.add_argument(f"--weight-{action}", type=int, default=weight, env_var=f"BENCH_WEIGHT_{action.upper()}", help=f"Relative share of '{action}'")


@events.test_start.add_listener
def apply_weights(environment: Any, **_: Any) -> None:
    """Give each action its share of the mix; at this point, workers have received the master's options."""
    options = environment.parsed_options
    Visitor.tasks = [getattr(Visitor, action) for action in WEIGHTS for _ in range(getattr(options, f"weight_{action}"))]


class Visitor(FastHttpUser):
    """Uses one keep-alive connection, as a browser does, and sends the next request as soon as the last is answered."""

    wait_time = constant(0)
    connection_timeout = 10.0
    network_timeout = 10.0

    def on_start(self) -> None:
        """Build the path once instead of for each request."""
        self.counter = f"/api/counters/{self.environment.parsed_options.counter}"

    @task(WEIGHTS["page"])
    def page(self) -> None:
        """Open the page; it counts a visit."""
        self.client.get("/", name="page")

    @task(WEIGHTS["increment"])
    def increment(self) -> None:
        """Add one to the counter."""
        self.client.post(f"{self.counter}/increment", name="increment")

    @task(WEIGHTS["read"])
    def read(self) -> None:
        """Read the counter."""
        self.client.get(self.counter, name="read")
