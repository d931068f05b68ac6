"""The connection to one primary, and a round on it: write, wait for the replicas, verify the role."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redis.connection import Connection
from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from counter import metrics
from counter.config import Address
from counter.store.attempt import Attempt, Command, Failure, failure_of, groups_of, key_of
from counter.store.client import connection_kind, memory_of
from counter.store.keys import SITE_KEY, proof_key
from counter.store.site import objection
from counter.store.types import UnavailableError

type Locate = Callable[[float], Address]
"""Return the primary's address by the given monotonic time; raises OSError or RedisError."""
type ReasonToRefuse = Callable[[set[Address], int, float], str]
"""Return why a primary may be in the middle of being replaced; empty if it is not.

Takes the replicas that it lists, how many have confirmed the round, and the monotonic time at which to give up.
"""


log = logging.getLogger(__name__)

ATTEMPT_SECONDS = 0.1
"""No attempt begins with less time left. If it were cut off, a certain failure would become an uncertain one."""
AGED_SECONDS = 5.0
"""A failure that is older says nothing about Redis now."""
PROOF_MILLISECONDS = 1000
ALL_MILLISECONDS = 50
"""How long a round waits for the replicas that need not confirm; Redis may take up to 100 ms more to notice."""
ALL_AGAIN_SECONDS = 0.5
"""After a round that waited for them in vain, how long later rounds do not."""
LOOK_SECONDS = 10.0
"""How often a node is asked how full it is."""
NEARLY_FULL = 0.8
_REPLIES = (BusyLoadingError, AuthenticationError)
"""Error replies that redis-py raises as connection errors."""


class Link:
    """At most one connection, made when needed, closed on the first doubt. Used by one thread at a time."""

    def __init__(  # noqa: PLR0913
        self,
        locate: Locate,
        options: Mapping[str, Any],
        *,
        acks: int,
        disk: bool = True,
        reason_to_refuse: ReasonToRefuse | None = None,
        site: str = "",
    ) -> None:
        """Take how to find the primary, the connection's options and how many replicas must confirm a round.

        ``disk``: a replica confirms what is on its disk; otherwise, what it has in memory. ``suspect`` is asked about
        each round that enough replicas confirmed; with it, a round that must be confirmed waits for the others too, for
        a moment. ``site``: whose data the primary must hold; empty: anybody's.
        """
        self._locate = locate
        self._reason_to_refuse = reason_to_refuse
        self._site = site
        self._options = dict(options)
        self._acks = acks
        self._disk = disk
        self._connection: Any = None
        self._replicas: set[Address] = set()
        self._all_again = 0.0
        self._look_again = 0.0
        self.node = ""
        self.nearly_full = False
        """Whether the node had little memory left when it was asked, at most ``LOOK_SECONDS`` before the last round."""
        self._troubled_since = math.inf
        self._failed_at = -math.inf

    @property
    def troubled_seconds(self) -> float:
        """For how long every round has failed; negative if the last one did not, or was long ago."""
        now = time.monotonic()
        return now - self._troubled_since if now < self._failed_at + AGED_SECONDS else -math.inf

    def _note(self, *, trouble: bool) -> None:
        if not trouble:
            self._troubled_since = math.inf
            return
        if self.troubled_seconds < 0:
            self._troubled_since = time.monotonic()
        self._failed_at = time.monotonic()

    def commit(self, batch: Sequence[Attempt], until: float) -> None:
        """Settle ``batch`` in one round trip, as ``GroupCommit`` requires."""
        metrics.ROUND_TRIPS.inc()
        metrics.ROUND_OPERATIONS.inc(len(batch))
        try:
            self._connect(until)
            if time.monotonic() + ATTEMPT_SECONDS > until:
                raise TimeoutError("not in time for this round")  # the connection stays for the next one
        except (RedisError, OSError) as error:
            self._give_up(batch, Failure(f"no connection: {error}"))
            return
        try:
            self._round(batch, until)
        except (RedisError, OSError) as error:
            self.close()
            self._give_up(batch, Failure(f"{self.node}: {error}", uncertain=True))
        except BaseException:
            self.close()  # replies that are still to come belong to no later round
            raise

    def run(self, commands: Sequence[Command], until: float) -> list[Any]:
        """Run any commands in one round, confirmed as increments are, and return their replies.

        Raises:
            RedisError, OSError, UnavailableError: a part may have been applied.

        """
        try:
            self._connect(until)
            replies, doubt = self._exchange(commands, key_of(commands[0]), until)
            for reply in replies:
                if isinstance(reply, RedisError):
                    raise reply
            if doubt is not None:
                raise UnavailableError(doubt.reason)
        except BaseException:
            self.close()
            raise
        return replies

    def close(self) -> None:
        """Drop the connection; the next round makes another."""
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None

    def _give_up(self, batch: Sequence[Attempt], failure: Failure) -> None:
        self._note(trouble=True)
        for operation in batch:
            operation.failure = failure

    def _connect(self, until: float) -> None:
        if self._connection is not None and self._connection.is_connected:
            return
        # redis-py would reconnect to the same host, which may no longer be the primary.
        self._connection = None
        address = self._locate(until)
        self.node = str(address)
        options, kind = connection_kind(self._options)
        left = max(0.001, until - time.monotonic())
        options["socket_connect_timeout"] = min(left, options["socket_connect_timeout"])
        options["socket_timeout"] = min(left, options["socket_timeout"])
        connection = kind(host=address.host, port=address.port, **options)
        connection.connect()  # type: ignore[no-untyped-call]
        # Asked before anything is written: if the node loads, requires a password or is a replica, nothing is in doubt.
        connection.send_command("ROLE")  # type: ignore[no-untyped-call]
        role = connection.read_response(timeout=max(0.001, until - time.monotonic()))
        if role[0] != "master":
            connection.disconnect()  # type: ignore[no-untyped-call]
            raise RedisConnectionError(f"{address} is not the primary")
        if self._site and (reason := self._stranger(connection, until)):
            connection.disconnect()  # type: ignore[no-untyped-call]
            raise RedisConnectionError(f"{address} holds {reason}")
        self._replicas = _replicas(role) if self._reason_to_refuse else set()
        self._connection = connection

    def _stranger(self, connection: Connection, until: float) -> str:
        """Return why the primary holds somebody else's data, or none; empty if it holds ours.

        A primary whose volume was emptied or replaced would count from another value.
        """
        connection.send_command("GET", SITE_KEY)  # type: ignore[no-untyped-call]
        try:
            return objection(connection.read_response(timeout=max(0.001, until - time.monotonic())), self._site)
        except (AskError, ClusterDownError):
            return ""  # another primary of the cluster has the key

    def _round(self, batch: Sequence[Attempt], until: float) -> None:
        """Settle each operation by its own reply; acknowledge what a primary and enough replicas confirmed."""
        groups = groups_of(batch)
        replies, doubt = self._exchange([type(group[0]).command(group) for group in groups], batch[0].key, until)
        trouble = doubt is not None
        for group, reply in zip(groups, replies, strict=True):
            failure = doubt
            if isinstance(reply, RedisError):
                failure = failure_of(reply)
                trouble = trouble or not failure.permanent
            for operation in group:
                operation.node = self.node
            if failure is None:
                type(group[0]).settle(group, reply)
            else:
                for operation in group:
                    operation.failure = failure
        self._note(trouble=trouble)
        if trouble:
            self.close()

    def _exchange(self, commands: Sequence[Command], key: str, until: float) -> tuple[list[Any], Failure | None]:
        """Send the commands and their confirmation in one pipeline; return the replies, and why not to trust them.

        Without enough replicas, or on a node that is no longer the primary, the writes may be lost. ``key``: any key
        of the commands.
        """
        confirmation: list[Command] = []
        if self._acks:
            # Replicas confirm the last write of this connection. So each round ends with one, which proves the primary
            # for the whole round: reads and repeated increments write nothing.
            confirmation.append(("SET", proof_key(key), 1, "PX", PROOF_MILLISECONDS))
            # A third of the time is left for the replies: a slow replica must not cost the connection, and Redis looks
            # only every 100 ms whether a wait is over.
            now = time.monotonic()
            left = int((until - now) * 1000)
            if len(self._replicas) > self._acks and left > 6 * ALL_MILLISECONDS and now >= self._all_again:
                self._all_again = now + ALL_AGAIN_SECONDS  # unless all confirm
                confirmation.append(("WAIT", len(self._replicas), ALL_MILLISECONDS))
                left -= 3 * ALL_MILLISECONDS
            confirmation.append(("WAIT", self._acks, max(1, left // 2)))
            if self._disk:
                # WAIT also counts a node whose first append-only file is not written yet; WAITAOF does not. WAITAOF
                # alone takes a second: a replica answers before it has written to disk, and again a second later. After
                # WAIT, the data is on disk, and the first answer to WAITAOF says so.
                confirmation.append(("WAITAOF", 1, self._acks, max(1, left // 6)))
        confirmation.append(("ROLE",))
        look = time.monotonic() >= self._look_again
        if look:
            confirmation.append(("INFO", "memory"))
        self._connection.send_packed_command(self._connection.pack_commands([*commands, *confirmation]))
        replies = [self._reply(until) for _ in commands]
        answers = [self._reply(until) for _ in confirmation]
        if look:
            self._note_memory(answers.pop())
        return replies, self._doubt(answers, until)

    def _note_memory(self, reply: Any) -> None:
        """Record how full the node is, and warn while it is nearly full. A full node refuses increments."""
        self._look_again = time.monotonic() + LOOK_SECONDS
        if not isinstance(reply, str):
            return  # an external Redis may refuse to say
        facts = dict(line.split(":", 1) for line in reply.splitlines() if ":" in line)
        used, limit = memory_of(facts) or (0, 0)
        metrics.MEMORY_USED.labels(self.node).set(used)
        metrics.MEMORY_LIMIT.labels(self.node).set(limit)
        self.nearly_full = bool(limit) and used > NEARLY_FULL * limit
        if self.nearly_full:
            log.warning("Redis is nearly full", extra={"node": self.node, "used": used, "limit": limit})

    def _doubt(self, replies: Sequence[Any], until: float) -> Failure | None:
        """Return why the writes of a round are not to be trusted, if they are not."""
        for reply in replies:
            if isinstance(reply, RedisError):
                return Failure(f"{self.node}: {reply}", uncertain=True)
        *confirmed, role = replies
        if role[0] != "master":
            return Failure(f"{self.node} is no longer the primary", uncertain=True)
        if self._acks:
            own, have = confirmed[-1] if self._disk else (1, confirmed[-1])
            if not own:
                return Failure(f"{self.node} itself has not written to its disk", uncertain=True)
            if have < self._acks:
                return Failure(f"{have} of {self._acks} replicas of {self.node} confirmed", uncertain=True)
        if self._reason_to_refuse:
            self._replicas = _replicas(role)
            reached = (0, *(one for one in confirmed if isinstance(one, int)))[-1]  # by the last WAIT, if there is one
            if reached >= len(self._replicas):
                self._all_again = 0.0
            if reason := self._reason_to_refuse(self._replicas, reached, until):
                return Failure(reason, uncertain=True)
        return None

    def _reply(self, until: float) -> Any:
        """Return one reply; an error reply is returned, a broken connection raised."""
        try:
            return self._connection.read_response(
                timeout=max(0.001, until - time.monotonic()), disconnect_on_error=False
            )
        except (ResponseError, *_REPLIES) as error:
            return error


def _replicas(role: Sequence[Any]) -> set[Address]:
    """Read a primary's reply to ROLE. A follower without a port, like the log of the backups, never confirms."""
    return {Address(str(host), int(port)) for host, port, _ in role[2] if int(port)}
