"""What ``./counter status`` takes for a problem."""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from support.ansible import PLAYBOOKS, ROOT, play, results_by_host
from support.https import AUTHORITY, SITE, authority, certificate, pem
from support.json_result import SCHEMA
from support.ports import free_port

from plugins.filter.certificates import https_certificates
from redis_node.disk_space import DATA_MIB


def looked(
    problem: str = "", state: str = "ready", *others: dict[str, Any], availability: str = "active"
) -> dict[str, Any]:
    """Return what was seen of a stack with one service on one node, and of others."""
    node = {"id": "id-1", "name": "node-1", "host": "node-1", "address": "192.0.2.11"}
    node |= {"state": state, "availability": availability}
    return {"results": [{"stack_part": "counter", "services": [{"problem": problem}], "nodes": [node]}, *others]}


def healthy(**differs: Any) -> dict[str, Any]:
    """Return what a host says that needs nothing, but for what differs."""
    usual = {"disk_free_mb": 20000, "disk_used_percent": 40, "memory_mb": 4096, "memory_used_percent": 50}
    return {"health": {"node": "", "load": 0.5, "cpus": 2, "clock_ahead": 0, "reboot": ""} | usual | differs}


def judged(
    site: Path, hosts: dict[str, dict[str, Any]], *options: str, playbook: str = "status.yml"
) -> dict[str, list[str]]:
    """Return what is wrong on each host."""
    usual = {
        "deployed": {"edge": "", "certificates": []},
        "redis_endpoint": {},
        "stack_looks": looked(),
        "status_store": {"status": 200, "json": {}},
    }
    inventory = {"all": {"vars": usual}, "managers": {"hosts": hosts}}
    (site / "hosts.yml").write_text(yaml.safe_dump(inventory))
    # A proxy for the internet does not know the nodes.
    proxy = {"http_proxy": "http://127.0.0.1:1", "no_proxy": ""}
    found = results_by_host(PLAYBOOKS / playbook, site / "hosts.yml", *options, **proxy)
    return {name: result["msg"] for name, result in found.items()}


def test_the_schema_of_the_json_knows_the_status() -> None:
    known = SCHEMA["properties"]["status"]
    report = yaml.safe_load((ROOT / "roles/status/vars/main.yml").read_text(encoding="utf-8"))["status_report"]
    assert set(known["required"]) <= set(known["properties"]) <= set(report)


def test_a_certificate_that_ends_soon_is_a_problem(tmp_path: Path) -> None:
    ends = {name: datetime.now(UTC) + timedelta(days=days) for name, days in {"soon": 59, "later": 62}.items()}
    hosts = {name: {"redis_endpoint": {"certificate_ends": f"{end:%Y%m%d%H%M%SZ}"}} for name, end in ends.items()} | {
        "plain": {"redis_endpoint": {"certificate_ends": ""}},
        "earlier": {"redis_endpoint": {}},
    }
    assert judged(tmp_path, hosts) == {
        "soon": [f"the certificate of Redis expires on {ends['soon']:%Y-%m-%d}: ./counter deploy renews it"],
        "later": [],
        "plain": [],
        "earlier": [],
    }


def shown(
    site: Path, tasks: list[dict[str, Any]], *problems: str, notes: tuple[str, ...] = (), **more: Any
) -> list[str]:
    """Return the lines that ``status`` shows of a stack with one service."""
    service = {"name": "counter_app", "mode": "replicated", "running": 2, "wanted": 2, "image": "app", "tasks": tasks}
    report = {
        **dict.fromkeys(("address", "version", "release"), ""),
        "disk": {},
        "store": {},
        "nodes": [],
        "hosts": {},
        "services": [service],
        "notes": notes,
        "problems": problems,
        **more,
    }
    given = json.dumps({"status_report": report, "site_id": ""})
    lines: Any = judged(site, {"judge": {}}, "-e", given, playbook="status_text.yml")["judge"]
    return [" ".join(line.split()) for line in lines]


def test_the_first_line_says_that_all_is_well_or_what_is_wrong(tmp_path: Path) -> None:
    assert shown(tmp_path, [])[0] == "Well: nothing is missing or broken."
    noted = shown(tmp_path, [], notes=("in maintenance",))
    assert (noted[0], noted[-1]) == (
        "Well: nothing is missing or broken, but read the NOTE at the end.",
        "NOTE: in maintenance",
    )
    lines = shown(tmp_path, [], "one", "two", "three")
    assert (lines[0], lines[-3:]) == ("PROBLEM 1 of 3: one", ["PROBLEM 2 of 3: two", "", "PROBLEM 3 of 3: three"])
    assert shown(tmp_path, [], "one")[0] == "PROBLEM: one"


def test_tasks_are_sorted_and_those_that_failed_last_are_beside_their_successors(tmp_path: Path) -> None:
    """The newest is told first."""

    def task(slot: int, desired: str, error: str = "") -> dict[str, Any]:
        state = "running" if desired == "running" else "failed"
        return {"slot": slot, "node": "node-1", "desired": desired, "state": state, "error": error}

    ended = [task(2, "shutdown", "exit 1"), task(1, "shutdown"), task(3, "shutdown", "too old")]
    lines = shown(tmp_path, [task(10, "running"), task(2, "running"), *ended])
    begin = next(number for number, line in enumerate(lines) if line.startswith("TASK")) + 1
    assert lines[begin : begin + 4] == [
        "counter_app.2 node-1 running",
        "counter_app.2 node-1 failed exit 1",
        "counter_app.10 node-1 running",
        "",
    ]


def test_each_node_has_a_line_with_what_its_host_says(tmp_path: Path) -> None:
    nodes = [
        {"name": name, "role": role, "state": state, "availability": "active", "leader": role == "manager"}
        for name, role, state in (("n-1", "manager", "ready"), ("n-2", "worker", "disconnected"))
    ]
    odd = healthy(node="n-1", disk_used_percent=100, load=12.5, cpus=16, clock_ahead=-3600, reboot="after an update")
    lines = shown(tmp_path, [], nodes=nodes, hosts={"first": odd["health"]})
    begin = next(number for number, line in enumerate(lines) if line.startswith("NODE"))
    assert lines[begin : begin + 4] == [
        "NODE ROLE STATE AVAILABLE DISK MEMORY LOAD CLOCK REBOOT",
        "n-1 manager ready active 100% 50% 12.5 of 16 -3600 s yes leader",
        "n-2 worker disconn active - - - - -",
        "",
    ]


LOST = (
    "Redis at redis-1:6379 is not reachable; if its task runs, this starts it anew: "
    "docker service update --force counter-redis_redis-1"
)


def test_a_set_without_a_primary_or_with_a_replica_that_may_not_lead_is_a_problem(tmp_path: Path) -> None:
    primary, replica, barred = (
        {"name": "redis-1:6379", "role": "primary", "reachable": True},
        {"name": "redis-2:6379", "role": "replica", "reachable": True, "promotable": True},
        {"name": "redis-3:6379", "role": "replica", "reachable": True, "promotable": False},
    )
    cases = {
        "healthy": [primary, replica],
        "barred": [primary, barred],
        "waiting": [{"name": "redis-1:6379", "role": "unknown", "reachable": False}, replica],
    }
    hosts = {
        name: {
            "redis_topology": "sentinel",
            "counter_addresses": ["192.0.2.1"],
            "status_store": {"status": 200, "json": {"nodes": nodes}},
        }
        for name, nodes in cases.items()
    }
    assert judged(tmp_path, hosts) == {
        "healthy": [],
        "barred": [
            "the Sentinels cannot promote redis-3:6379 yet; its log says why: ./counter logs -e service=redis-3"
        ],
        "waiting": [
            LOST,
            "no Redis node is the primary, so counting waits; this shows what each node holds: ./counter promote",
        ],
    }


class App(BaseHTTPRequestHandler):
    """Answers with the first of the server's ``answers`` that are left: Redis nodes, or a page if there are none."""

    def do_GET(self) -> None:
        nodes = self.server.answers.pop(0)  # type: ignore[attr-defined]
        self.send_response(200 if nodes else 503)
        self.send_header("Content-Type", "application/json" if nodes else "text/html")
        self.end_headers()
        self.wfile.write(json.dumps({"nodes": nodes}).encode() if nodes else b"<!doctype html>")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_the_app_is_asked_again_before_a_node_counts_as_unreachable(tmp_path: Path) -> None:
    there, away = ([{"name": "redis-1:6379", "role": "primary", "reachable": reachable}] for reachable in (True, False))
    answers = {"healthy": [there], "paused": [away, there], "gone": [away, away], "page": [[], []]}
    hosts: dict[str, dict[str, Any]] = {"down": {"port": free_port()}}
    with ExitStack() as stack:
        for name, told in answers.items():
            server = stack.enter_context(HTTPServer(("127.0.0.1", 0), App))
            server.answers = told  # type: ignore[attr-defined]
            stack.callback(server.shutdown)
            Thread(target=server.serve_forever).start()
            hosts[name] = {"port": server.server_port}
        origins = json.dumps({"status_store_at": "http://127.0.0.1:{{ port }}"})
        found = judged(tmp_path, hosts, "-e", origins, playbook="status_store.yml")
    silent = {name: found.pop(name) for name in ("down", "page")}
    assert found == {"healthy": [], "paused": [], "gone": [LOST]}
    for name, said in silent.items():
        assert [f"the app does not answer at http://127.0.0.1:{hosts[name]['port']}/api/store"] == [
            text.partition(": ")[0] for text in said
        ]
    assert not any(answers.values())


def test_a_full_disk_is_a_problem_of_its_host_also_while_redis_runs(tmp_path: Path) -> None:
    waiting = "counter-redis_redis-1 on node-2: 0 of 1 tasks run; likely cause: the disk of that host is full"
    hosts: dict[str, dict[str, Any]] = {
        "judge": {
            "stack_looks": looked(waiting),
            "docker_host_state": healthy(disk_free_mb=DATA_MIB),
        },
        "node-2": {"docker_host_state": healthy(disk_free_mb=12, disk_used_percent=99)},
        "node-3": {},
        "node-4": {"docker_host_state": healthy(disk_free_mb=7000, disk_used_percent=85)},
        "node-5": {"docker_host_state": healthy(disk_free_mb=7000, disk_used_percent=84)},
    }
    shown = "docker system df shows what can be removed"
    assert judged(tmp_path, hosts, "--limit", "judge")["judge"] == [
        waiting,
        f"the disk of node-2 has only 12 MiB free, and a Redis node there needs {DATA_MIB}: make room, {shown}",
        "the disk of node-4 with the engine's data is 85 % full, 7000 MiB are free: make room before Redis has none, "
        + shown,
    ]


def test_a_reboot_that_is_needed_and_memory_that_is_used_are_notes(tmp_path: Path) -> None:
    used = "when none is left, the kernel ends programs: docker stats shows what uses it"
    kernel = "the kernel 6.12.48+deb13-amd64 is installed, and 6.12.43+deb13-amd64 runs"
    hosts = {
        "judge": {"docker_host_state": healthy(memory_used_percent=84)},
        "node-2": {"docker_host_state": healthy(memory_used_percent=85)},
        "node-3": {"docker_host_state": healthy(reboot=kernel)},
        "node-4": {},
    }
    assert judged(tmp_path, hosts, "--limit", "judge", playbook="status_notes.yml")["judge"] == [
        f"85 % of the memory of node-2 is used; {used}",
        f"node-3 needs a reboot: {kernel}; docs/hosts.md says how",
    ]


def test_an_old_backup_and_an_old_log_are_problems(tmp_path: Path) -> None:
    now = datetime.now(UTC)

    def note(hours: float, minutes: float | None) -> dict[str, str]:
        """Return what the app tells of a backup of so long ago, and of a log that ended so long ago."""
        made = now - timedelta(hours=hours)
        backup = {"id": f"{made:%Y%m%dT%H%M%SZ}", "time": f"{made:%Y-%m-%dT%H:%M:%SZ}"}
        ended = {} if minutes is None else {"log_until": f"{now - timedelta(minutes=minutes):%Y-%m-%dT%H:%M:%SZ}"}
        return backup | ended

    digest = hashlib.sha256(b"/mnt/copies").hexdigest()[:12]
    notes = {
        "new": note(29, 5),
        "old": note(31, 5),
        "stopped": note(1, 15),
        "failed": note(1, 15) | {"log_failure": "no room"},
        "never": note(1, None),
        "soon": note(0.1, None),
        "slow": note(1, 15),
        "none": None,
        "off": note(31, None),
        "less": {**(note(1, 5) or {}), "less_than": "20261126T030000Z"},
        "unknown": {**(note(1, 5) or {}), "less_than": "", "uncompared": "20261126T030000Z"},
        "copied": {**note(1, 5), "copied": note(29, 5)["time"], "copy_repository": digest, "copy_failure": ""},
        "uncopied": {**note(1, 5), "copied": note(1, 5)["time"], "copy_repository": "another"},
        "copy": {**note(1, 5), "copied": note(1, 5)["time"], "copy_repository": digest, "copy_failure": "no room"},
    }
    settings: dict[str, dict[str, Any]] = {
        "slow": {"backup_log_interval": 600},
        "off": {"backup_log_interval": 0, "backup_max_age": 0},
        **{key: {"backup_copy_repository": "/mnt/copies"} for key in ("copied", "uncopied", "copy")},
    }
    hosts = {
        name: {
            "backup_repository": "/srv/backups",
            "counter_addresses": ["192.0.2.1"],
            "status_store": {"status": 200, "json": {"backup": backup}},
        }
        | settings.get(name, {})
        for name, backup in notes.items()
    }
    makes = "this makes one, or says what is wrong: ./counter backup"

    def ended(when: str, failure: str = "") -> str:
        reason = "this shows why: ./counter logs -e service=backup"
        return f"changes after {when} have not reached /srv/backups{failure}; {reason}"

    less = (
        "counters have less than in backup 20261126T030000Z: if nobody lowered or removed them, Redis lost data; "
        "this shows the backups: ./counter backup -e list=true; this says that the counters are right: "
        "./counter backup -e confirm=counter"
    )
    unknown = (
        "whether counters have less than in backup 20261126T030000Z is unknown, since it cannot be read; "
        "this compares it again: ./counter backup"
    )
    copies = "this copies what is missing, or says what is wrong: ./counter backup"
    copied = note(1, 5)["time"]
    old, stopped = notes["old"], notes["stopped"]
    assert old
    assert stopped
    assert judged(tmp_path, hosts) == {
        "new": [],
        "old": [f"the newest proved backup is {old['id']}, older than backup_max_age=30 hours; {makes}"],
        "stopped": [ended(stopped["log_until"])],
        "failed": [ended(stopped["log_until"], " (no room)")],
        "never": [ended("the newest backup")],
        "soon": [],
        "slow": [],
        "none": [f"there is no proved backup; {makes}"],
        "off": [],
        "less": [less],
        "unknown": [unknown],
        "copied": [],
        "uncopied": [f"there is no proved copy in /mnt/copies; {copies}"],
        "copy": [f"the newest backup with a proved copy in /mnt/copies is of {copied} (no room); {copies}"],
    }


def test_an_edge_with_another_configuration_and_a_certificate_that_ends_are_problems(tmp_path: Path) -> None:
    ends = {
        name: f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"
        for name, days in {"soon.example": 6, "later.example": 9}.items()
    }
    deployed = {"edge": "new", "certificates": [{"names": [name], "ends": end} for name, end in ends.items()]}
    hosts: dict[str, dict[str, Any]] = {
        "judge": {"deployed": deployed},
        "one": {"edge_loaded": {"loaded": {"edge-1": "new", "edge-2": "old"}}},
        "two": {"edge_loaded": {"failed": True}},
        "three": {"edge_loaded": {"loaded": {"edge-3": ""}}},
    }
    assert judged(tmp_path, hosts, "--limit", "judge")["judge"] == [
        "the edge edge-2 has not loaded the configuration that was deployed; this loads it: ./counter deploy",
        "the edge edge-3 has not loaded the configuration that was deployed; this loads it: ./counter deploy",
        "the certificate for soon.example ends within 7 days; replace its file, and run ./counter deploy",
    ]


def test_a_host_that_ssh_cannot_reach_is_a_problem(tmp_path: Path) -> None:
    hosts: dict[str, dict[str, Any]] = {
        "there": {"edge_loaded": {"loaded": {}}},
        "gone": {"edge_loaded": {"unreachable": True}},
    }
    said = ["gone cannot be reached by SSH, so its edge and its disk were not checked"]
    assert judged(tmp_path, hosts) == {"there": said, "gone": said}


@pytest.mark.parametrize(("availability", "host"), [("drain", "judge"), ("pause", "judge"), ("drain", "stranger")])
def test_a_host_that_is_out_of_service_is_the_first_problem(tmp_path: Path, availability: str, host: str) -> None:
    """Not a node that is none of ours, which may be drained so that it gets no tasks."""
    looks = looked("counter-redis_redis-1: it is being updated", availability=availability)
    looks["results"][0]["nodes"][0]["host"] = host
    back = "this brings it back: ./counter node -e host=judge -e state=active"
    out = [f"judge is out of service: Swarm gives no tasks to it; {back}"] if host == "judge" else []
    found = judged(tmp_path, {"judge": {"stack_looks": looks}})
    assert found == {"judge": [*out, "counter-redis_redis-1: it is being updated"]}


def told(site: Path, name: str, **given: Any) -> Any:
    """Return a variable of the role status for a host with these variables."""
    engine = {"host_info": {"Swarm": {"NodeAddr": "192.0.2.11", "NodeID": "id-1"}}}
    deployed = {"settings": {"http_port": 80, "edge_tls": "none"}, "addresses": ["192.0.2.11", "192.0.2.12"]}
    host = {"ansible_connection": "local", "docker_host_engine": engine, "deployed": deployed, **given}
    (site / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": {"judge": host}}}))
    tasks = {"ansible.builtin.debug": {"msg": f"{{{{ {name} }}}}"}}
    play_vars = [play(tasks)[0] | {"vars_files": [str(ROOT / "roles/status/vars/main.yml")]}]
    (site / "play.yml").write_text(yaml.safe_dump(play_vars))
    found = results_by_host(site / "play.yml", site / "hosts.yml", ANSIBLE_ROLES_PATH=str(ROOT / "roles"))
    return found["judge"]["msg"]


@pytest.mark.parametrize(("availability", "asked"), [("active", "192.0.2.11"), ("drain", "192.0.2.12")])
def test_a_manager_that_is_out_of_service_asks_another_node(tmp_path: Path, availability: str, asked: str) -> None:
    looks = looked(availability=availability)
    # It may know itself by another address.
    looks["results"][0]["nodes"][0] |= {"host": "judge", "address": "0.0.0.0"}  # noqa: S104
    assert told(tmp_path, "status_store_at", stack_looks=looks).startswith(f"http://{asked}")


def test_an_uneven_spread_is_noted(tmp_path: Path) -> None:
    looks = looked()
    second = looks["results"][0]["nodes"][0] | {"id": "id-2", "name": "node-2"}
    looks["results"][0]["nodes"].append(second)
    tasks = [{"node_id": "id-1", "desired": "running", "state": "running"}] * 2
    app = {"name": "counter_app", "mode": "replicated", "wanted": 2, "tasks": tasks, "problem": ""}
    looks["results"][0]["services"] = [app]
    assert told(tmp_path, "__status_uneven_note", stack_looks=looks) == (
        "the replicas of counter_app could be spread better over the nodes (node-1 2, node-2 0). This spreads them: "
        "./counter deploy"
    )


def test_what_does_not_run_or_answer_is_a_problem(tmp_path: Path) -> None:
    nodes = [{"name": f"redis-{one}", "role": "primary", "reachable": True, "slots": 5461} for one in (1, 2)]
    hosts: dict[str, dict[str, Any]] = {
        "judge": {
            "redis_topology": "cluster",
            "status_store": {"status": 200, "json": {"nodes": nodes}},
            "stack_looks": looked("", "down", {"stack_part": "redis", "services": [], "nodes": []}),
        },
        "stuck": {"docker_host_state": {"engine": {"msg": "Read timed out. (read timeout=30)"}}},
        "stopped": {"docker_host_state": {"engine": {"msg": "Connection refused"}}},
        "well": {"docker_host_state": {"engine": {"host_info": {}}}},
    }
    assert judged(tmp_path, hosts, "--limit", "judge")["judge"] == [
        "the engine of stuck does not answer; on that host, this shows why: systemctl status docker",
        "the stack of redis is not deployed; this deploys it: ./counter deploy",
        "the node node-1 is down; if its host runs, this starts its engine there: systemctl start docker",
        "5462 of 16384 slots have no reachable primary; their counters cannot be reached",
    ]


@pytest.mark.parametrize("issued", [False, True])
def test_the_placeholder_of_a_certificate_is_a_problem(tmp_path: Path, *, issued: bool) -> None:
    pair = {"certificate": certificate(SITE) if issued else authority(), "key": pem(SITE if issued else AUTHORITY)}
    files = {f"acme/{name}.pem": {"content": content} for name, content in pair.items()}
    host = {"edge_tls": "acme", "edge_domains": ["counter.example"], "deployed_store": {"files": files}}
    said = "clients refuse the placeholder that is served, since the authority has issued no certificate yet; "
    expected = [] if issued else [f"{said}./counter certificates renews it"]
    assert judged(tmp_path, {"judge": host}) == {"judge": expected}


LATE = "the certificate for counter.example should have been renewed, and ends soon"


@pytest.mark.parametrize(
    ("days", "others", "failure", "said"),
    [
        # Not one whose lifetime is short.
        ((-3, 3), None, "", ""),
        ((-80, 10), None, "", LATE),
        ((-80, 10), None, "refused", f"{LATE} (2026-12-02T03:00:00Z: refused)"),
        # The keeper has renewed it on another manager.
        ((-80, 10), (-2, 88), "", ""),
    ],
)
def test_a_certificate_that_an_authority_should_have_renewed_is_a_problem(
    tmp_path: Path, days: tuple[int, int], others: tuple[int, int] | None, failure: str, said: str
) -> None:
    keeper = json.dumps({"renewal": {"attempted": "2026-12-02T03:00:00Z", "failure": failure}})

    def host(text: str) -> dict[str, Any]:
        files = {"acme/certificate.pem": text, "acme/key.pem": pem(SITE), "keeper/state.json": keeper}
        return {
            "edge_tls": "acme",
            "edge_domains": ["counter.example"],
            "deployed": {
                "edge": "",
                "images": {"keeper": "counter-keeper"},
                "certificates": https_certificates([{"certificate": text, "key": pem(SITE)}]),
            },
            "deployed_store": {"files": {path: {"content": content, "mtime": 1} for path, content in files.items()}},
        }

    hosts = {"judge": host(certificate(SITE, days=days))}
    if others:
        hosts["other"] = host(certificate(SITE, days=others))
    found = judged(tmp_path, hosts)["judge"]
    assert found == ([f"{said}; ./counter certificates renews it"] if said else [])


def test_messages_that_do_not_arrive_are_a_problem_while_there_is_a_keeper(tmp_path: Path) -> None:
    receiver = "number 2 of notify_urls (json)"
    state = {"content": json.dumps({"unreached": {receiver: "2026-12-02T03:00:00Z: refused"}}), "mtime": 1}
    host = {"deployed_store": {"files": {"keeper/state.json": state}}}
    keeper = {"deployed": {"edge": "", "certificates": [], "images": {"keeper": "counter-keeper"}}}
    found = judged(tmp_path, {"judge": host | keeper, "former": host})
    said = f"messages about problems do not reach {receiver} (2026-12-02T03:00:00Z: refused)"
    assert found == {"judge": [f"{said}; this shows more: ./counter logs -e service=keeper"], "former": []}


def test_clocks_that_differ_are_a_problem(tmp_path: Path) -> None:
    hosts: dict[str, dict[str, Any]] = {
        "judge": {"docker_host_state": healthy(clock_ahead=2)},
        "node-2": {"docker_host_state": healthy(clock_ahead=-600)},
        "node-3": {},
    }
    (problem,) = judged(tmp_path, hosts, "--limit", "judge")["judge"]
    assert problem.startswith(
        "the clocks of judge (2 s), node-2 (-600 s) differ by more than preflight_max_clock_skew=60"
    )
    assert problem.endswith("timedatectl set-ntp true")
    hosts["node-2"]["docker_host_state"] = healthy(clock_ahead=-50)
    assert judged(tmp_path, hosts, "--limit", "judge")["judge"] == []
