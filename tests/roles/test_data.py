"""What ``./counter export``, ``import`` and ``remove`` say and do. Their programs run here, with a real Redis."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from manager import Manager, recorded
from support.ansible import PLAYBOOKS, ROOT, play, run, stand_in_for_the_engine
from support.processes import RedisServer, running

# Runs a program here, where the module of community.docker runs it in a container.
EXEC = f"""
import os, subprocess
from ansible.module_utils.basic import AnsibleModule
if os.environ["BROKEN"] == "docker_container_exec":
    AnsibleModule({{"container": {{}}, "argv": {{}}, "stdin": {{}}}}).exit_json(rc=137, stdout="", stderr="")
module = AnsibleModule({{"container": {{}}, "argv": {{"type": "list"}}, "stdin": {{}}}})
python, *words = module.params["argv"]
if port := os.environ.get("COUNTS"):
    subprocess.run(["redis-cli", "-p", port, "INCR", "{{ham}}:value"], check=True)
if appears := os.environ.get("APPEARS"):
    open(appears, "w").close()
done = subprocess.run(
    [os.environ["APP_PYTHON"], *words], input=module.params["stdin"], cwd="{ROOT}/app", capture_output=True, text=True
)
module.exit_json(changed=True, rc=done.returncode, stdout=done.stdout.rstrip("\\n"), stderr=done.stderr)
"""

# Runs the program with less patience: nodes that are down for good need not be waited for in full.
IMPATIENT = f"""#!{sys.executable}
import os, runpy, sys
sys.path.insert(0, os.getcwd())
from counter.store import primaries
primaries.PATIENCE_SECONDS = 2
_, _, module, *words = sys.argv
sys.argv = [module, *words]
runpy.run_module(module, run_name="__main__")
"""


class Stack:
    """A stack whose state is in a directory, with an engine that has one replica of its app, and its Redis."""

    def __init__(self, site: Path, redis: RedisServer, state: Path) -> None:
        self.site, self.redis = site, redis
        self.manager = Manager(site, state)
        self.python = sys.executable
        self.find([{"Id": "0123456789ab"}])

    def find(self, containers: list[dict[str, str]]) -> None:
        """Let the engine have these containers."""
        site = self.site / f"engine-{len(list(self.site.iterdir()))}"
        self.engine = stand_in_for_the_engine(site, docker_host_info={"containers": containers})
        modules = site / "collections/ansible_collections/community/docker/plugins/modules"
        (modules / "docker_container_exec.py").write_text(EXEC)

    def type(self, verb: str, *words: str, **options: Any) -> tuple[int, str]:
        """Run a verb; return its exit status and what it prints, in one line."""
        options_of_run = {"verb": verb, "state_dir": str(self.manager.state)} | options
        command = ["ansible-playbook", "-i", str(self.site / "hosts.yml"), str(PLAYBOOKS / "data.yml")]
        done = run(
            *(*command, "-e", json.dumps(options_of_run), *words),
            ANSIBLE_ROLES_PATH=f"{self.site / 'roles'}:{ROOT / 'roles'}",
            APP_PYTHON=self.python,
            COUNTER_REDIS_NODES=self.redis.address,
            **self.engine,
        )
        return done.returncode, re.sub(r"\s+", " ", done.stdout + done.stderr)

    @property
    def counters(self) -> dict[str, int]:
        client = self.redis.client()
        names = map(str, client.smembers("counters"))
        return {name: int(client.get(f"{{{name}}}:value") or 0) for name in names}


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with running(server := RedisServer(tmp_path)):
        yield server.up()


@pytest.fixture
def stack(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, redis: RedisServer) -> Stack:
    return Stack(tmp_path, redis, recorded(tmp_path_factory, "standalone", {}))


# What reads and writes both formats is tested with the app.
@pytest.mark.parametrize("form", ["csv", pytest.param("json", marks=pytest.mark.slow)])
def test_what_is_exported_can_be_imported_and_counts_once(stack: Stack, tmp_path: Path, form: str) -> None:
    client = stack.redis.client()
    client.mset({"{a}:value": 3, "{b}:value": 4})
    client.sadd("counters", "b", "a")
    file = tmp_path / f"counters of today.{form}"
    status, said = stack.type("export", file=str(file))
    assert status == 0, said
    assert f"Wrote {file}: 2 counters with the sum 7." in said
    assert oct(file.stat().st_mode & 0o777) == "0o644"
    time = re.search(r"20..-..-..T..:..:..Z", file.read_text())
    assert time
    texts = {
        "csv": "name,value,time\na,3,TIME\nb,4,TIME\n",
        "json": '[\n{"name": "a", "value": 3, "time": "TIME"},\n{"name": "b", "value": 4, "time": "TIME"}\n]\n',
    }
    assert file.read_text() == texts[form].replace("TIME", time[0])
    # What an import does with the counters of a file does not depend on its form.
    if form == "csv":
        status, said = stack.type("import", "--check", file=str(file), mode="add")
        assert status == 0, said
        assert "of 2 counters, 2 would change, and 0 had been imported before; their sum would be 14." in said
        assert "changed=1" in said
        assert stack.counters == {"a": 3, "b": 4}
    for changed in (2, 0) if form == "csv" else (2,):
        status, said = stack.type("import", file=str(file), mode="add")
        assert status == 0, said
        assert f"mode=add: of 2 counters, {changed} changed, and {2 - changed} had been imported before; their" in said
        assert f"changed={1 if changed else 0}" in said
        assert stack.counters == {"a": 6, "b": 8}


def test_an_export_makes_a_name(stack: Stack) -> None:
    status, said = stack.type("export")
    assert status == 0, said
    made = re.search(r"Wrote (counter-20\d{6}T\d{6}Z\.csv): 0 counters with the sum 0\.", said)
    assert made, said
    try:
        assert (ROOT / made[1]).read_text() == "name,value,time\n"
    finally:
        (ROOT / made[1]).unlink()


def test_a_file_that_appears_during_an_export_is_not_taken_for_it(stack: Stack, tmp_path: Path) -> None:
    stack.engine["APPEARS"] = str(file := tmp_path / "counters.csv")
    status, said = stack.type("export", file=str(file))
    assert status != 0
    assert f"{file} was made by another program meanwhile, and was not overwritten" in said
    assert file.read_text() == ""


def test_a_bad_line_is_named_and_nothing_imported(stack: Stack, tmp_path: Path) -> None:
    """Also of a file that is no text."""
    file = tmp_path / "bad.csv"
    file.write_bytes(b"name,value\na,1\nb\xff,1\n")
    status, said = stack.type("import", file=str(file), mode="add")
    assert status != 0
    assert f"Nothing was changed. file={file}: line 3: name='b" in said
    assert f"./counter import -e file={file} -e mode=add --check" in said
    assert "changed=0" in said
    assert stack.counters == {}


def test_a_program_that_was_killed_is_no_success(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "counters.csv"
    file.write_text("name,value\na,1\n")
    stack.engine["BROKEN"] = "docker_container_exec"
    status, said = stack.type("import", file=str(file), mode="add")
    assert status != 0
    assert "was interrupted, and a part of it may be done: the program was killed, perhaps for lack of memory" in said
    assert f"This completes it, and changes no counter twice: ./counter import -e file={file} -e mode=add" in said
    assert "changed=1" in said
    status, said = stack.type("export", file=str(tmp_path / "none.csv"))
    assert status != 0
    assert "Nothing was written: the program was killed" in said


def test_lowering_needs_a_confirmation(stack: Stack, tmp_path: Path) -> None:
    stack.redis.client().set("{a}:value", 3)
    file = tmp_path / "set.csv"
    file.write_text("name,value\na,1\nb,2\n")
    for words in ((), ("--check",)):
        status, said = stack.type("import", *words, file=str(file), mode="set")
        assert status != 0
        assert "Nothing was changed, since mode=set would lower counters: a from 3 to 1." in said
        assert f"./counter import -e file={file} -e mode=set -e confirm=counter" in said
        assert stack.counters == {}
    status, said = stack.type("import", file=str(file), mode="set", confirm="counter")
    assert status == 0, said
    assert stack.counters == {"a": 1, "b": 2}


BACKUP = {"id": "20261126T182632Z", "counters": 2, "sum": 40}


@pytest.mark.parametrize(
    ("app", "held"),
    [
        (
            {"counters": {"a": 40, "b": 2}, "backup": BACKUP},
            "2 counters with the sum 42; the newest proved backup, 20261126T182632Z, has 2 with the sum 40",
        ),
        (
            {"nodes": [{"counters": {"a": 1}}, {"counters": None}], "backup": None},
            "1 counter with the sum 1; there is no backup",
        ),
        (None, "counters that cannot be read now; they were 3 with the sum 9 on 2026-11-26T10:00:05Z"),
    ],
)
def test_destroy_says_what_the_stack_holds(tmp_path: Path, app: dict[str, Any] | None, held: str) -> None:
    """As the app says it or, if it does not answer, as it was recorded. Without a terminal, the question refuses."""
    record = {"nodes": {"counters": 3, "sum": 9, "time": "2026-11-26T10:00:05Z"}}
    (tmp_path / "state").mkdir()
    (tmp_path / "state/data.json").write_text(json.dumps(record))
    engine = stand_in_for_the_engine(
        tmp_path,
        docker_host_info={"host_info": {}, "containers": [{"Id": "0123"}] if app else []},
        docker_container_exec={"rc": 0, "stdout": json.dumps(app)},
    )
    (tmp_path / "hosts.yml").write_text("{managers: {hosts: {host: {ansible_connection: local}}}}")
    parts = [{"ansible.builtin.include_role": {"name": "destroy", "tasks_from": part}} for part in ("engine", "ask")]
    (tmp_path / "play.yml").write_text(yaml.safe_dump(play(*parts)))
    done = run(
        *("ansible-playbook", "-i", tmp_path / "hosts.yml", "-e", f"state_dir={tmp_path / 'state'}"),
        tmp_path / "play.yml",
        ANSIBLE_ROLES_PATH=str(ROOT / "roles"),
        **engine,
    )
    said = " ".join(done.stdout.split())
    assert f"Nothing was changed. counter would stop. It has {held}. Its counters stay on the disks" in said, said


def test_a_file_that_is_too_large_is_refused(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "large.csv"
    with file.open("wb") as opened:
        opened.truncate(64 * 2**20 + 1)
    status, said = stack.type("import", file=str(file), mode="add")
    assert status != 0
    assert "may have at most 64 MB" in said


def test_redis_that_does_not_answer_is_reported(stack: Stack, tmp_path: Path) -> None:
    impatient = tmp_path / "impatient"
    impatient.write_text(IMPATIENT)
    impatient.chmod(0o755)
    stack.python = str(impatient)
    stack.redis.kill()
    status, said = stack.type("export", file=str(tmp_path / "none.csv"))
    assert status != 0
    assert "Nothing was written: " in said
    assert "Connection refused" in said
    assert not (tmp_path / "none.csv").exists()


def test_without_a_replica_nothing_is_done(stack: Stack, tmp_path: Path) -> None:
    stack.find([])
    status, said = stack.type("export", file=str(tmp_path / "none.csv"))
    assert status != 0
    assert "no healthy replica of the app of counter runs on a host that answers" in said


# The verbs differ only after this.
@pytest.mark.parametrize(
    "verb", ["export", *(pytest.param(verb, marks=pytest.mark.slow) for verb in ("import", "remove"))]
)
def test_nodes_that_hold_different_values_are_refused(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, redis: RedisServer, verb: str
) -> None:
    state = recorded(tmp_path_factory, "independent", {"redis_topology": "independent"})
    stack = Stack(tmp_path, redis, state)
    file = tmp_path / "counters.csv"
    file.write_text("name,value\na,1\n")
    status, said = stack.type(verb, file=str(file), mode="add", counter="a")
    assert status != 0
    assert "with redis_topology=independent, each Redis node of counter holds a different value of each counter" in said
    assert stack.counters == {}


def test_counters_are_written_to_a_file_and_removed(stack: Stack, tmp_path: Path) -> None:
    client = stack.redis.client()
    before = {"spam-1": 3, "spam-2": 4, "ham": 5}
    client.mset({f"{{{name}}}:value": value for name, value in before.items()})
    client.sadd("counters", *before)
    file = tmp_path / "removed.json"
    refused = {
        ("egg*",): "Nothing was removed. counter=egg*: no counter matches.",
        ("spam-?",): "Nothing was changed. counter=spam-? matches 2 counters with the sum 7, which would be removed",
        ("spam-*", "--check"): "",
    }
    for (pattern, *words), why in refused.items():
        status, said = stack.type("remove", *words, file=str(file), counter=pattern)
        assert (status != 0) == bool(why), said
        assert (why or "Would remove 2 counters with the sum 7") in said
        assert ("changed=1" in said) == (not why)
        assert stack.counters == before
        assert not file.exists()
    status, said = stack.type("remove", file=str(file), counter="spam-*", confirm="counter")
    assert status == 0, said
    assert f"Removed 2 counters with the sum 7. This brings them back: ./counter import -e file={file} " in said
    assert "changed=1" in said
    assert stack.counters == {"ham": 5}
    assert client.keys("*spam*") == client.keys("*removed*") == []
    assert [record["value"] for record in json.loads(file.read_text())] == [3, 4]
    # Clients count on it while the file is written.
    stack.engine["COUNTS"] = f"{stack.redis.port}"
    file = tmp_path / "more.csv"
    status, said = stack.type("remove", file=str(file), counter="ham")
    assert status != 0
    assert "Clients counted on the others meanwhile, so these stay: ham from 6 to 7." in said
    assert f"{file} has all as they were. To try again: ./counter remove -e counter=ham" in said
    assert "ham,6,20" in file.read_text()
    assert set(stack.counters) == {"ham"}


@pytest.mark.parametrize("many", [4_000, pytest.param(120_000, marks=pytest.mark.slow)])
def test_many_counters_pass(stack: Stack, tmp_path: Path, many: int) -> None:
    """Through Ansible's modules, there and back; more than what a command may have as an argument."""
    file = tmp_path / "many.csv"
    file.write_text("name,value\n" + "".join(f"a-counter-with-a-name-{number:06d},1\n" for number in range(many)))
    status, said = stack.type("import", file=str(file), mode="max")
    assert status == 0, said[-2000:]
    assert f"their sum is {many}." in said
    status, said = stack.type("export", file=str(tmp_path / "again.json"))
    assert status == 0, said[-2000:]
    assert f"{many} counters with the sum {many}." in said
    assert len(json.loads((tmp_path / "again.json").read_text())) == many
    assert "a-counter-with" not in said
