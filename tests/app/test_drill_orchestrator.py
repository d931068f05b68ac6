"""Faults of the orchestrator: each ends by itself, and a search can be repeated and resumed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from drill import __main__ as drill
from drill.containers import Host, LookError
from drill.orchestrator import HELD, Held, Target, lease, the_host
from drill.search import LONGEST, MOST_STEPS, SHORTEST, Step, draw, play
from drill.stack import Stack
from history.checker import Result, Verdict
from support.waiting import wait_until

HERE = Host("")

IPTABLES = """#!{python}
import pathlib, sys
file = pathlib.Path({rules!r})
rules = file.read_text().splitlines() if file.exists() else []
match sys.argv[1:]:
    case ["-w", "-I", *rule]:
        rules.append(" ".join(rule))
    case ["-w", "-D", *rule]:
        rules.remove(" ".join(rule))
file.write_text("".join(rule + "\\n" for rule in rules))
"""

DOCKER = """#!{python}
import json, sys
state = json.load(open({state!r}))
match sys.argv[1:]:
    case ["docker", "info", *_]:
        print("true")
    case ["docker", "node", "ls", *_]:
        print("Ready " + state["host"])
    case ["docker", "stack", "ps", "counter-redis", *_]:
        for task in state["tasks"]:
            print(f"counter-redis_redis-1.1.{{task}} Running 3 minutes ago")
    case ["docker", "ps", "--filter", label, *_] if label.endswith("=counter-redis"):
        for task in state["containers"]:
            print(json.dumps({{"Names": f"counter-redis_redis-1.1.{{task}}", "ID": task}}))
"""


def program(path: Path, text: str, **values: str) -> Path:
    path.write_text(text.format(python=sys.executable, **values))
    path.chmod(0o755)
    return path


def test_a_fault_ends_even_if_the_drill_is_killed(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    driver = (
        "from drill.containers import Host; from drill.orchestrator import Held, Target, lease, the_host;"
        f"lease(Target(Host(''), {{'FILE': '{broken}'}}), Held(the_host, 'touch $FILE', 'rm $FILE'), 2)"
    )
    started = subprocess.Popen([sys.executable, "-c", driver], env={"PYTHONPATH": str(Path(drill.__file__).parents[1])})
    wait_until("the fault", broken.exists)
    started.kill()
    assert broken.exists()
    wait_until("its end", lambda: not broken.exists(), 30)


def test_a_fault_that_cannot_begin_is_undone_and_said(tmp_path: Path) -> None:
    half = tmp_path / "half"
    with pytest.raises(LookError, match="no such thing"):
        lease(
            Target(HERE, {"HALF": str(half)}),
            Held(the_host, 'touch "$HALF"; echo no such thing >&2; false', 'rm "$HALF"'),
            60,
        )
    assert not half.exists()


@pytest.mark.parametrize("name", [name for name, fault in HELD.items() if "iptables" in fault.begin])
def test_what_a_link_drops_it_lets_through_again(tmp_path: Path, name: str) -> None:
    rules = tmp_path / "rules"
    program(tmp_path / "iptables", IPTABLES, rules=str(rules))
    program(tmp_path / "nsenter", '#!/bin/sh\nshift 3; exec "$@"\n')
    names = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PID": "1", "ADDRESS": "10.0.0.2"}
    lease(Target(HERE, names), Held(the_host, f"{HELD[name].begin}; cp {rules} {rules}.seen", HELD[name].end), 0)
    dropped = Path(f"{rules}.seen").read_text()
    assert dropped.endswith("-j DROP\n")
    assert ("--dport 2377" in dropped) is name.startswith(("control", "both"))
    assert ("--dport 4789" in dropped) is name.startswith(("data", "both"))
    assert ("INPUT" in dropped) is not name.endswith(("mute", "parted"))
    assert ("OUTPUT" in dropped) is not name.endswith("deaf")
    assert rules.read_text() == ""


def test_a_seed_repeats_a_sequence() -> None:
    drawn = [draw(7, number) for number in range(300)]
    assert drawn == [draw(7, number) for number in range(300)]
    assert drawn[:20] != [draw(8, number) for number in range(20)]
    steps = [step for sequence in drawn for step in sequence]
    assert {step.fault for step in steps} == set(HELD)
    assert {len(sequence) for sequence in drawn} == set(range(1, MOST_STEPS + 1))
    assert all(SHORTEST <= step.seconds <= LONGEST for step in steps)
    assert any(former.seconds > step.after for sequence in drawn for former, step in pairwise(sequence))  # overlap


def test_each_step_hits_a_host_and_a_service_of_one_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    hit: list[tuple[str, Host, str]] = []
    monkeypatch.setattr(
        "drill.search.hold", lambda stack, _, host, service, __: hit.append((stack.name, host, service))
    )
    monkeypatch.setattr(Stack, "services", lambda self: [f"{self.name}-{each}" for each in "12"])
    monkeypatch.setattr(Stack, "placed", lambda _: None)
    hosts = (Host("one"), Host("two"), Host("three"))
    stacks = [Stack("first", hosts), Stack("second", hosts)]
    play(stacks, [Step("forced", place, 0, 0) for place in range(12)], [])
    services = [(stack.name, host, f"{stack.name}-{each}") for stack in stacks for host in hosts for each in "12"]
    assert sorted(hit, key=str) == sorted(services, key=str)  # each once


def test_steps_overlap_and_one_that_comes_to_nothing_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stack, "services", lambda _: ["redis-1"])
    monkeypatch.setattr(Stack, "placed", lambda _: None)
    first = tmp_path / "first"
    monkeypatch.setitem(HELD, "first", Held(the_host, f"touch {first}", f"rm {first}"))
    monkeypatch.setitem(HELD, "second", Held(the_host, f"test -e {first}"))
    monkeypatch.setitem(HELD, "fails", Held(the_host, "echo it is gone >&2; false"))
    found = ["what was drawn"]
    play(
        [Stack("counter", (HERE,))],
        [Step("first", 0, 0, 1.5), Step("fails", 0, 0.1, 0), Step("second", 0, 0.5, 0)],
        found,
    )
    assert [one.rpartition(": ")[2] for one in found] == ["done", "it is gone", "done"]


def test_a_search_in_which_nothing_broke_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stack, "services", lambda _: ["redis-1"])
    monkeypatch.setattr(Stack, "placed", lambda _: None)
    monkeypatch.setitem(HELD, "fails", Held(the_host, "false"))
    monkeypatch.setitem(HELD, "nowhere", Held(lambda *_: [], ":"))
    found: list[str] = []
    with pytest.raises(LookError, match="no fault happened"):
        play([Stack("counter", (HERE,))], [Step("fails", 0, 0, 0), Step("nowhere", 0, 0, 0)], found)
    assert "nothing of it runs" in found[1]


def test_a_swarm_is_as_wanted_once_each_task_runs_once(tmp_path: Path) -> None:
    state = tmp_path / "state"
    docker = program(tmp_path / "host", DOCKER, state=str(state))
    stack = Stack("counter", (Host(str(docker)),))

    def seen(**changes: object) -> str:
        state.write_text(json.dumps({"host": "Ready", "tasks": ["a"], "containers": ["a"], **changes}))
        return stack.misplaced()

    assert seen() == ""
    assert "Down" in seen(host="Down")
    assert "redis-1.1.b" in seen(containers=["a", "b"])  # two of them at once
    assert "redis-1.1.a" in seen(containers=[])
    assert "redis-1.1.b" in seen(tasks=["b"])


PASSED = Result(Verdict.PASS, (), (), 9, 0, 0, 0, 0, 1, ("redis-1",), 0.5, 1.0)


def test_a_search_ends_with_the_first_loss(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = iter([PASSED, replace(PASSED, verdict=Verdict.FAIL, lost=2), PASSED])
    monkeypatch.setattr(drill, "run", lambda *_, **__: [("counter", next(outcomes))])
    monkeypatch.setattr(sys, "argv", ["drill", "search", "--sequences", "3", "--url", "http://127.0.0.1:1"])
    assert drill.main() == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["verdict"], document["lost"]) == ("FAIL", 2)
    assert [one["number"] for one in document["runs"]] == [1, 2]


def test_a_search_goes_on_where_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = []

    def run(*_: object, **__: object) -> list[tuple[str, Result]]:
        ran.append(time.monotonic())
        if len(ran) == 2:
            raise LookError("it did not heal")
        return [("counter", PASSED)]

    monkeypatch.setattr(drill, "run", run)
    words = ["search", "--seed", "5", "--sequences", "3", "--url", "http://127.0.0.1:1", "--resume"]
    monkeypatch.setattr(sys, "argv", ["drill", *words, str(tmp_path / "done.json")])
    assert drill.main() == 64
    said = capsys.readouterr().err
    assert "search 2: it did not heal" in said
    assert all(str(step) in said for step in draw(5, 2))
    assert drill.main() == 0
    assert len(ran) == 4  # the first sequence is not repeated
    document = json.loads(capsys.readouterr().out)
    assert [one["number"] for one in document["runs"]] == [1, 2, 3]
    assert document["runs"][0]["steps"] == [str(step) for step in draw(5, 1)]
