"""Faults of the orchestrator, and of what it needs: the links between hosts, the engines, the managers.

Each is one entry of ``HELD``: shell that begins it and shell that ends it, run as root on a host. Both are one command,
which ends the fault after its time even if the drill is killed meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from drill.containers import Container, Host, LookError
from drill.stack import Stack

HELD_SECONDS = 25.0
"""The default. After 15 s without an answer, a swarm counts a host as down, and replaces its tasks."""
ENDING_SECONDS = 180.0
"""How much longer the shell may take: an engine that stops waits for its containers."""
CONTROL = "tcp:2377 tcp:7946 udp:7946"
"""The ports at which managers and engines speak to each other; names of services travel on 7946."""
DATA = "udp:4789"
"""The port of the networks of containers."""

type Names = Mapping[str, str]
"""Variables of the shell."""


@dataclass(frozen=True, slots=True)
class Target:
    """A host where a fault is held, and what the shell needs to know."""

    host: Host
    names: Names


type Victims = Callable[[Stack, Host, str], list[Target]]
"""Return where to hold a fault, from the stack, the host that it hits and the service that it hits."""


def the_host(stack: Stack, host: Host, service: str) -> list[Target]:
    """Return the host."""
    del stack, service
    return [Target(host, {})]


def a_manager(stack: Stack, host: Host, service: str) -> list[Target]:
    """Return a manager, preferably another host than NODE, the host that it is told about."""
    managers = stack.managers()
    other = next((one for one in managers if one != host), managers[0])
    return [Target(other, {"NODE": node_id(host), "SERVICE": f"{stack.name}-redis_{service}"})]


def the_new_manager(stack: Stack, host: Host, service: str) -> list[Target]:
    """Return the host, or another one if it is a manager, once it is a manager. NODE is the manager that steps back."""
    del service
    managers = stack.managers()
    new = next((one for one in (host, *stack.hosts) if one not in managers), None)
    if new is None:
        raise LookError("all hosts are managers")
    managers[0].run("docker", "node", "promote", node_id(new))
    return [Target(new, {"NODE": node_id(managers[0]), "SELF": node_id(new)})]


def the_container(stack: Stack, host: Host, service: str) -> list[Target]:
    """Return the container of the service, wherever it is."""
    del host
    return [_inside(one) for one in stack.redis() if one.service == service]


def the_replaced_container(stack: Stack, host: Host, service: str) -> list[Target]:
    """Return the container of the service, which the swarm is about to stop: two seconds pass before it does."""
    found = the_container(stack, host, service)
    stack.managers()[0].run("docker", "service", "update", "--detach", "--force", f"{stack.name}-redis_{service}")
    return found


def the_apps(stack: Stack, host: Host, service: str) -> list[Target]:
    """Return the app's replicas; ADDRESS is the primary's."""
    del host, service
    return _without(stack, stack.apps())


def the_sentinels(stack: Stack, host: Host, service: str) -> list[Target]:
    """Return the Sentinels, or the other nodes where there is none; ADDRESS is the primary's."""
    del host, service
    primary = stack.primary()
    return _without(stack, stack.sentinels() or [node for node in stack.nodes() if node != primary])


def _without(stack: Stack, parted: list[Container]) -> list[Target]:
    address = stack.primary().exec("hostname", "-i").split()[0]
    return [Target(target.host, {**target.names, "ADDRESS": address}) for target in map(_inside, parted)]


def _inside(container: Container) -> Target:
    return Target(container.host, {"CONTAINER": container.identifier, "PID": container.pid()})


def node_id(host: Host) -> str:
    """Return the id that the host has in the swarm."""
    return host.run("docker", "info", "--format", "{{.Swarm.NodeID}}").strip()


@dataclass(frozen=True, slots=True)
class Held:
    """A fault that lasts: where, and the shell that begins and ends it there."""

    victims: Victims
    begin: str
    end: str = ":"


def cut(ports: str, chains: str = "INPUT:i OUTPUT:o") -> Held:
    """Return the fault that what other hosts send to these ports, and what they answer from there, is dropped."""
    rules = (
        f"rules() {{ for chain in {chains}; do for port in {ports}; do for side in dport sport; do"
        " iptables -w $1 ${chain%:*} ! -${chain#*:} lo -p ${port%:*} --$side ${port#*:} -j DROP; done; done; done; }"
    )
    return Held(the_host, f"{rules}; rules -I", f"{rules}; rules -D")


def unreachable(victims: Victims) -> Held:
    """Return the fault that some containers do not reach the primary, which others reach."""
    rule = 'nsenter -t "$PID" -n iptables -w {} OUTPUT -d "$ADDRESS" -p tcp -j DROP'
    return Held(victims, rule.format("-I"), rule.format("-D"))


def engine(signal: str) -> str:
    """Return the shell that sends a signal to the engine."""
    return f"systemctl kill --kill-whom=main --signal={signal} docker.service"


def demote(node: str) -> str:
    """Return the shell that makes a manager a worker, once the other one has all that it needs."""
    return f"timeout 60 sh -c 'until docker node demote \"${node}\"; do sleep 1; done'"


def available(availability: str) -> Held:
    """Return the fault that a host gets no new tasks (``pause``), or also loses those that it has (``drain``)."""
    update = 'docker node update --availability {} "$NODE"'
    return Held(a_manager, update.format(availability), update.format("active"))


FORCE = 'docker service update --detach --force "$SERVICE"'

HELD: dict[str, Held] = {
    "control-cut": cut(CONTROL),
    "data-cut": cut(DATA),
    "both-cut": cut(f"{CONTROL} {DATA}"),
    "control-deaf": cut(CONTROL, "INPUT:i"),
    "control-mute": cut(CONTROL, "OUTPUT:o"),
    "data-deaf": cut(DATA, "INPUT:i"),
    "data-mute": cut(DATA, "OUTPUT:o"),
    "engine-stopped": Held(the_host, "systemctl stop docker.socket docker.service", "systemctl start docker.service"),
    "engine-frozen": Held(the_host, engine("STOP"), engine("CONT")),
    # What it sends and answers is late, but not so late that its host counts as down.
    "engine-late": Held(
        the_host,
        f"while :; do {engine('STOP')}; sleep 4; {engine('CONT')}; sleep 0.3; done & LOOP=$!",
        f'kill "$LOOP"; sleep 1; {engine("CONT")}',
    ),
    "engine-killed": Held(the_host, engine("KILL")),
    "engine-restarted": Held(the_host, "systemctl restart docker.service"),
    "drained": available("drain"),
    "closed": available("pause"),
    "managers-changed": Held(the_new_manager, demote("NODE"), f'docker node promote "$NODE"; {demote("SELF")}'),
    "forced": Held(a_manager, FORCE),
    "paused": Held(the_container, 'docker pause "$CONTAINER"', 'docker unpause "$CONTAINER"'),
    # Process 1 of the container, which passes signals on to the program, is frozen: nothing stops before it is killed.
    "unstoppable": Held(the_replaced_container, 'kill -STOP "$PID"', 'kill -CONT "$PID"'),
    "app-parted": unreachable(the_apps),
    "sentinels-parted": unreachable(the_sentinels),
}
"""Names that end in ``-cut`` drop both directions, ``-deaf`` what arrives, ``-mute`` what is sent."""


def held(stack: Stack, name: str, at: str, seconds: float) -> None:
    """Hold a fault at one of ``PLACES``, and return once the swarm has healed; raises LookError."""
    hold(stack, name, PLACES[at](stack), stack.primary().service, seconds)
    stack.placed()


def hold(stack: Stack, name: str, host: Host, service: str, seconds: float) -> None:
    """Begin a fault and return once it has ended; raises LookError."""
    fault = HELD[name]
    targets = fault.victims(stack, host, service)
    if not targets:
        raise LookError(f"{name}: nothing of it runs")
    with ThreadPoolExecutor(len(targets)) as pool:
        list(pool.map(lambda target: lease(target, fault, seconds), targets))


def lease(target: Target, fault: Held, seconds: float) -> None:
    """Hold a fault on one host for so many seconds; raises LookError."""
    names = [f"{name}={value}" for name, value in target.names.items()]
    script = f"ends() {{ {fault.end}; }}; trap ends EXIT; {fault.begin}; sleep {seconds:g}"
    target.host.run("env", *names, "sh", "-ec", script, seconds=seconds + ENDING_SECONDS)


def _elsewhere(stack: Stack) -> Host:
    """Return a host that is neither the primary's nor, if there are enough, a manager."""
    others = [host for host in stack.hosts if host != stack.primary().host]
    managers = stack.managers()
    return next((host for host in others if host not in managers), others[0])


PLACES: dict[str, Callable[[Stack], Host]] = {
    "primary": lambda stack: stack.primary().host,
    "manager": lambda stack: stack.managers()[0],
    "elsewhere": _elsewhere,
}
