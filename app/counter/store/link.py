"""The connection to one primary, and a round on it: write, wait for the replicas, verify the role."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redis.connection import Connection, SSLConnection
from redis.exceptions import RedisError, ResponseError

from counter import metrics
from counter.config import Address
from counter.store.operation import Command, Failure, Operation, failure_of, groups_of
from counter.store.types import UnavailableError

type Locate = Callable[[float], Address]
"""Return the primary's address until the given monotonic time; raises OSError or RedisError."""


class Link:
    """At most one connection, made when needed, closed on the first doubt. Used by one thread at a time."""

    def __init__(self, locate: Locate, options: Mapping[str, Any], *, acks: int) -> None:
        """Take how to find the primary, the connection's options and how many replicas must confirm a round."""
        self._locate = locate
        self._options = dict(options)
        self._acks = acks
        self._connection: Any = None
        self.node = ""
        self.troubled = False

    def commit(self, batch: Sequence[Operation], until: float) -> None:
        """Settle ``batch`` in one round trip, as ``GroupCommit`` wants it."""
        metrics.ROUND_TRIPS.inc()
        metrics.ROUND_OPERATIONS.inc(len(batch))
        try:
            self._connect(until)
        except (RedisError, OSError) as error:
            self._give_up(batch, Failure(f"no connection: {error}"))
            return
        try:
            self._round(batch, until)
        except (RedisError, OSError) as error:
            self._give_up(batch, Failure(f"{self.node}: {error}", uncertain=True))

    def run(self, commands: Sequence[Command], until: float) -> list[Any]:
        """Run any commands in one round, confirmed as increments are, and return their replies.

        Raises:
            RedisError, OSError, UnavailableError: a part may have been applied.

        """
        try:
            self._connect(until)
            replies, doubt = self._exchange(commands, until)
            for reply in replies:
                if isinstance(reply, ResponseError):
                    raise reply
            if doubt is not None:
                raise UnavailableError(doubt.reason)
        except (RedisError, OSError, UnavailableError):
            self.close()
            raise
        return replies

    def close(self) -> None:
        """Drop the connection; the next round makes another."""
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None

    def _give_up(self, batch: Sequence[Operation], failure: Failure) -> None:
        self.close()
        self.troubled = True
        for operation in batch:
            operation.failure = failure

    def _connect(self, until: float) -> None:
        if self._connection is not None:
            return
        address = self._locate(until)
        self.node = str(address)
        options = dict(self._options)
        kind = SSLConnection if options.pop("ssl", False) else Connection
        left = max(0.001, until - time.monotonic())
        options["socket_connect_timeout"] = min(left, options["socket_connect_timeout"])
        options["socket_timeout"] = min(left, options["socket_timeout"])
        connection = kind(host=address.host, port=address.port, **options)
        connection.connect()  # type: ignore[no-untyped-call]
        self._connection = connection

    def _round(self, batch: Sequence[Operation], until: float) -> None:
        """Settle each operation by its own reply; acknowledge only what enough replicas hold and a primary says."""
        groups = groups_of(batch)
        replies, doubt = self._exchange([type(group[0]).command(group) for group in groups], until)
        trouble = doubt is not None
        for group, reply in zip(groups, replies, strict=True):
            failure = doubt
            if isinstance(reply, ResponseError):
                failure = failure_of(reply)
                trouble = trouble or not failure.permanent
            for operation in group:
                operation.node = self.node
            if failure is None:
                type(group[0]).settle(group, reply)
            else:
                for operation in group:
                    operation.failure = failure
        self.troubled = trouble
        if trouble:
            self.close()

    def _exchange(self, commands: Sequence[Command], until: float) -> tuple[list[Any], Failure | None]:
        """Send the commands, WAIT and ROLE in one pipeline; return the replies, and why they are not to be trusted.

        Without enough replicas, or from a node that is no primary any more, what was written may vanish.
        """
        pipeline = list(commands)
        if self._acks:
            # A fifth of the time is left for the replies: a slow replica shall not cost the connection.
            pipeline.append(("WAIT", self._acks, max(1, int((until - time.monotonic()) * 800))))
        pipeline.append(("ROLE",))
        self._connection.send_packed_command(self._connection.pack_commands(pipeline))
        replies = [self._reply(until) for _ in commands]
        waited = self._reply(until) if self._acks else 0
        return replies, self._doubt(waited, self._reply(until))

    def _doubt(self, waited: Any, role: Any) -> Failure | None:
        """Return why the writes of a round are not to be trusted, if they are not."""
        for reply in (waited, role):
            if isinstance(reply, ResponseError):
                return Failure(f"{self.node}: {reply}", uncertain=True)
        if role[0] != "master":
            return Failure(f"{self.node} is no primary any more", uncertain=True)
        if waited < self._acks:
            return Failure(f"{waited} of {self._acks} replicas of {self.node} confirmed", uncertain=True)
        return None

    def _reply(self, until: float) -> Any:
        """Return one reply; an error reply is returned, a broken connection raised."""
        try:
            return self._connection.read_response(timeout=max(0.001, until - time.monotonic()))
        except ResponseError as error:
            return error
