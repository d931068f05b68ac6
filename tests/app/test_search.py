"""A search for a history in which an acknowledged increment is lost or counted twice, or a request does not end.

Group commit and store are the real ones, and so are two Redis nodes. Between them and the store a script loses and
delays requests and replies, the replica takes over, also after its link to the primary was cut while a backup's service
followed the primary, clocks are wrong, and a host that was away for long starts a second container of the primary while
the first one still runs. ``COUNTER_SEARCH_EXAMPLES`` sets how many histories are tried;
without it, the same 10 in each run. A failure prints the steps, and what repeats it.

A clock that is ahead is one by which keys expire earlier: Redis compares the moment at which a key expires with its
clock. (libfaketime cannot give a real server another clock: with Debian's jemalloc, it does not start.)
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from flaky import LATE_SECONDS, Fate, FlakyProxy
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from replicated import held
from support.ports import free_port
from support.processes import RedisServer, running
from support.waiting import wait_until

from backup.segments import Segments
from backup.stream import Stream
from counter.config import CLOCK_SKEW_SECONDS, Address, Config
from counter.store.attempt import Failure
from counter.store.client import connection_options
from counter.store.link import Link
from counter.store.store import PrimaryQueue, Store
from counter.store.types import Description, IndeterminateError, UnavailableError

DEADLINE = 1.0
PATIENCE = 20.0
"""How much longer than its deadline a request may take on a busy machine before it counts as stuck."""
CONFIG = Config(deadline=DEADLINE, threads=32)
WINDOW = CONFIG.key_seconds - LATE_SECONDS - 4.0
"""How long ids are repeated here. A request may then arrive in Redis later than its deadline."""
ON_DISK = ("appendonly yes", "appendfsync always", "repl-diskless-sync-delay 0", "repl-timeout 3600")
HURRY = """
for _, key in ipairs(redis.call('KEYS', '*')) do
  local left = redis.call('PTTL', key)
  if left >= 0 then redis.call('PEXPIRE', key, math.max(0, left - ARGV[1])) end
end
"""
"""Let the keys of a node expire so many milliseconds earlier, as by a clock that is ahead."""


def container(volume: Path) -> RedisServer:
    """Return a server on a volume, as a container of its image runs it."""
    volume.mkdir(exist_ok=True)
    server = RedisServer(volume.parent, *ON_DISK, f"dir {volume}")
    server.command = [*held(volume), *server.command]
    return server


class Nodes:
    """Two Redis nodes, of which one is the primary, each behind a proxy that loses things."""

    def __init__(self, directory: Path) -> None:
        """Prepare the servers: two containers of each node, of which usually one runs, on one volume."""
        self.servers, self.others = ([container(directory / f"volume-{node}") for node in range(2)] for _ in range(2))
        self.proxies: list[FlakyProxy] = []
        self.primary = 0

    def up(self) -> None:
        for server in self.servers:
            server.up()
        self.proxies = [FlakyProxy(server.port) for server in self.servers]

    def begin(self) -> None:
        """Make the first the primary, with nothing in it."""
        for server in self.servers:
            server.client().replicaof("NO", "ONE")
            server.client().flushall()
        self.primary = 0
        self.heal()

    def heal(self) -> None:
        """Let the other follow the primary, and wait until it has everything on its disk."""
        leader, follower = self.servers[self.primary], self.servers[1 - self.primary]
        follower.client().replicaof("127.0.0.1", leader.port)

        def follows() -> bool:
            pipeline = leader.client().pipeline(transaction=False)
            pipeline.set("{.heal}:value", 1, px=1000)
            pipeline.execute_command("WAIT", 1, 1000)
            pipeline.execute_command("WAITAOF", 0, 1, 1000)
            return bool(pipeline.execute()[-1][1] == 1)

        wait_until("the replica", follows)

    def fail_over(self, ahead: float) -> None:
        """Make the other the primary, by a clock that is ahead. The former keeps serving its connections."""
        new = self.servers[1 - self.primary].client()
        new.replicaof("NO", "ONE")
        new.eval(HURRY, 0, int(ahead * 1000))
        self.primary = 1 - self.primary

    @contextmanager
    def overlap(self) -> Iterator[None]:
        """Start another container of the primary; the first one ends after the block, and the second one goes on.

        So does the engine of a host that the managers did not reach for 15 s, and counted as down.
        """
        old, new = self.servers[self.primary], self.others[self.primary]
        new.log.unlink(missing_ok=True)
        new.start()
        wait_until("the new one", lambda: "waits" in new.log.read_text() or new.client().ping())
        yield
        old.signal(signal.SIGTERM)
        old.wait(60)
        wait_until("the new one to run", lambda: new.client().ping())
        self.servers[self.primary], self.others[self.primary] = new, old
        self.proxies[self.primary].target = new.port
        self.heal()

    @contextmanager
    def cut_off(self) -> Iterator[None]:
        """Cut the replica off from the primary, which the backups' service follows meanwhile."""
        leader, follower = self.servers[self.primary], self.servers[1 - self.primary]
        follower.client().replicaof("127.0.0.1", free_port())
        with (
            TemporaryDirectory() as files,
            closing(Stream("default", "", None, Segments(Path(files), "log"))) as stream,
        ):
            stream.follow(Address("127.0.0.1", leader.port), None)
            # Once it has answered for the first time, Redis asks it whether it has what is to be confirmed.
            wait_until("its answer", lambda: leader.client().info("replication")["slave0"]["state"] == "online")
            yield

    def wait(self, seconds: float) -> None:
        """Let time pass for what Redis remembers."""
        self.servers[self.primary].client().eval(HURRY, 0, int(seconds * 1000))

    def settle(self) -> None:
        for proxy in self.proxies:
            proxy.follow([])
        for proxy in self.proxies:
            proxy.quiet()


class Route:
    """The way to whatever node is the primary, for one process of the application."""

    promise, warning, recognises_ids = "", None, True

    def __init__(self, nodes: Nodes) -> None:
        """Take the nodes."""
        link = Link(
            lambda _: Address("127.0.0.1", nodes.proxies[nodes.primary].port), connection_options(CONFIG), acks=1
        )
        self._queue = PrimaryQueue(link)

    def queue(self, key: str) -> PrimaryQueue:
        del key
        return self._queue

    def samples(self) -> list[str]:
        return []

    def failed(self, failure: Failure) -> None:
        del failure

    def describe(self) -> Description:
        return Description(())


WHICH = st.integers(0, 1000)
"""Which of those that there are by then. What is drawn must not depend on what the servers do."""
FATES = st.lists(st.sampled_from([*Fate, Fate.PASS, Fate.PASS]), max_size=6)
SKEWS = st.floats(0, CLOCK_SKEW_SECONDS)
nodes: Nodes


class Search(RuleBasedStateMachine):
    """What clients do, the faults, and what they may then see."""

    @initialize()
    def begin(self) -> None:
        nodes.begin()
        self.stores = [Store(Route(nodes), CONFIG) for _ in range(2)]
        self.values: dict[str, int] = {}
        self.doubt: dict[str, float] = {}
        self.ages: dict[str, float] = {}
        self.skipped = 0.0
        self.attempted = 0
        self.ahead = 0.0
        self.whole, self.overlapped, self.was_cut_off = True, False, False
        self.names = 0
        self.mutex = threading.Lock()

    @property
    def now(self) -> float:
        """The time for what Redis remembers: it is moved on by ``wait``, and passes by itself."""
        return time.monotonic() + self.skipped

    def increment(self, store: Store, key: str | None) -> None:
        """Count, and note what came of it."""
        begun, name = self.now, key
        try:
            value = store.increment("a", key).value
        except IndeterminateError as error:
            name, value = error.operation_id, None
            with self.mutex:
                self.ages.setdefault(name, begun)
                if name not in self.values:
                    self.doubt[name] = begun
        except UnavailableError:
            value = None
        assert self.now - begun < DEADLINE + PATIENCE, "a request did not end"
        if value is None:
            return
        with self.mutex:
            name = name or f"without a key, {value}"
            assert self.values.setdefault(name, value) == value, f"{name}: {self.values[name]}, repeated {value}"
            self.ages.setdefault(name, begun)
            self.doubt.pop(name, None)

    def settle(self, name: str) -> None:
        """Repeat what is in doubt until the answer is there, or until it is too late to repeat it."""

        def settled() -> bool:
            if any(self.remembered([name])):
                self.increment(self.stores[0], name)
            return name in self.values or not any(self.remembered([name]))

        wait_until("an answer", settled)

    def concurrently(self, calls: list[Callable[[], None]]) -> None:
        with ThreadPoolExecutor(5) as pool:
            for call in [pool.submit(call) for call in calls]:
                call.result()

    @rule(script=FATES, count=st.integers(1, 5), keyed=st.booleans(), same=st.booleans())
    def count(self, script: list[Fate], count: int, *, keyed: bool, same: bool) -> None:
        """Several clients count at both processes, perhaps with the same key."""
        nodes.proxies[nodes.primary].follow(script)
        calls: list[Callable[[], None]] = []
        for number in range(count):
            self.names += not (same and number)
            key = f"key-{self.names}" if keyed else None
            self.attempted += 1
            store = self.stores[number % 2]
            calls.append(partial(self.increment, store, key))
        self.concurrently(calls)

    @rule(script=FATES, numbers=st.lists(WHICH, min_size=1, max_size=3))
    def repeat(self, script: list[Fate], numbers: list[int]) -> None:
        """Clients repeat what they have counted, or do not know whether they have."""
        known = sorted(self.remembered())
        names = [known[number % len(known)] for number in numbers if known]
        nodes.proxies[nodes.primary].follow(script)
        self.concurrently([partial(self.increment, self.stores[number % 2], name) for number, name in enumerate(names)])

    def remembered(self, among: Collection[str] | None = None) -> Iterator[str]:
        """Return the ids that may be repeated, all of them or those among some."""
        return (
            name
            for name in list(self.ages if among is None else among)
            if not name.startswith("without") and self.now - self.ages[name] < WINDOW
        )

    @rule(script=FATES)
    def read(self, script: list[Fate]) -> None:
        nodes.proxies[nodes.primary].follow(script)
        least = len(self.values)
        try:
            value = self.stores[0].read("a").value
        except UnavailableError:
            return
        assert least <= value <= self.attempted

    @rule(ahead=SKEWS)
    def fail_over(self, ahead: float) -> None:
        """Let the replica take over. Its clock, with all that were ahead before it, is within what is allowed."""
        if not self.whole:
            return
        ahead = max(0.0, min(ahead, CLOCK_SKEW_SECONDS - self.ahead))
        self.ahead += ahead
        nodes.fail_over(ahead)
        self.whole = False

    @rule(script=FATES, count=st.integers(1, 5), keyed=st.booleans())
    def overlap(self, script: list[Fate], count: int, *, keyed: bool) -> None:
        """Two containers of the primary run at once, and clients count at the first one. Once: it takes two seconds."""
        if not self.whole or self.overlapped:
            return
        self.overlapped = True
        nodes.settle()
        with nodes.overlap():
            self.count(script, count, keyed=keyed, same=False)
            nodes.settle()

    @rule(count=st.integers(1, 5), keyed=st.booleans(), ahead=SKEWS)
    def cut_off(self, count: int, ahead: float, *, keyed: bool) -> None:
        """Clients count while the replica is cut off. Then it takes over. Once: each request waits for its deadline."""
        if not self.whole or self.was_cut_off:
            return
        self.was_cut_off = True
        nodes.settle()
        with nodes.cut_off():
            self.count([], count, keyed=keyed, same=False)
        self.fail_over(ahead)

    @rule()
    def heal(self) -> None:
        nodes.settle()
        nodes.heal()
        self.whole = True

    @rule(seconds=st.floats(1, CONFIG.key_seconds / 2))
    def wait(self, seconds: float) -> None:
        if not self.whole:
            return
        nodes.settle()
        self.skipped += seconds
        nodes.wait(seconds)

    @rule(ahead=st.sampled_from([0.0, CLOCK_SKEW_SECONDS]))
    def wait_for_the_end_of_the_window(self, ahead: float) -> None:
        """Repeat what is in doubt in the last moment, when the replica has taken over by a clock that is ahead."""
        self.heal()
        left = [WINDOW - self.now + self.ages[name] for name in self.remembered(self.doubt)]
        if not left:
            return
        self.wait(max(0.0, min(left) - 1))
        self.fail_over(ahead)
        self.heal()
        for name in list(self.remembered(self.doubt)):
            self.settle(name)

    @invariant()
    def no_value_is_given_twice(self) -> None:
        values = list(getattr(self, "values", {}).values())
        assert len(set(values)) == len(values)

    def teardown(self) -> None:
        """Heal, repeat what is in doubt, and compare: each acknowledged increment is there, and counted once."""
        if not hasattr(self, "values"):
            return
        self.heal()
        for name in list(self.doubt):
            self.settle(name)
        forgotten = len(self.doubt)
        value = int(nodes.servers[nodes.primary].client().get("{a}:value") or 0)
        assert len(self.values) <= value <= len(self.values) + forgotten, f"{len(self.values)} counted, value {value}"


@pytest.mark.fault
def test_no_history_loses_or_doubles_an_increment(monkeypatch: pytest.MonkeyPatch) -> None:
    global nodes  # noqa: PLW0603
    examples = int(os.environ.get("COUNTER_SEARCH_EXAMPLES", "10"))
    monkeypatch.setattr(RedisServer, "lifetime", 600 + 20 * examples)
    with TemporaryDirectory() as directory, ExitStack() as stack:
        nodes = Nodes(Path(directory))
        stack.enter_context(running(*nodes.servers, *nodes.others))
        nodes.up()
        for proxy in nodes.proxies:
            stack.callback(proxy.close)
        run_state_machine_as_test(  # type: ignore[no-untyped-call]
            Search,
            settings=settings(
                max_examples=examples,
                stateful_step_count=12,
                phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
                suppress_health_check=list(HealthCheck),
            ),
        )
