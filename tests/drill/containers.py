"""The containers of a stack on its hosts, reached by the docker command of each."""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

COMMAND_SECONDS = 60.0
LIST_SECONDS = 10.0
"""An engine that takes longer to list its containers is stopped or frozen."""
POLL_SECONDS = 0.5


class LookError(Exception):
    """A host or container could not be asked; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Host:
    """Where docker runs: ``prefix`` reaches the host, for example ``ssh node-1``; empty for this machine."""

    prefix: str

    @property
    def name(self) -> str:
        """Name of the host: the last word of the prefix."""
        return (shlex.split(self.prefix) or ["this host"])[-1]

    def run(self, *command: str, seconds: float = COMMAND_SECONDS) -> str:
        """Run a command there as root and return what it prints; raises LookError."""
        words = [*shlex.split(self.prefix), *command]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            raise LookError(f"{shlex.join(words)}: no end within {seconds:g} s") from None
        if done.returncode:
            raise LookError(f"{shlex.join(words)}: {done.stderr.strip()}")
        return done.stdout


@dataclass(frozen=True, slots=True)
class Container:
    """A running container of a service."""

    host: Host
    identifier: str
    service: str
    """Name of the service without the stack's, for example ``redis-1``."""
    task: str = ""
    """What the swarm calls it: the slot or the host, and the task's id."""

    def exec(self, *command: str) -> str:
        """Run a command in it; raises LookError."""
        return self.host.run("docker", "exec", self.identifier, *command)

    def pid(self) -> str:
        """Return the number that its first process has on the host."""
        return self.host.run("docker", "inspect", "--format", "{{.State.Pid}}", self.identifier).strip()

    def network(self, state: str, pid: str) -> None:
        """Set all its network interfaces ``up`` or ``down``; ``pid``: of its first process."""
        self.host.run("nsenter", "-t", pid, "-n", "ip", "link", "set", "group", "default", state)

    def freeze(self, action: str) -> None:
        """Stop all its processes (``pause``), or let them go on (``unpause``)."""
        self.host.run("docker", action, self.identifier)

    def kill(self) -> None:
        """Kill its first process from the host, and see that it is gone: process 1 ignores a SIGKILL from inside."""
        self.host.run("kill", "-9", self.pid())
        deadline = time.monotonic() + COMMAND_SECONDS
        while "true" in self.host.run("docker", "inspect", "--format", "{{.State.Running}}", self.identifier):
            if time.monotonic() > deadline:
                raise LookError(f"{self.service} was killed and still runs")
            time.sleep(0.05)

    def role(self) -> str:
        """Return ``primary``, ``replica`` or ``sentinel``, or nothing while it does not know."""
        try:
            return self.exec("python3", "-m", "redis_node", "role").strip()
        except LookError:
            return ""


def containers(hosts: Iterable[Host], stack: str) -> list[Container]:
    """Return all running containers of a stack; hosts that do not answer are left out."""
    found = []
    for host in hosts:
        label = f"label=com.docker.stack.namespace={stack}"
        try:
            lines = host.run("docker", "ps", "--filter", label, "--format", "{{json .}}", seconds=LIST_SECONDS)
        except LookError:
            continue
        for line in lines.splitlines():
            facts: dict[str, Any] = json.loads(line)
            service, _, task = facts["Names"].removeprefix(f"{stack}_").partition(".")
            found.append(Container(host, facts["ID"], service, task))
    return sorted(found, key=lambda container: container.service)
