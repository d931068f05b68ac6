"""The queue and its leader: each caller gets its own result, none is stuck, none waits for more than two rounds."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.processes import RedisServer
from support.waiting import wait_until

from counter.config import Config
from counter.store.attempt import Attempt, Failure
from counter.store.group_commit import GroupCommit
from counter.store.ids import IdRetention
from counter.store.operations import Increment
from counter.store.standalone import StandaloneRoute


def operation(identifier: str = "", seconds: float = 10.0) -> Increment:
    return Increment("a", identifier, IdRetention(1000), time.monotonic() + seconds)


class Log:
    """Commits by numbering; remembers the batches, and can be told to hold a round or to fail."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.held = False
        self.passes = threading.Semaphore(0)
        self.entered = threading.Event()
        self.error: BaseException | None = None
        self.active = 0

    def let_go(self) -> None:
        """Hold no round any more."""
        self.held = False
        self.passes.release(1000)

    def commit(self, batch: Sequence[Any], until: float) -> None:
        del until
        self.active += 1
        assert self.active == 1, "two rounds at once"
        self.entered.set()
        self.batches.append([one.identifier for one in batch])
        if self.held:
            self.passes.acquire(timeout=20)
        self.active -= 1
        if self.error:
            raise self.error
        time.sleep(0.001)  # a round trip, so that the others queue up
        for one in batch:
            one.value = one.identifier


def test_each_caller_gets_its_own_result_and_rounds_are_shared() -> None:
    log = Log()
    group = GroupCommit(log.commit)

    def one(number: int) -> tuple[str, object]:
        mine = operation(str(number))
        group.submit(mine)
        return mine.identifier, mine.value

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(one, range(2000)))
    assert all(identifier == value for identifier, value in results)
    assert sorted(int(number) for batch in log.batches for number in batch) == list(range(2000))
    assert len(log.batches) < 1000


def test_no_caller_waits_longer_than_the_round_under_way_and_the_next() -> None:
    log = Log()
    log.held = True
    group = GroupCommit(log.commit)
    with ThreadPoolExecutor(17) as pool:
        pool.submit(group.submit, operation("leader"))
        assert log.entered.wait(60)
        for number in range(16):
            pool.submit(group.submit, operation(str(number), 120))
        wait_until("all to be queued", lambda: len(group._queue) == 16)  # noqa: SLF001
        log.let_go()
    assert [sorted(batch) for batch in log.batches] == [["leader"], sorted(map(str, range(16)))]


@pytest.mark.parametrize("error", [RuntimeError("a bug"), SystemExit(1)])
def test_a_failing_leader_leaves_nobody_behind(error: BaseException) -> None:
    log = Log()
    group = GroupCommit(log.commit)
    log.error = error
    log.held = True
    operations = [operation(str(number), 120) for number in range(8)]

    def submit(mine: Attempt) -> None:
        with contextlib.suppress(SystemExit):
            group.submit(mine)

    threads = [threading.Thread(target=submit, args=[mine]) for mine in operations]
    for thread in threads:
        thread.start()
    assert log.entered.wait(60)
    log.let_go()
    for thread in threads:
        thread.join(60)  # before any deadline
        assert not thread.is_alive()
    assert all(mine.failure and mine.failure.uncertain for mine in operations)
    log.error = None
    afterwards = operation("afterwards")
    group.submit(afterwards)
    assert afterwards.value == "afterwards"


def test_a_deadline_ends_the_wait_of_the_queued_and_of_the_taken() -> None:
    log = Log()
    group = GroupCommit(log.commit)
    log.held = True
    leader = threading.Thread(target=group.submit, args=[operation("leader")])
    leader.start()
    assert log.entered.wait(60)
    queued = operation("queued", 0.1)
    group.submit(queued)
    assert queued.failure
    assert not queued.failure.uncertain  # it was never sent
    patient = operation("patient", 10)
    successor = threading.Thread(target=group.submit, args=[patient])
    successor.start()
    log.let_go()
    leader.join(60)
    successor.join(60)
    assert patient.value == "patient"
    assert ["queued"] not in log.batches

    log = Log()
    group = GroupCommit(log.commit)
    log.held = True
    leader = threading.Thread(target=group.submit, args=[operation("leader")])
    leader.start()
    assert log.entered.wait(60)
    log.entered.clear()
    taken, second = operation("taken", 4.0), operation("second leader", 10)
    threads = [threading.Thread(target=group.submit, args=[one]) for one in (taken, second)]
    for thread in threads:
        thread.start()
    wait_until("both to be queued", lambda: len(group._queue) == 2)  # noqa: SLF001
    log.passes.release()
    leader.join(60)
    assert log.entered.wait(60)
    threads[0].join(60)
    assert taken.failure
    assert taken.failure.uncertain  # it is under way
    log.let_go()
    threads[1].join(60)
    assert second.value == "second leader"


def test_a_reply_after_the_deadline_does_not_take_the_failure_back(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = StandaloneRoute(Config.from_env({"COUNTER_REDIS_NODES": redis_server.address})).queue("").link
    begun, queued = threading.Event(), threading.Event()
    told: list[Failure | None] = []

    def commit(batch: Sequence[Attempt], until: float) -> None:
        begun.set()
        assert queued.wait(60)
        if taken in batch:
            threads[1].join(60)  # the waiting caller gives up before the replies are in
        link.commit(batch, until + 5)

    def looked_at(group: Sequence[Increment], reply: object) -> None:
        if taken in group:
            told.append(taken.failure)  # as a caller that gave up finds it while the reply is handed out
        settle(group, reply)

    settle = Increment.settle
    monkeypatch.setattr(Increment, "settle", looked_at)
    group = GroupCommit(commit)
    taken = operation("taken", 4.0)
    threads = [
        threading.Thread(target=group.submit, args=[one]) for one in (operation("first"), taken, operation("next"))
    ]
    threads[0].start()
    assert begun.wait(60)
    for thread in threads[1:]:
        thread.start()
    wait_until("both to be queued", lambda: len(group._queue) == 2)  # noqa: SLF001
    queued.set()
    for thread in threads:
        thread.join(60)
    assert told == [taken.failure]
    assert taken.failure
    assert taken.failure.uncertain
    repeated = operation("taken")
    group.submit(repeated)
    assert repeated.value == taken.value  # it did count, once
    assert redis_server.client().get("{a}:value") == "3"
