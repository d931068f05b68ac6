"""A search for a schedule of faults in which a replicated set loses an acknowledged increment or counts it twice.

Nodes and Sentinels are real processes, and the store is the app's. Hypothesis chooses who is killed, stopped, emptied
and started, and in which order, within what docs/redis.md promises: one node at a time, or all at once. It tries a
fifth of ``COUNTER_SEARCH_EXAMPLES`` schedules. A failure prints the steps, and what repeats it. Without this variable,
one schedule is run that has every kind of fault, since the first ones that Hypothesis chooses have few.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from replicated import Member, Set
from support.configurations import configuration
from support.passwords import APP_PASSWORD
from support.waiting import wait_until

from counter.config import Address, Config, Topology, WriteConcern
from counter.store import open_store
from counter.store.types import IndeterminateError, UnavailableError

COUNTER = "searched"
NODES = st.integers(0, 2)
WHICH = st.integers(0, 1000)
"""Which of those that there are by then. What is drawn must not depend on what processes do."""
texts: dict[str, str] = {}


class Search(RuleBasedStateMachine):
    """The faults that the set meets while clients count."""

    @initialize(number=NODES, graceful=st.booleans(), emptied=st.booleans())
    def begin(self, number: int, *, graceful: bool, emptied: bool) -> None:
        """Start a new set, and let a node fail: in the simplest schedule, nothing else happens."""
        self.directory = Path(tempfile.mkdtemp())
        self.set = Set(self.directory, texts)
        self.set.start()
        self.set.settled()
        self.store = open_store(
            Config(
                topology=Topology.SENTINEL,
                redis_nodes=tuple(Address.parse(node.address, 6379) for node in self.set.nodes),
                sentinel_nodes=tuple(Address.parse(node.address, 26379) for node in self.set.sentinels),
                password=APP_PASSWORD,
                write_concern=WriteConcern.MAJORITY,
                replicas_per_primary=2,
                deadline=2.0,
            )
        )
        self.values: dict[str, int] = {}
        self.doubt: set[str] = set()
        self.names = 0
        self.failing: Member | None = None
        self.emptied = self.powerless = False
        self.count(3)
        self.fail(number, graceful=graceful, emptied=emptied)

    def increment(self, key: str) -> None:
        """Count, and note what came of it."""
        try:
            value = self.store.increment(COUNTER, key).value
        except IndeterminateError:
            if key not in self.values:
                self.doubt.add(key)
            return
        except UnavailableError:
            return
        assert self.values.setdefault(key, value) == value, f"{key}: {self.values[key]}, repeated {value}"
        self.doubt.discard(key)

    def answered(self, key: str) -> bool:
        self.increment(key)
        return key not in self.doubt

    def value(self) -> int:
        """Return the counter's value; 0 as long as it cannot be read."""
        with suppress(UnavailableError):
            return self.store.read(COUNTER).value
        return 0

    def increment_anew(self) -> None:
        self.names += 1
        self.increment(f"key-{self.names}")

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count until the end of the block, and a little longer."""
        stop = threading.Event()

        def count() -> None:
            while not stop.wait(0.01):
                self.increment_anew()

        with ThreadPoolExecutor() as pool:
            counts = pool.submit(count)
            try:
                time.sleep(0.2)
                yield
                time.sleep(0.2)
            finally:
                stop.set()
            counts.result()

    def up(self, members: list[Member]) -> list[Member]:
        return [one for one in members if one.process and one.process.poll() is None]

    def down(self) -> list[Member]:
        return [one for one in self.set.members if one not in self.up(self.set.members)]

    @rule(times=st.integers(1, 20))
    def count(self, times: int) -> None:
        for _ in range(times):
            self.increment_anew()

    @rule(number=WHICH)
    def repeat(self, number: int) -> None:
        """Repeat what a client has counted, or does not know whether it has."""
        if known := sorted(self.values.keys() | self.doubt):
            self.increment(known[number % len(known)])

    @rule(number=NODES, graceful=st.booleans(), emptied=st.booleans())
    def fail(self, number: int, *, graceful: bool, emptied: bool) -> None:
        """One node ends, and perhaps its disk is lost. Others may fail only when all is well again."""
        node = self.set.nodes[number]
        if self.failing not in (None, node) or node in self.down():
            return
        self.failing = node
        with self.counting():
            node.stop() if graceful else node.kill()
            if emptied and not self.powerless:
                self.emptied = True
                node.wipe()

    @rule(number=NODES)
    def lose_a_sentinel(self, number: int) -> None:
        """At most one Sentinel is away, so that a majority is left."""
        if len(self.up(self.set.sentinels)) == len(self.set.sentinels):
            self.set.sentinels[number].kill()

    @rule()
    def lose_power(self) -> None:
        """All that run are killed at once, and all disks return."""
        if self.emptied:
            return
        self.powerless = True
        with self.counting():
            for member in self.up(self.set.members):
                assert member.process
                member.process.kill()
            for member in self.set.members:
                if member.process:
                    member.process.wait(40)
            wait_until("all ports free", lambda: not any(member.listens() for member in self.set.members))

    @rule(number=WHICH)
    def start(self, number: int) -> None:
        if down := self.down():
            with self.counting():
                down[number % len(down)].start()

    @rule(seconds=st.floats(0.5, 6))
    def wait(self, seconds: float) -> None:
        with self.counting():
            time.sleep(seconds)

    @rule()
    def heal(self) -> None:
        for member in self.down():
            member.start()
        self.set.settled()
        self.failing = None
        self.emptied = self.powerless = False

    def teardown(self) -> None:
        """Heal, repeat what is in doubt, and compare."""
        if not hasattr(self, "set"):
            return
        try:
            if hasattr(self, "values"):
                self.heal()
                for key in sorted(self.doubt):
                    wait_until("an answer", partial(self.answered, key))
                for key in sorted(self.values):
                    self.increment(key)
                assert self.values, "nothing was counted"
                value = wait_until("a value", self.value)
                assert value == len(self.values), f"{len(self.values)} acknowledged, value {value}"
                assert sorted(self.values.values()) == list(range(1, value + 1))
        finally:
            self.set.kill()
            shutil.rmtree(self.directory)


def run_every_rule() -> None:
    """Run a schedule in which each rule does something."""
    search = Search()
    try:
        search.begin(number=0, graceful=False, emptied=False)
        search.wait(3)
        search.lose_a_sentinel(1)
        search.start(0)
        search.repeat(0)
        search.lose_power()
        search.heal()
        search.fail(1, graceful=True, emptied=True)
        search.count(5)
        search.start(0)
        search.fail(1, graceful=False, emptied=False)
        search.repeat(1)
    finally:
        search.teardown()


@pytest.mark.slow
@pytest.mark.fault
def test_no_schedule_of_faults_loses_or_doubles_an_increment(tmp_path_factory: pytest.TempPathFactory) -> None:
    texts.update(configuration(tmp_path_factory, "sentinel"))
    examples = os.environ.get("COUNTER_SEARCH_EXAMPLES")
    if not examples:
        run_every_rule()
        return
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Search,
        settings=settings(
            max_examples=max(1, int(examples) // 5),
            stateful_step_count=12,
            phases=[Phase.explicit, Phase.reuse, Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
