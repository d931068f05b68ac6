"""A replicated set of real processes on loopback: the program in ``redis_node``, with the rendered configurations."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry
from support.ansible import ROOT
from support.configurations import DOWN_MILLISECONDS
from support.passwords import APP_PASSWORD, BACKUP_PASSWORD, INTERNAL_PASSWORD, logins, rotated
from support.ports import free_port, listens
from support.waiting import wait_until

from redis_node.quorum import PRIMARY_NAME

PATIENCE_SECONDS = 120.0
"""How long a set may take to become what a test waits for: many times as long as on an idle machine."""


def held(volume: Path) -> list[str]:
    """Return what a command in the image of a node begins with: it is the only user of the volume."""
    return [str(ROOT / "redis_node" / "hold-volume"), str(volume)]


class Member:
    """One node or Sentinel: its volume, its secrets, its log, and its process while it runs."""

    def __init__(self, directory: Path, kind: str, address: str, others: dict[str, str], texts: dict[str, str]) -> None:
        self.address = address
        self.port = int(address.rpartition(":")[2])
        self.volume = directory / "volume"
        self.log = directory / "log"
        secrets = directory / "secrets"
        for made in (self.volume, secrets):
            made.mkdir(parents=True)
        config, acl = ("sentinel.conf", "sentinel.acl") if kind == "sentinel" else ("redis.conf", "users.acl")
        self.acl = secrets / acl
        self.acl.write_text(texts[acl])
        self.logins = secrets / "logins"
        self.write(logins(INTERNAL_PASSWORD))
        self.tls: dict[str, Any] = {}
        for name in (name for name in texts if name.endswith((".crt", ".key"))):
            (secrets / name).write_text(texts[name])
            self.tls = {"ssl": True, "ssl_ca_certs": str(secrets / "ca.crt")}
        shared = texts[config].replace("bind * -::*", "bind 127.0.0.1 -::1")
        shared = shared.replace("dir /data\n", f"dir {self.volume}\n").replace("/run/secrets/", f"{secrets}/")
        (directory / "shared.conf").write_text(shared)
        self.environ = os.environ | {
            "NODE_KIND": kind,
            "NODE_ADDRESS": address,
            "NODE_CONFIG": str(directory / "shared.conf"),
            "NODE_DATA": str(self.volume),
            "NODE_SECRETS": str(secrets),
            "NODE_CA": self.tls.get("ssl_ca_certs", ""),
            **others,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [*held(self.volume), sys.executable, "-m", "redis_node", "run"]
            self.process = subprocess.Popen(command, cwd=ROOT, env=self.environ, stdout=log, stderr=log)

    def write(self, passwords: dict[str, str]) -> None:
        """Write what this member logs in with at its next start."""
        self.logins.write_text("".join(f"{user} {password}\n" for user, password in passwords.items()))

    def end(self, number: signal.Signals) -> None:
        """Send the signal and wait until process and server are gone."""
        assert self.process
        self.process.send_signal(number)
        self.process.wait(40)
        wait_until(f"{self.address} to be gone", lambda: not self.listens())

    def kill(self) -> None:
        """Kill it as a lost host would."""
        self.end(signal.SIGKILL)

    def stop(self) -> None:
        """Stop it as Docker does."""
        self.end(signal.SIGTERM)

    def wipe(self) -> None:
        """Lose the volume."""
        shutil.rmtree(self.volume)
        self.volume.mkdir()

    def listens(self) -> bool:
        return listens(self.port)

    def server(self) -> int:
        """Return the id of the server's process."""
        assert self.process
        (server,) = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(server)

    def ask(self, *command: str, told: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command of the program beside the server, as ``docker exec`` does."""
        words = [sys.executable, "-m", "redis_node", *command]
        return subprocess.run(
            words, cwd=ROOT, env=self.environ, input=told, capture_output=True, text=True, check=False
        )

    def client(self, user: str = "operator") -> Redis:
        passwords = dict(line.split() for line in self.logins.read_text().splitlines())
        passwords |= {"counter": APP_PASSWORD, "backup": BACKUP_PASSWORD}
        return Redis(
            host="localhost",
            port=self.port,
            username=user,
            password=passwords[user],
            decode_responses=True,
            socket_timeout=5,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            **self.tls,
        )

    @property
    def configuration(self) -> str:
        """What the server has written into its configuration."""
        (file,) = self.volume.glob("*.conf")
        return file.read_text()

    def said(self) -> str:
        """Return what the program decided, one line each."""
        prefix = f"{self.address}: "
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(line.removeprefix(prefix) for line in lines if line.startswith(prefix))


def is_primary(node: Member) -> bool:
    return node.listens() and bool(node.client().role()[0] == "master")


def after(sentinels: Iterable[Member], milliseconds: int) -> None:
    """Set after how long the Sentinels replace a primary that does not answer."""
    for sentinel in sentinels:
        sentinel.client().execute_command("SENTINEL", "SET", PRIMARY_NAME, "down-after-milliseconds", str(milliseconds))


class Reusable(Protocol):
    """What one test can leave to the next: to make it anew takes ten seconds."""

    def emptied(self) -> bool:
        """Empty it; return whether it is as good as new. It is not unless it is settled."""

    def kill(self) -> None:
        """End it."""


@contextmanager
def left_by_others[R: Reusable](kept: list[R], session: pytest.Session, make: Callable[[], R]) -> Iterator[R]:
    """Yield what a test has left, or a new one. Afterwards, keep it if the test passed and left it as good as new."""
    used, failed = kept.pop() if kept else make(), session.testsfailed
    try:
        yield used
        if session.testsfailed == failed and used.emptied():
            kept.append(used)
    finally:
        if used not in kept:
            used.kill()


class Set:
    """Three nodes and three Sentinels."""

    def __init__(self, directory: Path, texts: dict[str, str]) -> None:
        # By name, as deployed: an address where a name belongs is found.
        addresses = [f"localhost:{free_port()}" for _ in range(6)]
        self._directory, self._texts = directory, texts
        self._others = others = {"NODE_NODES": ",".join(addresses[:3]), "NODE_SENTINELS": ",".join(addresses[3:])}
        kinds = ["replicated"] * 3 + ["sentinel"] * 3
        members = [
            Member(directory / str(number), kind, address, others, texts)
            for number, (kind, address) in enumerate(zip(kinds, addresses, strict=True))
        ]
        self.nodes, self.sentinels = members[:3], members[3:]

    @property
    def members(self) -> list[Member]:
        """All nodes and Sentinels."""
        return [*self.nodes, *self.sentinels]

    def add(self, number: int) -> dict[str, str]:
        """Start more nodes, which the others do not know yet; return the environment that names all."""
        added = [f"localhost:{free_port()}" for _ in range(number)]
        others = self._others | {"NODE_NODES": ",".join([self._others["NODE_NODES"], *added])}
        for address in added:
            member = Member(self._directory / address, "replicated", address, others, self._texts)
            self.nodes.append(member)
            member.start()
        return others

    def start(self) -> None:
        for member in self.members:
            member.start()

    def kill(self) -> None:
        """Kill all at once: those that live longer could replace a primary that is gone."""
        alive = [(one, process) for one in self.members if (process := one.process) and process.poll() is None]
        for _, process in alive:
            process.kill()
        for member, _ in alive:
            member.kill()

    def emptied(self) -> bool:
        """Remove all counters and logs; return whether the set is settled."""
        if self.sentinels[0].ask("settled").returncode:
            return False
        after(self.sentinels, DOWN_MILLISECONDS)
        for member in self.members:
            member.log.write_text("")
        return bool(self.primary().client("backup").flushall())

    def settled(self) -> None:
        """Wait until the set could lose a node; the program itself says so."""
        found = self.sentinels[0].ask("settled", str(PATIENCE_SECONDS))
        told = (f"\n\n{one.address}\n{one.log.read_text(errors='replace')[-1500:]}" for one in self.members)
        assert found.returncode == 0, found.stderr + "".join(told)

    def primary(self) -> Member:
        """Wait until there is one primary; return it."""

        def only() -> Member | None:
            # A Sentinel closes all connections to a node whose role it changes.
            with suppress(RedisConnectionError):
                found = [node for node in self.nodes if node.listens() and node.client().role()[0] == "master"]
                return found[0] if len(found) == 1 else None
            return None

        primary = wait_until("one primary", only)
        assert primary
        return primary

    def rotate(self, internal: str) -> None:
        """Give the nodes other passwords as a deployment does: all accept them, then all use them."""
        for member in self.members:
            member.acl.write_text(rotated(member.acl.read_text(), internal))
            member.client().execute_command("ACL", "LOAD")
        for member in self.members:
            used = member.ask("use", told=json.dumps(logins(internal)))
            assert used.returncode == 0, used.stderr
        for member in self.members:
            member.write(logins(internal))

    def increment(self, times: int = 1, primary: Member | None = None, *, started: bool = False) -> int:
        """Count as the app does: on the primary, confirmed by one replica at least; return the value.

        ``started``: the primary was started, so it takes no write until its program has asked the Sentinels.
        """
        app = (primary or self.primary()).client("counter")
        if started:
            wait_until("it to take writes", lambda: app.set("{.probe}:value", 1))
        for _ in range(times):
            value = int(app.incr("{a}:value"))
            wait_until("a replica to confirm it", lambda: app.wait(1, 1000))
        return value

    def value(self) -> int:
        return int(self.primary().client("counter").get("{a}:value") or 0)
