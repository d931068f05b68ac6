"""Nodes of a Redis Cluster as their containers run them: the node program with the rendered configuration, on loopback.

Each is a process with namespaces for mounts and host name: it is called as its service is, finds names in a file that
the test keeps, and gets another address of 127.0.0.0/8 at each start. One volume each.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import ResponseError
from redis.retry import Retry
from replicated import held
from support.ansible import ROOT
from support.certificates import Certificates, write
from support.passwords import APP_PASSWORD, BACKUP_PASSWORD, INTERNAL_PASSWORD, logins, rotated
from support.ports import free_network, free_port, listens
from support.waiting import wait_until

PATIENCE_SECONDS = 240.0
"""How long one step may take: many times as long as on an idle machine."""
LIFETIME_SECONDS = 5 * PATIENCE_SECONDS
SLOTS = 16384
ENTER = 'mount --bind "$HOSTS" /etc/hosts && hostname "$NODE" && shift && exec "$@"'
ATTEMPTS = 200
"""How many times an increment is sent that a primary refuses while its replica answers late: for 20 seconds."""


class Container:
    """One node: its volume, its log, and its process while it runs."""

    def __init__(self, stack: Stack, name: str) -> None:
        """Make its volume."""
        self.stack, self.name = stack, name
        self.volume = stack.directory / name
        self.volume.mkdir()
        self.log = stack.directory / f"{name}.log"
        self.address = ""
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def runs(self) -> bool:
        """Whether it was started and has not ended."""
        return self.process is not None and self.process.poll() is None

    def said(self, text: str) -> bool:
        """Tell whether the node program logged something."""
        return any(text in line for line in self.log.read_text().splitlines() if line.startswith(f"{self.name}: "))

    def start(self, address: str = "") -> None:
        """Start it, by default at an address that no node had before."""
        self.address = address or self.stack.new_address()
        self.stack.name(self.name, self.address)
        config = self.stack.texts["redis.conf"]
        for there, here in (
            ("bind * -::*", f"bind {self.address}\nbind-source-addr {self.address}"),
            ("dir /data\n", f"dir {self.volume}\n"),
            ("/run/secrets/", f"{self.stack.secrets}/"),
        ):
            assert there in config, there
            config = config.replace(there, here)
        path = self.stack.directory / f"{self.name}.conf"
        path.write_text(config)
        environ = self.stack.environ(self.name) | {"NODE_CONFIG": str(path), "NODE_DATA": str(self.volume)}
        with self.log.open("ab") as log:
            command = self.stack.command(*held(self.volume), sys.executable, "-m", "redis_node", "run")
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environ)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop the server with SIGSTOP for the block."""
        server = int(self.client().info("server")["process_id"])
        os.kill(server, signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):  # it was killed meanwhile
                os.kill(server, signal.SIGCONT)

    def kill(self) -> None:
        """``kill -9``, and wait until it is gone."""
        if self.process and self.runs:
            self.process.kill()
            self.process.wait(10)
            # The server dies after what started it; until then it has its address and the files of its volume.
            wait_until(f"{self.name} to be gone", lambda: not listens(6379, self.address))
        self.stack.name(self.name, "")

    def stop(self) -> None:
        """Tell it to stop, as Swarm does, and wait until it is gone."""
        assert self.process
        self.process.terminate()
        self.process.wait(30)
        self.stack.name(self.name, "")

    def empty(self) -> None:
        """Lose the volume."""
        shutil.rmtree(self.volume)
        self.volume.mkdir()

    def client(self, **options: Any) -> Redis:
        """Return a client of this node alone."""
        login: dict[str, Any] = {"username": "operator", "password": self.stack.logins["operator"]}
        if self.stack.ca:  # by address, which no certificate has
            login |= {"ssl": True, "ssl_ca_certs": self.stack.ca, "ssl_check_hostname": False}
        return Redis(
            host=self.address, decode_responses=True, socket_timeout=5, retry=Retry(NoBackoff(), 0), **login | options
        )

    def view(self) -> dict[str, tuple[str, int]]:
        """Return name -> (``primary`` or ``replica``, number of slots) as this node sees all."""
        found = {}
        for line in str(self.client().execute_command("CLUSTER", "NODES", NEVER_DECODE="").decode()).splitlines():
            _, where, flags, _, _, _, _, _, *ranges = line.split()
            slots = [item.partition("-") for item in ranges if not item.startswith("[")]
            count = sum(int(last or first) - int(first) + 1 for first, _, last in slots)
            found[where.partition(",")[2]] = ("replica" if "slave" in flags else "primary", count)
        return found


class Stack:
    """The nodes of one cluster, their secrets, and the file of their names."""

    def __init__(self, directory: Path, texts: dict[str, str], certificates: Certificates | None = None) -> None:
        """Take the rendered templates, and the certificates where they ask for TLS."""
        self.directory, self.texts = directory, texts
        self._network = free_network()
        self._addresses = 0
        self._names: dict[str, str] = {}
        self.hosts = directory / "hosts"
        self.hosts.touch()
        self.secrets = directory / "secrets"
        self.secrets.mkdir()
        (self.secrets / "users.acl").write_text(texts["users.acl"])
        self.logins: dict[str, str] = {}
        self.write(logins(INTERNAL_PASSWORD))
        self.ca = ""
        if certificates:
            write(certificates, self.secrets)
            self.ca = str(self.secrets / "ca.crt")
        self.nodes: dict[str, Container] = {}

    def __getitem__(self, number: int) -> Container:
        """Return a node by its number."""
        return self.nodes[f"redis-{number}"]

    def write(self, passwords: dict[str, str]) -> None:
        """Write what the nodes log in with."""
        self.logins = passwords
        (self.secrets / "logins").write_text("".join(f"{user} {word}\n" for user, word in passwords.items()))

    def rotate(self, internal: str) -> None:
        """Give the nodes other passwords as a deployment does: all accept them, then all use them."""
        acl = self.secrets / "users.acl"
        acl.write_text(rotated(acl.read_text(), internal))
        for node in self.nodes.values():
            node.client().execute_command("ACL", "LOAD")
        for name in self.nodes:
            used = self.run("redis_node", "use", node=name, told=json.dumps(logins(internal)))
            assert used.returncode == 0, used.stderr
        self.write(logins(internal))

    def new_address(self) -> str:
        """Return an address that no node had before."""
        self._addresses += 1
        return f"{self._network}.{self._addresses}"

    def name(self, name: str, address: str) -> None:
        """Let a name lead to an address, or nowhere.

        The file is mounted, so it is written in place, and never empty: a node that starts may be looking itself up.
        """
        self._names[name] = address
        with self.hosts.open("r+") as hosts:
            hosts.write("".join(f"{where} {name}\n" for name, where in self._names.items() if where))
            hosts.truncate()

    def environ(self, name: str) -> dict[str, str]:
        """Return what a process of a node is started with."""
        return os.environ | {
            "HOSTS": str(self.hosts),
            "NODE": name,
            "NODE_KIND": "cluster",
            "NODE_ADDRESS": f"{name}:6379",
            "NODE_NODES": "redis-1:6379,redis-2:6379,redis-3:6379",
            "NODE_SECRETS": str(self.secrets),
            "NODE_CA": self.ca,
            "PYTHONPATH": str(ROOT),
        }

    @staticmethod
    def command(*words: str) -> list[str]:
        """Return the command that runs another one as in a container; killed with it, and after a time."""
        bounded = ["timeout", "--foreground", "-k", "1", str(LIFETIME_SECONDS), "setpriv", "--pdeathsig", "KILL"]
        namespaces = ["unshare", "--user", "--map-root-user", "--mount", "--uts"]
        return [*namespaces, "sh", "-c", ENTER, "sh", "--", *bounded, *words]

    def start(self, count: int) -> None:
        """Start the nodes up to a number; those that run go on."""
        for number in range(1, count + 1):
            name = f"redis-{number}"
            if name not in self.nodes:
                self.nodes[name] = Container(self, name)
            if not self.nodes[name].runs:
                self.nodes[name].start()

    def run(
        self, *words: str, node: str = "redis-1", seconds: float = PATIENCE_SECONDS, told: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a module of the node program in a node's container."""
        return subprocess.run(
            self.command(sys.executable, "-m", *words),
            env=self.environ(node),
            input=told,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    @contextlib.contextmanager
    def app(self) -> Iterator[str]:
        """Run the app, which finds the nodes by their names too; yield its address."""
        port = free_port()
        (self.directory / "app_password").write_text(APP_PASSWORD)
        environ = self.environ("app") | {
            "PYTHONPATH": str(ROOT / "app"),
            "COUNTER_BIND": f"127.0.0.1:{port}",
            "COUNTER_TOPOLOGY": "cluster",
            "COUNTER_REDIS_NODES": ",".join(f"{name}:6379" for name in self.nodes),
            "COUNTER_REDIS_PASSWORD_FILE": str(self.directory / "app_password"),
            "COUNTER_REDIS_CA_FILE": self.ca,
            "COUNTER_HISTORY_LOG": "1",
        }
        command = self.command(
            sys.executable, "-m", "gunicorn", "-c", "python:counter.gunicorn_conf", "counter.wsgi:app"
        )
        with (self.directory / "app.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environ)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until("the app", lambda: urllib.request.urlopen(f"{url}/readyz", timeout=5).status == HTTPStatus.OK)
            yield url
        finally:
            process.terminate()
            process.wait(30)

    def shape(self, count: int, *relieve: str) -> list[str]:
        """Make the cluster one of ``count`` nodes, as a deployment does; return what was said."""
        done = self.run("redis_node.cluster.shape", str(count), *relieve)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.splitlines()

    def settled(self) -> None:
        """Wait until the cluster could lose any one node."""
        done = self.run("redis_node", "settled", str(PATIENCE_SECONDS / 2))
        assert done.returncode == 0, done.stderr

    def at(self, key: str) -> Container:
        """Return the node that serves a key."""

        def serving() -> Container | None:
            for node in self.nodes.values():
                if node.runs:
                    slot = int(node.client().execute_command("CLUSTER", "KEYSLOT", key))
                    for first, last, primary, *_ in node.client().execute_command("CLUSTER", "SLOTS"):
                        if first <= slot <= last:
                            return self.nodes[primary[0]]
            return None

        found = wait_until(f"a node that serves {key}", serving)
        assert found
        return found

    def count(self, names: Iterable[str]) -> None:
        """Add one to each counter, as the app's user."""
        self._for_each(names, "incr")

    def counted(self, names: Iterable[str]) -> dict[str, int]:
        """Return the counters."""
        return {name: int(value or 0) for name, value in self._for_each(names, "get").items()}

    def _for_each(self, names: Iterable[str], command: str) -> dict[str, Any]:
        """Send one command for each counter, all those of a node at once; return counter -> reply."""
        serving: dict[int, str] = {}
        for first, last, primary, *_ in self.at("any").client().execute_command("CLUSTER", "SLOTS"):
            serving |= dict.fromkeys(range(first, last + 1), primary[0])
        at: dict[str, list[str]] = {}
        for name in names:
            at.setdefault(serving[key_slot(name.encode())], []).append(name)
        replies: dict[str, Any] = {}

        def asked(node: str) -> bool:
            """Send what has no reply yet. A primary whose replica answers late counts nothing for a moment."""
            left = [name for name in at[node] if name not in replies]
            pipeline = self.nodes[node].client(username="counter", password=APP_PASSWORD).pipeline(transaction=False)
            for name in left:
                getattr(pipeline, command)(f"{{{name}}}:value")
            for name, reply in zip(left, pipeline.execute(raise_on_error=False), strict=True):
                if not isinstance(reply, ResponseError):
                    replies[name] = reply
                elif not str(reply).startswith("NOREPLICAS"):
                    raise reply
            return replies.keys() >= set(left)

        for node in at:
            # Not `wait_until`: after another error, some may have been counted.
            left = ATTEMPTS
            while not asked(node):
                left -= 1
                assert left, f"{node} has too few replicas to count"
                time.sleep(0.1)
        return replies

    def emptied(self, count: int = 6) -> bool:
        """Remove all counters, logs, and nodes above a number; return whether the others are a settled cluster."""
        for name in list(self.nodes)[count:]:
            gone = self.nodes.pop(name)
            gone.kill()
            shutil.rmtree(gone.volume)
        if self.run("redis_node", "settled").returncode:
            return False
        for node in self.nodes.values():
            node.log.write_text("")
            if node.client().role()[0] == "master":
                node.client(username="backup", password=BACKUP_PASSWORD).flushall()
        return True

    def kill(self) -> None:
        """End everything."""
        for node in self.nodes.values():
            if node.process:
                with contextlib.suppress(ProcessLookupError):
                    node.process.send_signal(signal.SIGCONT)
            node.kill()
