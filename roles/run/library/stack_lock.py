#!/usr/bin/python
"""Ansible module: the lock of a stack, which one run at a time holds, and the stack's audit log."""

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_lock
short_description: Hold or release the lock of a stack, and append to its audit log
description:
  - The lock is a config of the swarm, since only one config can have a name. A label says when the lease ends, since
    labels are all of a config that can be changed.
  - On a host that is not a manager of a swarm, the lock is a file. It moves into the swarm when the run renews it on a
    manager.
  - C(changed) is always false, since the lock belongs to the run and not to what is deployed.
options:
  name: {type: str, required: true, description: Name of the stack.}
  locks: {type: path, required: true, description: Directory of the locks outside of a swarm.}
  state:
    type: str
    choices: [read, held, released]
    default: read
    description: C(held) takes or renews the lock; C(released) removes it if this run holds it.
  run: {type: dict, default: {}, description: The run. C(id) tells runs apart; the rest is shown to other runs.}
  renew: {type: bool, default: false, description: The run must hold the lock already.}
  instead_of: {type: str, default: "", description: Id of a run that has ended without releasing the lock.}
  wait: {type: int, default: 0, description: How long to wait for the run that holds the lock, in seconds.}
  lease: {type: int, default: 3600, description: "How long the lock holds without being renewed, in seconds."}
  logs: {type: path, description: "Directory of the audit logs, if a line is given."}
  line: {type: dict, default: {}, description: What to append to the audit log; if it is empty, nothing.}
  line_begins: {type: bool, default: true, description: Whether the line may be the first one of the log.}
attributes:
  check_mode: {support: full}
"""

RETURN = r"""
held: {type: bool, returned: always, description: Whether this run holds the lock.}
lock: {type: dict, returned: always, description:
  "The other run that holds the lock, and C(until), the end of its lease; if this run holds it, the run that it
  replaces. Empty if there is none."}
noted: {type: bool, returned: always, description: Whether a line was given for the audit log.}
others: {type: list, returned: always, description:
  "Names of the other stacks whose locks a run holds on this host or in its swarm."}
nodes: {type: list, returned: always, description:
  "The nodes of the swarm as its API returns them; empty if the host is not a manager."}
"""

import base64
import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

try:
    import docker
    from docker.errors import APIError, DockerException, NotFound
    from requests import RequestException

    HAS_DOCKER = True
    ENGINE_ERRORS: tuple[type[Exception], ...] = (DockerException, RequestException)
except ImportError:
    # A new host has neither an engine nor the library for it.
    HAS_DOCKER = False
    ENGINE_ERRORS = ()

ADVICE = (
    "This shows its managers: docker node ls. If most of them are down, start them; if they are gone for good,"
    " docs/hosts.md#most-managers-are-gone says how to continue"
)
LEASE_ENDS = "counter-deploy.lease-ends"
ENGINE_SECONDS = 30
POLL_SECONDS = 2.0
# A line has about 1000 bytes, so that the log and its predecessors hold some thousand runs.
LOG_BYTES = 1_000_000
OLD_LOGS = 4


@dataclass(frozen=True)
class Lock:
    """A run that holds the lock until a time: UTC in ISO 8601, so that these texts compare as their times do."""

    run: dict[str, Any]
    until: str
    # The config as the engine's API returns it.
    config: dict[str, Any] = field(default_factory=dict, compare=False)

    def is_of(self, run: str) -> bool:
        """Tell whether the run with this id holds it."""
        return bool(self.run["id"] == run)


class HostLock:
    """A lock in a file. The caller has locked its directory, so no other process reads or writes it meanwhile."""

    def __init__(self, path: Path) -> None:
        """Take the path of the file."""
        self.path = path

    def read(self) -> Lock | None:
        """Return the lock, or None."""
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return Lock(content["run"], content["until"])

    def create(self, lock: Lock) -> bool:
        """Return True: no other process can have created one."""
        # A process that is killed leaves the file as it was.
        draft = self.path.with_suffix(".draft")
        draft.write_text(json.dumps({"run": lock.run, "until": lock.until}), encoding="utf-8")
        draft.replace(self.path)
        return True

    def extend(self, lock: Lock, until: str) -> bool:
        """Return True, after a new lease."""
        return self.create(Lock(lock.run, until))

    def remove(self, _lock: Lock) -> None:
        """Remove the lock."""
        self.path.unlink(missing_ok=True)


class SwarmLock:
    """A lock in a config. It has no label of the stack, so neither a deployment nor `docker stack rm` removes it."""

    def __init__(self, client: docker.APIClient, name: str) -> None:
        """Take a client of a manager, and the name of the config."""
        self.client, self.name = client, name

    def read(self) -> Lock | None:
        """Return the lock, or None."""
        try:
            config = self.client.inspect_config(self.name)
        except NotFound:
            return None
        run = json.loads(base64.b64decode(config["Spec"]["Data"]))
        return Lock(run, config["Spec"]["Labels"][LEASE_ENDS], config)

    def create(self, lock: Lock) -> bool:
        """Return False if another run was faster."""
        try:
            self.client.create_config(self.name, json.dumps(lock.run).encode(), labels={LEASE_ENDS: lock.until})
        except APIError as error:
            if error.status_code == HTTPStatus.CONFLICT:
                return False
            raise
        return True

    def extend(self, lock: Lock, until: str) -> bool:
        """Return False if the config has changed since it was read, or is gone; raises what else the engine says."""
        spec = {**lock.config["Spec"], "Labels": {LEASE_ENDS: until}}
        # The library has no method for this.
        url = f"{self.client.base_url}/v{self.client.api_version}/configs/{lock.config['ID']}/update"
        version = {"version": lock.config["Version"]["Index"]}
        answer = self.client.post(url, params=version, json=spec, timeout=ENGINE_SECONDS)
        # Versions of the engine say in different ways that another run was faster.
        if not answer.ok and (there := self.read()) and there.config == lock.config:
            answer.raise_for_status()
        return bool(answer.ok)

    def remove(self, lock: Lock) -> None:
        """Remove this config, and not one that another run has created since."""
        with suppress(NotFound):
            self.client.remove_config(lock.config["ID"])


def hold(
    places: Sequence[HostLock | SwarmLock], mine: Lock, now: str, instead_of: str, *, renew: bool
) -> tuple[bool, Lock | None]:
    """Return whether the run of ``mine`` holds the lock now, and the lock of another run: in its way, or replaced.

    ``places``: the host, and the swarm if there is one, where the lock then belongs. A lock is replaced if its lease
    has ended, or if it is of the run ``instead_of``. With ``renew``, a lock that the run does not hold is not taken.
    """
    me = mine.run["id"]
    found = [place.read() for place in places]
    others = [lock for lock in found if lock and not lock.is_of(me)]
    for lock in others:
        if lock.until > now and not lock.is_of(instead_of):
            return False, lock
    if renew and not any(lock and lock.is_of(me) for lock in found):
        return False, None
    place, there = places[-1], found[-1]
    if there and there.is_of(me):
        done = place.extend(there, mine.until)
    else:
        if there:
            place.remove(there)
        done = place.create(mine)
    if not done:
        faster = place.read()
        return False, None if faster and faster.is_of(me) else faster
    # The lock is in the swarm now.
    if len(places) > 1 and found[0]:
        places[0].remove(found[0])
    return True, next(iter(others), None)


def append(log: Path, line: dict[str, Any], *, may_begin: bool) -> None:
    """Append a line of JSON to a log. A log that has become long is renamed, and the oldest one removed."""
    if not (may_begin or log.exists()):
        return
    with alone_in(log.parent):
        if log.exists() and log.stat().st_size >= LOG_BYTES:
            for number in range(OLD_LOGS, 0, -1):
                with suppress(FileNotFoundError):
                    old = log.with_name(f"{log.name}.{number - 1}") if number > 1 else log
                    old.replace(log.with_name(f"{log.name}.{number}"))
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


@contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Keep other processes that ask for the same directory out of it, and make it if it is missing."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def locked_stacks(client: docker.APIClient | None, directory: Path, now: str) -> list[str]:
    """Return the names of the stacks whose locks are held now, on this host and in its swarm."""
    configs = [config["Spec"] for config in client.configs()] if client else []
    ends = {spec["Name"].removesuffix(".lock"): (spec.get("Labels") or {}).get(LEASE_ENDS, "") for spec in configs}
    files = [path for path in directory.glob("*") if not path.suffix]
    ends |= {path.name: lock.until for path in files if (lock := HostLock(path).read())}
    return sorted(name for name, until in ends.items() if until > now)


def is_late(error: BaseException | None) -> bool:
    """Tell whether an error comes from a time limit."""
    while error and not isinstance(error, TimeoutError):
        error = error.__cause__ or error.__context__
    return error is not None


def manager() -> docker.APIClient | None:
    """Return a client of this host's engine if that is a manager of a swarm."""
    if not HAS_DOCKER:
        return None
    try:
        client = docker.from_env(version="auto", timeout=ENGINE_SECONDS).api
    except DockerException as error:
        # The lock may be in the swarm of an engine that answers late.
        if is_late(error):
            raise
        return None  # no engine runs
    return client if client.info()["Swarm"]["ControlAvailable"] else None


def utc(seconds: float) -> str:
    """Return a time since the epoch as text."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def act(parameters: dict[str, Any], client: docker.APIClient | None) -> dict[str, Any]:
    """Do what the parameters say, and return what the module returns."""
    name, state, run = parameters["name"], parameters["state"], parameters["run"]
    directory = Path(parameters["locks"])
    places: list[HostLock | SwarmLock] = [HostLock(directory / name)]
    if client:
        places.append(SwarmLock(client, f"{name}.lock"))
    held, other = False, None
    deadline = time.monotonic() + parameters["wait"]
    while state == "held":
        mine = Lock(run, utc(time.time() + parameters["lease"]))
        with alone_in(directory):
            held, other = hold(places, mine, utc(time.time()), parameters["instead_of"], renew=parameters["renew"])
        if held or not other or time.monotonic() >= deadline:
            break
        time.sleep(POLL_SECONDS)
    if state == "released" and (client or directory.exists()):
        with alone_in(directory):
            for place in places:
                lock = place.read()
                if lock and lock.is_of(run["id"]):
                    place.remove(lock)
    if state == "read":
        locks = [place.read() for place in places]
        other = next((lock for lock in locks if lock and lock.until > utc(time.time())), None)
    if parameters["line"]:
        log = Path(parameters["logs"]) / f"{name}.jsonl"
        append(log, parameters["line"], may_begin=parameters["line_begins"])
    return {
        "held": held,
        "lock": {**other.run, "until": other.until} if other else {},
        "noted": bool(parameters["line"]),
        "others": [stack for stack in locked_stacks(client, directory, utc(time.time())) if stack != name],
        "nodes": client.nodes() if client else [],
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "locks": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["read", "held", "released"], "default": "read"},
            "run": {"type": "dict", "default": {}},
            "renew": {"type": "bool", "default": False},
            "instead_of": {"type": "str", "default": ""},
            "wait": {"type": "int", "default": 0},
            "lease": {"type": "int", "default": 3600},
            "logs": {"type": "path"},
            "line": {"type": "dict", "default": {}},
            "line_begins": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.params |= {"state": "read", "line": {}}
    try:
        result = act(module.params, manager())
    except ENGINE_ERRORS as error:
        module.fail_json(msg=f"cannot read or write the lock in the swarm: {error}. {ADVICE}")
    except OSError as error:
        module.fail_json(msg=f"cannot read or write the lock or the audit log of this host: {error}")
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
