"""One run at a time changes a stack; each leaves a line in the audit log, and releases the lock however it ends."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from docker.errors import APIError, DockerException, NotFound
from requests import HTTPError, Response
from support.ansible import PLAYBOOKS, ROOT, TIMEOUT_SECONDS, load, project_environment, run
from support.json_result import json_result
from support.ports import closed_port
from support.waiting import wait_until

lock = load("roles/run/library/stack_lock.py")
runs = load("plugins/filter/runs.py")
run_record = load("plugins/callback/run_record.py")

EARLY, NOW, LATE = "2026-01-01T10:00:00Z", "2026-01-01T11:00:00Z", "2026-01-01T12:00:00Z"

# -- The decisions of the module, with the file of a host and a swarm that answers as the engine's API does.


class Swarm:
    """The configs of a swarm. `faster` is a lock that another run creates just before this one does."""

    base_url, api_version = "http://engine", "1.41"

    def __init__(self) -> None:
        self.by_name: dict[str, dict[str, Any]] = {}
        self.faster: Any = None
        self.broken = False

    def inspect_config(self, name: str) -> dict[str, Any]:
        if name not in self.by_name:
            raise NotFound("no such config")
        return json.loads(json.dumps(self.by_name[name]))

    def create_config(self, name: str, data: bytes, labels: dict[str, str]) -> None:
        if self.faster:
            faster, self.faster = self.faster, None
            lock.SwarmLock(self, name).create(faster)
        if name in self.by_name:
            answer = Response()
            answer.status_code = 409
            raise APIError("already exists", answer)
        spec = {"Name": name, "Data": lock.base64.b64encode(data).decode(), "Labels": labels}
        self.by_name[name] = {"ID": os.urandom(4).hex(), "Version": {"Index": 1}, "Spec": spec}

    def remove_config(self, config: str) -> None:
        found = [name for name, value in self.by_name.items() if value["ID"] == config]
        if not found:
            raise NotFound("no such config")
        del self.by_name[found[0]]

    def post(self, url: str, params: dict[str, int], json: dict[str, Any], timeout: float) -> Any:
        assert timeout
        for config in [] if self.broken else self.by_name.values():
            if url.endswith(f"/{config['ID']}/update") and params["version"] == config["Version"]["Index"]:
                config["Spec"] = json
                config["Version"]["Index"] += 1
                return SimpleNamespace(ok=True)
        return SimpleNamespace(ok=False, raise_for_status=self._fail)

    def _fail(self) -> None:
        raise HTTPError("500 Server Error")

    def info(self) -> dict[str, Any]:
        return {"Swarm": {"ControlAvailable": True}}

    def nodes(self) -> list[dict[str, Any]]:
        return []

    def configs(self) -> list[dict[str, Any]]:
        return [*self.by_name.values(), {"Spec": {"Name": "counter_haproxy-1", "Labels": None}}]


def a_run(name: str) -> dict[str, str]:
    return {"id": name, "verb": "deploy"}


@pytest.fixture
def places(tmp_path: Path) -> list[Any]:
    return [lock.HostLock(tmp_path / "counter"), lock.SwarmLock(Swarm(), "counter.lock")]


def hold(places: list[Any], name: str, until: str = LATE, instead_of: str = "", *, renew: bool = False) -> Any:
    held, other = lock.hold(places, lock.Lock(a_run(name), until), NOW, instead_of, renew=renew)
    return held, other and other.run["id"]


@pytest.mark.parametrize("where", [slice(0, 1), slice(0, 2)], ids=["host", "swarm"])
def test_a_lock_is_taken_once_renewed_by_its_holder_and_replaced_when_it_ends(places: list[Any], where: slice) -> None:
    here = places[where]
    assert hold(here, "mine") == (True, None)
    assert hold(here, "other") == (False, "mine")
    assert hold(here, "mine", EARLY, renew=True) == (True, None)
    assert here[-1].read().until == EARLY
    # The lease has ended.
    assert hold(here, "other") == (True, "mine")
    assert hold(here, "mine", renew=True) == (False, "other")
    # The process of the holder has ended.
    assert hold(here, "third", instead_of="mine") == (False, "other")
    assert hold(here, "third", instead_of="other") == (True, "other")
    here[-1].remove(here[-1].read())
    assert hold(here, "third", renew=True) == (False, None)
    assert here[-1].read() is None


def test_a_lock_of_the_host_moves_into_the_swarm(places: list[Any]) -> None:
    host, swarm = places
    assert hold([host], "mine") == (True, None)
    # Another run sees the swarm first.
    assert hold(places, "other") == (False, "mine")
    assert hold(places, "mine", renew=True) == (True, None)
    assert (host.read(), swarm.read().run) == (None, a_run("mine"))
    assert hold(places, "other") == (False, "mine")


def test_of_two_runs_that_see_no_lock_one_gets_it(places: list[Any]) -> None:
    places[-1].client.faster = lock.Lock(a_run("faster"), LATE)
    assert hold(places, "mine") == (False, "faster")
    assert places[0].read() is None


def test_a_lock_that_was_replaced_meanwhile_is_neither_renewed_nor_removed(places: list[Any]) -> None:
    swarm = places[-1]
    assert hold(places, "mine")[0]
    seen = swarm.read()
    assert hold(places, "other", instead_of="mine")[0]
    assert not swarm.extend(seen, LATE)
    swarm.remove(seen)
    assert swarm.read().run == a_run("other")


def test_an_engine_that_fails_to_renew_a_lock_is_not_taken_for_another_run(places: list[Any]) -> None:
    assert hold(places, "mine")[0]
    places[-1].client.broken = True
    with pytest.raises(HTTPError):
        hold(places, "mine", renew=True)


def parameters(site: Path, **more: Any) -> dict[str, Any]:
    given = {"name": "counter", "locks": str(site / "locks"), "state": "read", "run": {}, "renew": False}
    return given | {"instead_of": "", "wait": 0, "lease": 60, "logs": str(site / "logs"), "line": {}} | more


def take(site: Path, name: str) -> bool:
    return bool(lock.act(parameters(site, state="held", run=a_run(name)), None)["held"])


def test_of_many_runs_at_once_one_gets_the_lock_of_a_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = lock.HostLock.read

    def read_slowly(place: Any) -> Any:
        found = read(place)
        time.sleep(0.02)
        return found

    monkeypatch.setattr(lock.HostLock, "read", read_slowly)
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take, repeat(tmp_path), [f"run-{number}" for number in range(40)])) == 1


def test_only_the_holder_releases_a_lock_and_reading_changes_nothing(tmp_path: Path) -> None:
    assert lock.act(parameters(tmp_path), None)["lock"] == {}
    assert not list(tmp_path.iterdir())
    assert take(tmp_path, "mine")
    lock.act(parameters(tmp_path, state="released", run=a_run("other")), None)
    assert lock.act(parameters(tmp_path), None)["lock"]["id"] == "mine"
    lock.act(parameters(tmp_path, state="released", run=a_run("mine")), None)
    assert lock.act(parameters(tmp_path), None)["lock"] == {}


def test_other_stacks_whose_locks_are_held_are_named(tmp_path: Path) -> None:
    assert take(tmp_path, "mine")
    (tmp_path / "locks/second").write_text(json.dumps({"run": a_run("other"), "until": "2999-01-01T00:00:00Z"}))
    (tmp_path / "locks/ended").write_text(json.dumps({"run": a_run("another"), "until": EARLY}))
    assert lock.act(parameters(tmp_path), None)["others"] == ["second"]
    swarm = Swarm()
    lock.SwarmLock(swarm, "third.lock").create(lock.Lock(a_run("third"), "2999-01-01T00:00:00Z"))
    lock.SwarmLock(swarm, "fourth.lock").create(lock.Lock(a_run("fourth"), EARLY))
    assert lock.act(parameters(tmp_path), swarm)["others"] == ["second", "third"]


def test_an_engine_that_answers_late_is_not_taken_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The swarm may have the lock of another run."""
    monkeypatch.setattr(lock, "ENGINE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(DockerException):
            lock.manager()
    assert lock.manager() is None


def test_a_long_log_is_rotated_and_the_oldest_lines_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "LOG_BYTES", 100)
    log = tmp_path / "logs/counter.jsonl"
    lock.append(log, {"number": 0}, may_begin=False)
    assert not log.parent.exists()
    for number in range(60):
        lock.append(log, {"number": number}, may_begin=True)
    names = ["counter.jsonl", *(f"counter.jsonl.{number}" for number in range(1, lock.OLD_LOGS + 1))]
    assert sorted(path.name for path in log.parent.iterdir()) == names
    texts = [(log.parent / name).read_text() for name in reversed(names)]
    numbers = [json.loads(line)["number"] for text in texts for line in text.splitlines()]
    assert numbers == list(range(numbers[0], 60))
    assert numbers[0] > 0
    assert {path.stat().st_mode & 0o777 for path in log.parent.iterdir()} == {0o600}
    assert log.parent.stat().st_mode & 0o777 == 0o700


# -- Filters


def test_a_process_is_known_to_have_ended_only_on_its_own_machine() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        there = {"process": runs.process(process.pid)}
        assert not runs.has_ended(there)
        elsewhere = {"process": there["process"] | {"machine": "another"}}
        # Another process has its number now.
        assert runs.has_ended({"process": there["process"] | {"start": "1"}})
        assert runs.has_ended({"process": there["process"] | {"boot": "the one before"}})
        process.kill()
        process.wait()
    assert runs.has_ended(there)
    assert not runs.has_ended(elsewhere)


def test_a_process_that_proc_hides_from_other_users_has_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        there = {"process": runs.process(process.pid)}

        def read(path: str) -> str:
            """Return the content of a file that other users may read."""
            shown = Path(path).exists() and not path.endswith("/stat")
            return Path(path).read_text(encoding="utf-8").strip() if shown else ""

        monkeypatch.setattr(runs, "_read", read)
        assert runs.has_ended(there)

        def refuse(_pid: int, _signal: int) -> None:
            raise PermissionError

        monkeypatch.setattr(runs.os, "kill", refuse)
        assert not runs.has_ended(there)
        assert runs.has_ended({"process": there["process"] | {"boot": "the one before"}})
        monkeypatch.undo()
        process.kill()


def test_a_machine_without_proc_knows_of_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"process": runs.process(os.getpid())}
    monkeypatch.setattr(runs.Path, "readlink", lambda _path: (_ for _ in ()).throw(FileNotFoundError()))
    assert not runs.has_ended(there)
    assert not runs.has_ended({"process": runs.process(1)})


def test_secrets_differ_and_are_not_shown() -> None:
    shown = runs.without_secrets({"replicas": "6", "redis_password": "one", "app_environment": {"A": 1}}, ["replicas"])
    assert shown["replicas"] == "6"
    assert re.fullmatch("sha256:[0-9a-f]{12}", shown["redis_password"])
    assert len(set(shown.values())) == 3
    assert runs.without_secrets({"ansible_become_password": "one"}, []) == {"ansible_become_password": "***"}
    assert runs.without_secrets({"redis_password": "two"}, [])["redis_password"] != shown["redis_password"]


# -- Whole runs of a verb, on this machine as a host without an engine


class Site:
    """A manager in a directory, with locks, logs and hooks of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.lock, self.log = directory / "locks/counter", directory / "logs/counter.jsonl"
        self.hooks = directory / "hooks"
        self.hooks.mkdir()
        host = {"ansible_connection": "local", "ansible_become": False}
        (directory / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": {"one": host}}}))

    def command(self, playbook: Path, options: Mapping[str, Any], *more: str) -> list[str]:
        own = {"run_locks": str(self.lock.parent), "run_logs": str(self.log.parent)}
        given = json.dumps({"run_hook_directory": str(self.hooks), **own, **options})
        program = [sys.executable, str(ROOT / "launcher/run_playbook.py"), "ansible-playbook"]
        return [*program, "-i", str(self.directory / "hosts.yml"), str(playbook), "-e", given, *more]

    @property
    def environment(self) -> dict[str, str]:
        return {"DOCKER_HOST": "tcp://127.0.0.1:1", "ANSIBLE_STDOUT_CALLBACK": "stages"}

    def run(self, *more: str, playbook: Path = PLAYBOOKS / "run.yml", **options: Any) -> tuple[int, str]:
        """Run the verb as ./counter does; return its exit code, and what it prints in one line."""
        done = run(*self.command(playbook, options, *more), **self.environment)
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    def start(self, **options: Any) -> subprocess.Popen[str]:
        """Start a run that changes something, and then waits until `go_on` is called; return it when it waits."""
        (self.directory / "waits").touch()
        process = subprocess.Popen(
            self.command(PLAYBOOKS / "run.yml", {"verb_waits": str(self.directory / "waits")} | options),
            cwd=ROOT,
            env=project_environment(**self.environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        # Not earlier: Ansible can hang if it is interrupted while a task hands over its result.
        reached = self.directory / "waits.reached"
        wait_until("the run to wait", lambda: reached.exists() or process.poll() is not None, TIMEOUT_SECONDS)
        assert reached.exists(), process.communicate()[0]
        return process

    def run_on_a_terminal(self, answer: str, **options: Any) -> tuple[int, str]:
        """Run the verb at a terminal, where somebody answers its question; return its exit code and the output."""
        mine, theirs = pty.openpty()
        process = subprocess.Popen(
            self.command(PLAYBOOKS / "run.yml", options),
            cwd=ROOT,
            env=project_environment(**self.environment, TERM="xterm"),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(theirs, termios.TIOCSCTTY, 0),  # noqa: PLW1509  # a terminal to be asked at
        )
        os.close(theirs)
        shown, answered = "", False
        with suppress(OSError):  # a terminal whose programs have all ended gives an error on Linux
            while part := os.read(mine, 65536).decode(errors="replace"):
                shown += part
                # Ansible drops what was typed before it asks.
                if not answered and "leaves everything as it is:" in shown:
                    time.sleep(1)
                    os.write(mine, f"{answer}\r".encode())
                    answered = True
        os.close(mine)
        return process.wait(TIMEOUT_SECONDS), " ".join(shown.split())

    def go_on(self) -> None:
        (self.directory / "waits").unlink()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def hook(self, name: str, text: str, mode: int = 0o755) -> None:
        path = self.hooks / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(mode)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    found = Site(tmp_path)
    yield found
    (tmp_path / "waits").unlink(missing_ok=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    return process.returncode, " ".join(said.split())


def test_a_run_leaves_a_line_and_no_lock(site: Site) -> None:
    code, _ = site.run(replicas=6, redis_password="hidden", ansible_secret="hidden")  # noqa: S106
    assert code == 0
    assert not site.lock.exists()
    (line,) = site.lines()
    assert (line["verb"], line["verdict"], line["sentence"]) == ("scale", "changed", "It is changed.")
    assert line["settings"]["replicas"] == 6
    assert line["who"].endswith(f"@{os.uname().nodename}")
    assert line["from"].startswith(str(ROOT))
    assert line["version"] == (ROOT / "VERSION").read_text().strip()
    assert 0 < line["seconds"] < TIMEOUT_SECONDS
    assert "hidden" not in site.log.read_text()
    assert {"redis_password", "ansible_secret"} <= set(line["settings"])


def test_every_manager_gets_the_line_but_one_that_cannot_be_reached(site: Site) -> None:
    local = {"ansible_connection": "local", "ansible_become": False}
    with closed_port() as port:
        hosts = {
            "one": local,
            "two": {"ansible_host": "127.0.0.1", "ansible_port": port},
            "three": local,
        }
        (site.directory / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": hosts}}, sort_keys=False))
        code, said = site.run()
    assert (code, "WARNING: two cannot be reached, so its audit log lacks this run" in said) == (0, True), said
    # Both have the same directory here.
    assert [line["verdict"] for line in site.lines()] == ["changed", "changed"]


def test_a_run_that_changes_nothing_says_so(site: Site) -> None:
    assert site.run(verb_changes=False)[0] == 0
    assert [line["verdict"] for line in site.lines()] == ["unchanged"]


def test_a_run_that_fails_releases_the_lock_and_says_why(site: Site) -> None:
    site.hook("after-failure", f'env | grep ^COUNTER_ >{site.directory}/told; echo "not sent" >&2; exit 3')
    site.hook("after-scale", f"touch {site.directory}/told-of-success")
    code, said = site.run(verb_fails=True)
    assert code == 1
    assert not site.lock.exists()
    assert "WARNING: hooks/after-failure ended with exit code 3: not sent" in said
    (line,) = site.lines()
    assert line["verdict"] == "failed"
    assert line["sentence"].startswith("Fail: ")
    given = dict(entry.split("=", 1) for entry in (site.directory / "told").read_text().splitlines())
    assert (given["COUNTER_VERB"], given["COUNTER_STACK"], given["COUNTER_RUN"]) == ("scale", "counter", line["run"])
    assert (given["COUNTER_VERDICT"], given["COUNTER_SENTENCE"]) == ("failed", line["sentence"])
    assert (given["COUNTER_REPLICAS"], given["COUNTER_URL"]) == ("4", "")
    assert not (site.directory / "told-of-success").exists()


def test_neither_a_failure_that_is_rescued_nor_one_of_a_hook_after_the_run_counts(site: Site) -> None:
    site.hook("after-failure", f"touch {site.directory}/told")
    site.hook("after-scale", 'printf "\\377"; echo "$COUNTER_VERDICT: $COUNTER_SENTENCE"; exit 1')
    code, said = site.run(verb_is_rescued=True)
    assert code == 0
    assert "WARNING: hooks/after-scale ended with exit code 1: changed: It is changed." in said
    (line,) = site.lines()
    assert (line["verdict"], line["sentence"]) == ("changed", "It is changed.")
    assert not (site.directory / "told").exists()


def test_a_run_that_is_refused_leaves_a_line_where_there_is_a_log(site: Site) -> None:
    for name in ("after-failure", "after-scale"):
        site.hook(name, f"touch {site.directory}/told")
    assert site.run(verb_refuses=True)[0] == 3
    assert (site.lines(), site.lock.parent.exists()) == ([], False)
    site.log.parent.mkdir()
    site.log.touch()
    assert site.run(verb_refuses=True)[0] == 3
    assert [(line["verdict"], line["sentence"]) for line in site.lines()] == [
        ("refused", "Refuse it: Assertion failed")
    ]
    assert not (site.directory / "told").exists()


def test_of_a_loop_over_hosts_those_that_cannot_be_reached_are_named() -> None:
    items = [{"item": "one"}, {"item": "two", "unreachable": True, "msg": "refused"}]
    task, host = SimpleNamespace(delegate_to="{{ item }}"), SimpleNamespace(get_name=lambda: "first")
    loop = SimpleNamespace(result={"results": items, "msg": "All items completed"}, task=task, host=host)
    assert (run_record.away(loop), run_record.messages(loop.result)) == ("two", ["refused"])
    alone = SimpleNamespace(result={"unreachable": True, "msg": "refused"}, task=task, host=host)
    assert (run_record.away(alone), run_record.messages(alone.result)) == ("first", ["refused"])


def test_a_pipe_with_variables_is_not_read_again_at_the_end_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of `sops exec-file`: nothing writes to it any more."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    text = json.dumps({"app_environment": {"TEXT": "long" * 2000}})
    given = (text, f"@{tmp_path}/file", f"@{tmp_path}/pipe")
    monkeypatch.setattr(run_record.context, "CLIARGS", {"extra_vars": given})
    words = run_record.command(with_password=False, in_haste=False)
    handed_on = [word.partition("=")[2] for word in words if word.startswith("--extra-vars")]
    assert handed_on == [text, f"@{tmp_path}/file"]


def test_the_name_of_a_task_that_fails_says_what_that_means() -> None:
    verdicts = {
        ("ansible.builtin.assert", "Refuse invalid values"): "refused",
        ("ansible.builtin.fail", "Refuse to run without a deployment"): "refused",
        ("ansible.builtin.fail", "Refuse to continue without the new primary"): "failed",
        ("ansible.builtin.fail", "Report what is missing or broken"): "broken",
        ("ansible.builtin.fail", "Report why it failed"): "failed",
        ("ansible.builtin.command", "Refuse"): "failed",
    }
    for (action, name), verdict in verdicts.items():
        assert run_record.verdict_on(SimpleNamespace(action=action, name=name)) == verdict, name


def test_a_second_run_is_refused_or_waits(site: Site) -> None:
    site.log.parent.mkdir()
    site.log.touch()
    first = site.start()
    code, said = site.run(replicas=6, ansible_become_password="hunter2")  # noqa: S106
    assert code == 3
    assert re.search(r"Nothing was changed. \S+@\S+ started ./counter scale on counter at \S+ \(run [0-9a-f]{8}", said)
    # The same command, so that it does not do less.
    assert re.search(
        r"\./counter scale( -e \S+)* -e replicas=6 -e lock_wait=600 -e @file-with-\S*become_password", said
    )
    assert "hunter2" not in said + site.log.read_text()
    assert "./counter unlock -e confirm=counter" in said
    code, said = site.run("--check")
    assert (code, "Until it ends, this would be refused" in said) == (5, True), said
    second = subprocess.Popen(
        site.command(PLAYBOOKS / "run.yml", {"lock_wait": 100}),
        cwd=ROOT,
        env=project_environment(**site.environment),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert second.stdout
    assert any("Waiting for it, at most 100 s" in line for line in second.stdout)
    site.go_on()
    assert finish(first)[0] == 0
    assert finish(second)[0] == 0
    assert [line["verdict"] for line in site.lines()] == ["refused", "changed", "changed"]
    assert not site.lock.exists()


def test_a_run_goes_on_after_one_that_was_killed(site: Site) -> None:
    first = site.start()
    os.killpg(first.pid, signal.SIGKILL)
    finish(first)
    assert site.lock.exists()
    code, said = site.run()
    assert code == 0
    assert re.search(
        r"counter was locked by ./counter scale of \S+ \(run \w+\), which has ended on this machine.", said
    )
    assert not site.lock.exists()


def test_an_interrupted_run_releases_the_lock(site: Site) -> None:
    first = site.start()
    os.killpg(first.pid, signal.SIGINT)
    assert finish(first)[0] == 1
    assert not site.lock.exists()
    assert [(line["verdict"], line["sentence"]) for line in site.lines()] == [("failed", "The run was interrupted.")]


LOSES = "Twelve counters would be lost."


@pytest.mark.parametrize(("answer", "code"), [("counter", 0), ("yes", 3), ("", 3)])
def test_at_a_terminal_a_verb_asks_before_something_is_lost(site: Site, answer: str, code: int) -> None:
    found, said = site.run_on_a_terminal(answer, verb_loses=LOSES)
    assert (found, (site.directory / "changed").exists()) == (code, code == 0), said
    assert f"{LOSES} If that is what you want, type the name of the stack, counter." in said
    refusal = f"Nothing was changed. {LOSES} The answer was '{answer}', and not counter."
    assert (refusal in said) == (code != 0)
    assert not site.lock.exists()


@pytest.mark.parametrize(
    ("options", "words", "result", "says"),
    [
        ({}, (), "done", ""),
        ({}, ("--check",), "would change", ""),
        ({"verb_refuses": True}, (), "refused", "Assertion failed"),
        ({"verb_loses": LOSES}, (), "refused", f"Nothing was changed. {LOSES}"),
    ],
)
def test_the_result_is_one_json_document(
    site: Site, options: dict[str, Any], words: tuple[str, ...], result: str, says: str
) -> None:
    """Whatever else is printed is on standard error."""
    done = run(*site.command(PLAYBOOKS / "run.yml", options | {"json": True}, *words), **site.environment)
    found = json_result(done)
    assert (found["verb"], found["result"], found["changes"] > 0) == ("scale", result, not says), done.stderr
    assert found["message"].startswith(says)
    assert "begins" in done.stderr


def test_without_a_terminal_the_name_of_the_stack_must_be_typed(site: Site) -> None:
    code, said = site.run(verb_loses=LOSES)
    assert (code, (site.directory / "changed").exists()) == (3, False), said
    assert re.search(rf"{LOSES} If that is what you want: ./counter scale .*-e confirm=counter", said)
    code, said = site.run(verb_loses=LOSES, confirm="counter")
    assert (code, (site.directory / "changed").exists()) == (0, True), said


def test_hosts_without_a_swarm_are_prepared_for_one_stack_at_a_time(site: Site) -> None:
    site.lock.parent.mkdir(mode=0o700)
    (site.lock.parent / "second").write_text(json.dumps({"run": a_run("other"), "until": "2999-01-01T00:00:00Z"}))
    code, said = site.run()
    assert (code, "./counter unlock -e stack_name=second" in said) == (3, True), said
    assert not (site.directory / "changed").exists()
    assert not site.lock.exists()


def test_a_run_of_another_machine_is_replaced_only_after_its_lease(site: Site) -> None:
    there = {"machine": "another", "boot": "", "pid": 1, "start": "1"}
    other = {"id": "0" * 8, "verb": "deploy", "who": "eve@there", "from": "/srv", "since": EARLY, "process": there}
    site.lock.parent.mkdir(mode=0o700)
    site.lock.write_text(json.dumps({"run": other, "until": "2999-01-01T00:00:00Z"}))
    code, said = site.run()
    assert code == 3
    assert "eve@there started ./counter deploy on counter" in said
    assert "Its lease ends at 2999-01-01T00:00:00Z" in said
    site.lock.write_text(json.dumps({"run": other, "until": EARLY}))
    code, said = site.run()
    assert code == 0
    assert "of eve@there (run 00000000), which did not renew its lock before the lease ended" in said


def test_a_lock_that_was_removed_stops_its_run(site: Site) -> None:
    unlock = PLAYBOOKS / "unlock.yml"
    assert "No run holds the lock of counter" in site.run(playbook=unlock)[1]
    first = site.start()
    code, said = site.run(playbook=unlock, confirm="other")
    assert (code, "confirm=other: must be the stack's name, counter" in said) == (3, True), said
    assert site.lock.exists()
    assert site.lines() == []
    code, said = site.run(playbook=unlock, confirm="counter")
    assert (code, "The lock is removed." in said) == (0, True), said
    assert [(line["verb"], line["verdict"]) for line in site.lines()] == [("unlock", "changed")]
    site.go_on()
    code, said = finish(first)
    assert (code, "somebody removed it with ./counter unlock" in said) == (1, True), said


@pytest.mark.parametrize(("age", "stops"), [(30, False), (90, True)])
def test_a_lock_in_the_swarm_is_renewed_unless_it_is_new(site: Site, age: int, *, stops: bool) -> None:
    first = site.start(verb_lock_age=age)
    site.lock.unlink()
    site.go_on()
    code, said = finish(first)
    assert (code, "somebody removed it with ./counter unlock" in said) == (1 if stops else 0, stops), said


def test_a_lock_is_found_on_another_manager(site: Site) -> None:
    """As in a swarm that a new first manager has not joined yet."""
    unlock = PLAYBOOKS / "unlock.yml"
    hosts = {name: {"ansible_connection": "local", "ansible_become": False} for name in ("one", "two")}
    (site.directory / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": hosts}}))
    locks = f"{site.directory}/{{{{ inventory_hostname }}}}"
    there = site.directory / "two/counter"
    there.parent.mkdir()
    process = runs.process(1) | {"machine": "another"}
    other = {"id": "0" * 8, "verb": "deploy", "who": "eve@there", "from": "/srv", "since": EARLY, "process": process}
    there.write_text(json.dumps({"run": other, "until": "2999-01-01T00:00:00Z"}))
    code, said = site.run(playbook=unlock, run_locks=locks)
    assert (code, said.count("eve@there started ./counter deploy on counter")) == (0, 1), said
    assert "this removes its lock: ./counter unlock -e confirm=counter" in said
    assert (there.exists(), site.lines()) == (True, [])
    code, said = site.run(playbook=unlock, run_locks=locks, confirm="counter")
    assert (code, "The lock is removed. eve@there" in said, there.exists()) == (0, True, False), said


# -- Hooks


def test_a_hook_that_fails_before_the_run_stops_it(site: Site) -> None:
    site.hook("before-scale", 'echo "no $COUNTER_VERB of $COUNTER_STACK now"; exit 1')
    code, said = site.run()
    assert code == 3
    assert "Nothing was changed, since hooks/before-scale ended with exit code 1: no scale of counter now" in said
    assert not (site.directory / "changed").exists()
    assert not site.lock.exists()


def test_a_hook_that_takes_too_long_is_ended(site: Site) -> None:
    site.hook("before-scale", f"sleep 600 & echo $$ $! >{site.directory}/processes; wait")
    code, said = site.run(hook_timeout=5)  # long enough for it to begin
    assert (code, "hooks/before-scale took more than 5 s (hook_timeout)" in said) == (3, True), said
    processes = (site.directory / "processes").read_text().split()
    assert len(processes) == 2
    wait_until("their end", lambda: not any(Path("/proc", process).exists() for process in processes))


def test_a_file_that_would_never_run_is_refused(site: Site) -> None:
    site.hook("before-scale", "true", 0o644)
    site.hook("after-sale", "true")
    site.hook("after-deploy.example", "true")
    code, said = site.run()
    assert code == 3
    assert re.search(r"hooks/after-sale: its name must be after-failure, before-backup, .* or after-unlock", said)
    assert "hooks/before-scale: it must be executable: chmod +x" in said
    assert ".example" not in said


def test_hooks_do_not_run_in_a_check(site: Site) -> None:
    site.hook("before-scale", "exit 1")
    site.hook("after-scale", f"touch {site.directory}/told")
    assert site.run("--check")[0] == 5  # it would change something
    assert site.run("--check", verb_changes=False)[0] == 0
    assert not (site.directory / "told").exists()
    assert (site.lines(), site.lock.parent.exists()) == ([], False)


def test_the_documentation_lists_what_hooks_get() -> None:
    variables = yaml.safe_load((ROOT / "roles/run/vars/main.yml").read_text(encoding="utf-8"))
    page = (ROOT / "docs/runs.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`COUNTER_.*?) \|", page, re.MULTILINE)
    described = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(described) == sorted([*variables["run_hook_facts"], *variables["run_hook_outcome"]])
    lines = re.findall(
        r"^\| ((?:`[a-z]+`(?:, )?)+) \|", page.partition("## Audit log")[2].partition("## ")[0], re.MULTILINE
    )
    assert sorted(name for line in lines for name in re.findall(r"\w+", line)) == sorted(variables["__run_line"])
