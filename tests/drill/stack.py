"""A deployed stack with replicated Redis, as a drill sees it."""

from __future__ import annotations

import re
import shlex
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from hashlib import sha1

from history.model import State

from drill.containers import LIST_SECONDS, Container, Host, LookError, containers

HEALING_SECONDS = 180.0
PLACED_SECONDS = 10.0
"""How long the tasks must stay as they are: an engine that was cut off may take 8 s to ask its manager again."""
MIN_PRIMARIES = 3
"""Of a cluster: so many nodes have no replicas."""
REFUSED = re.compile(r"^[A-Z]{3,} ", re.MULTILINE)
ADDRESS = re.compile(r"\b\d+\.\d+\.\d+\.\d+\b")

IS_SECOND = """
import sys
from redis_node.cluster.members import first_of_its_pair
print(not first_of_its_pair(sys.argv[1]))
"""


@dataclass(frozen=True, slots=True)
class Stack:
    """Name of the stack, the hosts that run it, and the counter that is drilled: a cluster has it on one primary."""

    name: str
    hosts: tuple[Host, ...]
    counter: str = "drill"

    def redis(self) -> list[Container]:
        """Return nodes and Sentinels that run."""
        return containers(self.hosts, f"{self.name}-redis")

    def services(self) -> list[str]:
        """Return the names of the nodes and Sentinels that the swarm wants, sorted; raises LookError."""
        label = f"label=com.docker.stack.namespace={self.name}-redis"
        listed = self.managers()[0].run("docker", "service", "ls", "--filter", label, "--format", "{{.Name}}")
        return sorted(name.removeprefix(f"{self.name}-redis_") for name in listed.split())

    def nodes(self) -> list[Container]:
        """Return the nodes that hold data."""
        return [container for container in self.redis() if container.service.startswith("redis-")]

    def sentinels(self) -> list[Container]:
        """Return the Sentinels."""
        return [container for container in self.redis() if container.service.startswith("sentinel-")]

    def apps(self) -> list[Container]:
        """Return the replicas of the app."""
        return [container for container in containers(self.hosts, self.name) if container.service == "app"]

    def managers(self) -> list[Host]:
        """Return the hosts that are managers of the swarm, and answer; raises LookError if there is none."""
        found = []
        for host in self.hosts:
            with suppress(LookError):
                asked = host.run("docker", "info", "--format", "{{.Swarm.ControlAvailable}}", seconds=LIST_SECONDS)
                found += [host] if asked.strip() == "true" else []
        if not found:
            raise LookError("no manager of the swarm answers")
        return found

    def primary(self) -> Container:
        """Return the one primary of the counter; raises LookError."""
        primaries = self.primaries()
        if len(primaries) != 1:
            raise LookError(f"{len(primaries)} nodes of {self.name} are primary")
        return primaries[0]

    def primaries(self) -> list[Container]:
        """Return all that say they are the counter's primary, or the one node that is alone; raises LookError."""
        nodes = self.nodes()
        found = nodes if self._alone(nodes) else [container for container in nodes if container.role() == "primary"]
        return [
            one for one in found if not self._redis_cli(one, f"GET '{{{self.counter}}}:value'").startswith("MOVED ")
        ]

    def healed(self) -> None:
        """Wait until the stack could lose any one node; raises LookError."""
        _password.cache_clear()  # what was done to the stack may have replaced it
        deadline = time.monotonic() + HEALING_SECONDS
        last = "nothing runs"
        while time.monotonic() < deadline:
            redis = self.redis()
            question = ["redis-cli", "ping"] if self._alone(redis) else ["python3", "-m", "redis_node", "settled", "5"]
            for container in redis[:1]:
                try:
                    container.exec(*question)
                    if not self._returns():
                        return
                    last = "the first node of a pair is about to become its primary again"
                except LookError as error:
                    last = str(error)
            time.sleep(0.5)
        raise LookError(f"{self.name} did not heal within {HEALING_SECONDS:g} s: {last}\n{self._tasks()}")

    def _returns(self) -> bool:
        """Tell whether the counter's primary is the second node of its pair, which gives its place back."""
        nodes = self.nodes()
        if self._alone(nodes) or self.sentinels() or self.copies() == 1:
            return False
        primary = self.primary()
        return primary.exec("python3", "-c", IS_SECOND, primary.service).strip() == "True"

    def placed(self) -> None:
        """Wait until all hosts are ready and run exactly what the swarm wants, for a while; raises LookError."""
        deadline = time.monotonic() + HEALING_SECONDS
        since, last = time.monotonic(), ""
        while time.monotonic() < since + PLACED_SECONDS:
            try:
                last = self.misplaced()
            except LookError as error:
                last = str(error)
            now = time.monotonic()
            if last:
                since = now
            if now > deadline:
                raise LookError(f"the swarm of {self.name} did not heal within {HEALING_SECONDS:g} s: {last}")
            time.sleep(0.5)

    def misplaced(self) -> str:
        """Return what the swarm wants and hosts do not run, or the reverse; empty if nothing."""
        manager = self.managers()[0]
        states = manager.run("docker", "node", "ls", "--format", "{{.Status}}").split()
        if set(states) != {"Ready"}:
            return f"hosts are {', '.join(states)}"
        shown = "{{.Name}}.{{.ID}} {{.CurrentState}}"
        for part in (self.name, f"{self.name}-redis"):
            wanted = manager.run(
                "docker", "stack", "ps", part, "--no-trunc", "--filter", "desired-state=running", "--format", shown
            )
            tasks = dict(line.split(maxsplit=1) for line in wanted.splitlines())
            found = {f"{part}_{one.service}.{one.task}" for one in containers(self.hosts, part)}
            late = {name for name, state in tasks.items() if not state.startswith("Running")}
            if wrong := late | (tasks.keys() ^ found):
                return f"not as wanted: {', '.join(sorted(wrong))}"
        return ""

    def _tasks(self) -> str:
        """Return the containers of Redis on each host, also those that ended, and what the swarm knows of its tasks."""
        label = f"label=com.docker.stack.namespace={self.name}-redis"
        listing = ["docker", "ps", "--all", "--filter", label, "--format", "{{.Names}} {{.Status}}"]
        shown = "{{.Name}} on {{.Node}}: {{.DesiredState}}, {{.CurrentState}} {{.Error}}"
        known = ["docker", "stack", "ps", f"{self.name}-redis", "--no-trunc", "--format", shown]
        manager = self.managers()[0]
        found = [f"{host.name}:\n{host.run(*listing)}" for host in self.hosts]
        return "\n".join([*found, manager.run("docker", "node", "ls"), manager.run(*known)])

    def epochs(self) -> dict[str, str]:
        """Return the epoch that each Sentinel, or cluster node, knows: an attempt to replace a primary raises it.

        One node that is alone has none.
        """
        file, word = ("sentinel.conf", "current-epoch") if self.sentinels() else ("nodes.conf", "currentEpoch")
        voters = self.sentinels() or self.nodes()
        if self._alone(voters):
            return {}
        texts = {voter.service: voter.exec("cat", f"/data/{file}").split() for voter in voters}
        return {service: words[words.index(word) + 1] for service, words in texts.items()}

    def state(self) -> State:
        """Return what the checker wants to know of a healed stack."""
        primaries = tuple(container.service for container in self.primaries())
        addresses = tuple(
            f"{container.service}: {line}"
            for container in self.sentinels()
            for line in container.exec("cat", "/data/sentinel.conf").splitlines()
            if line.startswith(("sentinel monitor", "sentinel known")) and ADDRESS.search(line)
        )
        return State(primaries, self.digests(), self.copies(), addresses)

    def copies(self) -> int:
        """Return how many nodes should have the counter: all; in a cluster those of its pair, or one of three nodes."""
        nodes = self.nodes()
        if self.sentinels() or self._alone(nodes):
            return len(nodes)
        return 1 if len(nodes) <= MIN_PRIMARIES else 2

    def value(self) -> str:
        """Return what the counter's primary has as its value; raises LookError."""
        return self._redis_cli(self.primary(), f"GET '{{{self.counter}}}:value'")

    def digests(self) -> dict[str, str]:
        """Return node -> digest of the counter's value and log, for each node that has the counter and answers.

        A node must only hand them out. One that sorted half a million ids would be busy so long that it is replaced.
        """
        found = {}
        for node in self.nodes():
            # In a cluster, a replica answers only after READONLY. Others refuse that, so the first line tells nothing.
            ask = f"READONLY\nGET {{{self.counter}}}:value\nSMEMBERS {{{self.counter}}}:log\n"
            with suppress(LookError):
                keys = self._redis_cli(node, "", asked=ask).partition("\n")[2]
                if not REFUSED.search(keys):
                    found[node.service] = sha1("\n".join(sorted(keys.split())).encode()).hexdigest()  # noqa: S324
        return found

    def log(self) -> frozenset[str] | None:
        """Return the ids that the store logged; None if there are none, as when the app does not log them."""
        return frozenset(self._redis_cli(self.primary(), f"SMEMBERS '{{{self.counter}}}:log'").split()) or None

    def forget_log(self) -> None:
        """Free the memory that the log takes, as much as a user may: it expires at once."""
        self._redis_cli(self.primary(), f"PEXPIRE '{{{self.counter}}}:log' 1")

    @staticmethod
    def _alone(redis: list[Container]) -> bool:
        """Tell whether these are the one node of topology standalone, which knows nothing of roles."""
        return [container.service for container in redis] == ["redis-1"]

    def _redis_cli(self, node: Container, command: str, asked: str = "") -> str:
        """Ask a node as the app's user, by a command line or by ``asked`` on standard input; raises LookError."""
        password = _password(self.name, self.hosts)
        options = "--user counter --no-auth-warning ${NODE_CA:+--tls --cacert $NODE_CA}"
        given = f"printf %s {shlex.quote(asked)} | " if asked else ""
        return node.exec("sh", "-c", f"{given}REDISCLI_AUTH={password} redis-cli {options} {command}")


@cache
def _password(stack: str, hosts: tuple[Host, ...]) -> str:
    """Return the password of the app's user; raises LookError."""
    for app in containers(hosts, stack):
        with suppress(LookError):  # it may be stopping
            if app.service == "app":
                return app.exec("cat", "/run/secrets/redis_password")
    raise LookError(f"no app of {stack} runs")
