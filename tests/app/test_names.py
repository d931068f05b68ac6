"""Connections go to the last addresses of a name that the name service does not know at the moment."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from support.processes import RedisServer
from support.waiting import SLOWNESS, wait_until

from counter.config import Address, Config
from counter.store import names, open_store
from counter.store.client import client
from counter.store.types import UnavailableError

type Lookup = Callable[..., Any]


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Return the name service: name -> addresses, or what happens when it is asked."""
    known: dict[str, Any] = {}
    real = socket.getaddrinfo

    def lookup(name: str, *rest: Any, **options: Any) -> Any:
        match known.get(name, [] if name == "redis-1" else [name]):
            case []:
                raise socket.gaierror(-2, "Name or service not known")
            case threading.Event() as event:
                event.wait()
                return []
            case addresses:
                return [found for address in addresses for found in real(address, *rest, **options)]

    monkeypatch.setattr(names, "_names", names.Names())
    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    yield known
    for event in known.values():
        if isinstance(event, threading.Event):
            event.set()


def test_a_name_that_is_gone_keeps_its_address(service: dict[str, Any], redis_server: RedisServer) -> None:
    there = Address("redis-1", redis_server.port)
    with pytest.raises(RedisConnectionError, match="not known"):
        client(there, {}).ping()
    service["redis-1"] = ["127.0.0.1"]
    assert client(there, {}).ping()
    del service["redis-1"]
    assert client(there, {}).ping()
    service["redis-1"] = ["127.0.0.2", "127.0.0.3"]  # it has others now: Redis listens at the first one only
    with pytest.raises(RedisConnectionError, match="redis-1"):  # named, not its address
        client(there, {}).ping()
    service["redis-1"] = ["127.0.0.2", "127.0.0.1"]  # two containers of one service: one may be starting
    assert client(there, {}).ping()


def test_a_name_service_that_hangs_delays_nobody(service: dict[str, Any], redis_server: RedisServer) -> None:
    there = Address("redis-1", redis_server.port)
    service["redis-1"] = ["127.0.0.1"]
    assert client(there, {}).ping()
    service["redis-1"] = threading.Event()
    before, threads = time.monotonic(), threading.active_count()
    for _ in range(5):
        assert client(there, {}).ping()
    assert time.monotonic() - before < 5 * names.LOOKUP_SECONDS + 2 * SLOWNESS
    assert threading.active_count() <= threads + 1  # one lookup waits, whoever asks


def test_the_first_lookup_of_a_name_does_not_outlast_the_deadline(
    service: dict[str, Any], redis_server: RedisServer
) -> None:
    service["redis-1"] = hangs = threading.Event()
    environ = {"COUNTER_REDIS_NODES": f"redis-1:{redis_server.port}", "COUNTER_DEADLINE_SECONDS": "1"}
    store = open_store(Config.from_env(environ))
    # As in a process that has counted: nothing in the background looks the name up.
    store._without_hashes._until = store._without_secrets._until = 0.0  # noqa: SLF001
    before = time.monotonic()
    with pytest.raises(UnavailableError):
        store.increment("a")
    assert time.monotonic() - before < 3 * SLOWNESS
    # The lookup goes on, and the next attempt has its answer.
    service["redis-1"] = ["127.0.0.1"]
    hangs.set()
    wait_until("the name to be known", lambda: client(Address("redis-1", redis_server.port), {}).ping())
    assert store.increment("a").value == 1
