"""Samples, once a second, the resource usage of this node and of every Swarm task on it.

``sampler.py FILE SECONDS`` writes FILE (CSV) until FILE.run is removed, for at most SECONDS. It lists the containers through
the engine's API and reads their cgroups (version 1 or 2). It runs on the nodes, which have the distribution's python3-docker.
"""

import csv
import os
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import docker
from docker.errors import DockerException, NotFound

COLUMNS = ("time", "node", "service", "task", "cpu_s", "periods", "throttled", "throttled_s", "memory_b", "limit_cores", "steal_s")
CGROUP = Path("/sys/fs/cgroup")
TICK = os.sysconf("SC_CLK_TCK")
LIST_EVERY_SECONDS = 3


class Task(NamedTuple):
    """A running container: its service, its task, the id of its first process and its CPU limit in cores (0 = none)."""

    service: str
    name: str
    pid: int
    limit: float


def tasks(engine: docker.APIClient, known: Mapping[str, Task]) -> dict[str, Task]:
    """The running Swarm tasks on this node, by container id. Asks only for what is not ``known``; raises OSError, DockerException."""
    found = {}
    for container in engine.containers(filters={"label": ["com.docker.swarm.service.name"]}):
        name, labels = container["Id"], container["Labels"]
        # Swarm starts no container again, so that the process and its limit stay.
        if name in known:
            found[name] = known[name]
            continue
        try:
            details = engine.inspect_container(name)
        except NotFound:
            continue  # the container ended meanwhile
        pid = details["State"]["Pid"]
        if pid:
            limit = details["HostConfig"]["NanoCpus"] / 1e9
            found[name] = Task(labels["com.docker.swarm.service.name"], labels["com.docker.swarm.task.name"], pid, limit)
    return found


def cgroup_directories(pid: int) -> dict[str, Path]:
    """``{controller: directory}`` of a process; the key of the unified hierarchy is ``""``."""
    directories = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            mount = CGROUP / controller if controller else CGROUP
            directories[controller] = mount / path.lstrip("/")
    return directories


def keyed(path: Path) -> dict[str, int]:
    """``{key: number}`` of a file of ``key number`` lines."""
    return {key: int(value) for key, value in (line.split() for line in path.read_text().splitlines())}


def usage(pid: int) -> tuple[float, int, int, float, int]:
    """(CPU s, periods, throttled periods, throttled s, memory bytes without page cache) of a process's cgroup."""
    directories = cgroup_directories(pid)
    if "cpuacct" in directories:
        cpu = keyed(directories["cpu"] / "cpu.stat")
        memory = keyed(directories["memory"] / "memory.stat")
        used = int((directories["memory"] / "memory.usage_in_bytes").read_text()) - memory.get("total_inactive_file", 0)
        seconds = int((directories["cpuacct"] / "cpuacct.usage").read_text()) / 1e9
        return seconds, cpu["nr_periods"], cpu["nr_throttled"], cpu["throttled_time"] / 1e9, used
    directory = directories[""]
    cpu = keyed(directory / "cpu.stat")
    used = int((directory / "memory.current").read_text()) - keyed(directory / "memory.stat").get("inactive_file", 0)
    return (cpu["usage_usec"] / 1e6, cpu.get("nr_periods", 0), cpu.get("nr_throttled", 0), cpu.get("throttled_usec", 0) / 1e6, used)


def node_usage() -> tuple[float, float, int, int]:
    """(busy CPU s, stolen CPU s, used memory bytes, cores) of this node."""
    lines = Path("/proc/stat").read_text().splitlines()
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(value) / TICK for value in lines[0].split()[1:9])
    cores = sum(line.startswith("cpu") for line in lines) - 1
    memory = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in Path("/proc/meminfo").read_text().splitlines()}
    return user + nice + system + irq + softirq, steal, memory["MemTotal"] - memory["MemAvailable"], cores


def sample(known: Mapping[str, Task], node: str) -> list[tuple[object, ...]]:
    """One row for the node and one for each task."""
    now = f"{time.time():.3f}"
    busy, steal, memory, cores = node_usage()
    rows: list[tuple[object, ...]] = [(now, node, "node", node, f"{busy:.3f}", 0, 0, 0, memory, cores, f"{steal:.3f}")]
    for service, task, pid, limit in known.values():
        try:
            cpu, periods, throttled, throttled_s, used = usage(pid)
        except (OSError, KeyError):
            continue  # the task ended
        rows.append((now, node, service, task, f"{cpu:.3f}", periods, throttled, f"{throttled_s:.3f}", used, limit, ""))
    return rows


def is_mine(running: Path) -> bool:
    """Whether FILE.run still has the id of this process; a later sampler replaces it."""
    try:
        return running.read_text() == str(os.getpid())
    except OSError:
        return False


def main(file: Path, seconds: float) -> None:
    """Sample until FILE.run is removed or the time is over."""
    running = file.with_name(file.name + ".run")
    running.parent.mkdir(parents=True, exist_ok=True)
    running.write_text(str(os.getpid()))
    node = socket.gethostname()
    deadline = time.monotonic() + seconds
    known: dict[str, Task] = {}
    engine = None
    listed = float(-LIST_EVERY_SECONDS)
    with file.open("w", newline="") as output:
        writer = csv.writer(output)
        writer.writerow(COLUMNS)
        while is_mine(running) and time.monotonic() < deadline:
            started = time.monotonic()
            if started - listed >= LIST_EVERY_SECONDS:
                try:
                    engine = engine or docker.from_env(version="auto", timeout=5).api
                    known, listed = tasks(engine, known), started
                except (OSError, DockerException) as error:
                    print(f"sampler: the engine does not answer: {error}", file=sys.stderr)
            writer.writerows(sample(known, node))
            output.flush()
            time.sleep(max(0.0, 1 - (time.monotonic() - started)))
    if is_mine(running):
        running.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
