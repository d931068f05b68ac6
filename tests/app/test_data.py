"""The program that exports and imports counters, with real Redis processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.processes import running
from support.waiting import wait_until
from topologies import shown_counters, topology

from counter.config import Config
from counter.data import Import, read_all
from counter.records import GREATEST, Record, RecordError, lines_of, parse
from counter.remove import Removed, remove
from counter.site import mark
from counter.store import open_route, open_store
from counter.store.attempt import Command
from counter.store.keys import COUNTERS, REMOVED_KEY, value_key
from counter.store.primaries import Primaries
from counter.store.site import Mark
from counter.store.store import Store
from counter.store.types import RefusedError, UnavailableError

APP = Path(__file__).parents[2] / "app"
HURRIED = """
import os, sys
from counter import data
from counter.store import primaries
primaries.PATIENCE_SECONDS = float(os.environ.get("PATIENCE", 15))
sys.exit(data.main(sys.argv[1:]))
"""
"""The program, which waits less long for Redis: ``PATIENCE`` seconds."""


class Site:
    """A topology with its app's environment."""

    def __init__(self, directory: Path, kind: str, stack: ExitStack) -> None:
        # A node that waits long for its disk must not be replaced.
        self.found, processes, variables = topology(kind, directory, down=10_000)
        stack.enter_context(running(*processes))
        self.found.up()
        self.nodes = getattr(self.found, "nodes", processes)
        self.environ = {f"COUNTER_{key}": value for key, value in variables.items()}

    @property
    def store(self) -> Store:
        return open_store(Config.from_env(self.environ))

    @property
    def primaries(self) -> Primaries:
        return Primaries(open_route(Config.from_env(self.environ)))

    @property
    def counters(self) -> dict[str, int]:
        return shown_counters(self.store)

    @property
    def all_counters(self) -> dict[str, int]:
        """Those that the app does not show, too."""
        return {record.name: record.value for record in read_all(self.primaries)}

    def start(self, verb: str, **asked: Any) -> subprocess.Popen[str]:
        """Start the program."""
        process = subprocess.Popen(
            [sys.executable, "-c", HURRIED, verb],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | self.environ,
            cwd=APP,
        )
        assert process.stdin
        process.stdin.write(json.dumps({"format": "csv", "lower": False, "dry": False} | asked) + "\n")
        process.stdin.flush()
        return process

    def run(self, verb: str, **asked: Any) -> tuple[int, str, str]:
        """Run the program; return its exit status and what it prints."""
        with self.start(verb, **asked) as process:
            printed, said = process.communicate(timeout=240)
            return process.returncode, printed, said

    def show(self, pattern: str) -> tuple[int, str, str]:
        """Run the program that shows what would be removed."""
        done = subprocess.run(
            [sys.executable, "-m", "counter.remove"],
            input=json.dumps({"counter": pattern, "format": "csv"}) + "\n",
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
            env=os.environ | self.environ,
            cwd=APP,
        )
        return done.returncode, done.stdout, done.stderr

    def add(self, text: str, mode: str = "add", **asked: Any) -> dict[str, Any]:
        """Import a text; return the result."""
        status, printed, said = self.run("import", text=text, mode=mode, **asked)
        assert status == 0, said
        result: dict[str, Any] = json.loads(printed)
        return result


@pytest.fixture
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path, getattr(request, "param", "standalone"), stack)


def table(values: dict[str, int]) -> str:
    return "name,value\n" + "".join(f"{name},{value}\n" for name, value in values.items())


everywhere = pytest.mark.parametrize("site", ["standalone", "sentinel", "cluster"], indirect=True)


# -- The records


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: '': must be name,value or name,value,time"),
        ("value,time\n1,\n", "line 1: 'value,time': must be name,value or name,value,time"),
        ("name,value,more\na,1,x\n", "line 1: 'name,value,more': must be name,value or name,value,time"),
        ("name,value,name\na,1,b\n", "line 1: 'name,value,name': must be"),
        ("name,value\n", "it has no counters"),
        ("name,value\na,1\nb,-1\n", "line 3: value='-1': must be a whole number from 0 to 1000000000000000"),
        ("name,value\n\na,1.5\n", "line 3: value='1.5': must be a whole number"),
        ("name,value\na,\u0661\n", "line 2: value='\u0661': must be a whole number"),
        (f"name,value\na,{GREATEST + 1}\n", f"line 2: value={GREATEST + 1}: must be a whole number"),
        (f"name,value\na,{'9' * 5000}\n", "must be a whole number"),
        ("name,value\nÄ,1\n", "line 2: name='Ä': must be 1 to 64 letters, digits"),
        ("name,value\n a,1\n", "line 2: name=' a': must be"),
        ("name,value\na,1\nb,1\na,2\n", "line 4: name='a': is in the file more than once"),
        ("name,value\na,1,2\n", "line 2: 'a,1,2': must have 2 columns"),
        ("name,value\na\n", "line 2: 'a': must have 2 columns"),
        ('name,value\n"a,1\n', "line 2: unexpected end of data"),
        ("name,value,time\na,1,yesterday\n", "line 2: time='yesterday': must be empty or a time with its zone"),
        ("name,value,time\na,1,2026-11-26T07:20:00\n", "line 2: time='2026-11-26T07:20:00': must be empty or a time"),
        ("name,value\n" + "Ä,1\n" * 7, "each of 1 to 64 such characters; and 2 more"),
        ("[", "it is not JSON: "),
        ("[" * 100_000, "it is not JSON: "),
        ('{"name": "a", "value": 1}', "it must be a list of objects"),
        ("[]", "it has no counters"),
        ("[1]", "object 1: 1: must be an object"),
        ('[{"name": "a"}]', "object 1: it has no value"),
        ('[{"value": 1}]', "object 1: it has no name"),
        ('[{"name": "a", "value": "1"}]', "object 1: value='1': must be a whole number"),
        ('[{"name": "a", "value": true}]', "object 1: value=True: must be a whole number"),
        ('[{"name": "a", "value": 1.0}]', "object 1: value=1.0: must be a whole number"),
        ('[{"name": "a", "value": 1}, {"name": {"name": "b", "value": 1}, "value": 1}]', "object 2: name="),
        (
            '[{"name": "a", "value": 1, "node": "b"}]',
            "object 1: node='b': is not a known column; the columns are name, value",
        ),
        ('[{"name": "a", "value": 1, "time": null}]', "object 1: time=None: must be empty or a time"),
    ],
    ids=lambda value: value[:40] if "must" not in value else "",
)
def test_a_bad_line_is_named(text: str, said: str) -> None:
    with pytest.raises(RecordError) as refused:
        parse(text, "json" if text.startswith(("[", "{")) else "csv")
    assert said in str(refused.value)


@pytest.mark.parametrize("form", ["csv", "json"])
def test_what_is_written_can_be_read(form: str) -> None:
    records = [Record("a", 0, "2026-11-26T07:20:00Z"), Record("b.c_d-e", GREATEST, "2026-11-26T07:20:00Z")]
    assert parse("".join(lines_of(records, form)), form) == records


@pytest.mark.parametrize(
    "text", ["\ufeffname,value\r\na,1\r\n", 'value,name\n"1","a"\n\n', "time,name,value\n,a,1", "name,value\na,001\n"]
)
def test_what_other_programs_write_can_be_read(text: str) -> None:
    assert parse(text, "csv") == [Record("a", 1)]


# -- Imports


@everywhere
def test_a_counter_that_no_list_has_is_exported(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    # As earlier versions left it, when a replica was killed before it had listed them.
    monkeypatch.setattr(Store, "_admit", lambda *_: None)
    store = site.store
    names = {f"c{number}": 1 for number in range(20)}
    for name in names:
        store.increment(name)
    status, printed, said = site.run("export")
    assert status == 0, said
    assert {record.name: record.value for record in parse(printed.partition("\n")[2], "csv")} == names


@everywhere
def test_a_file_counts_once(site: Site) -> None:
    store = site.store
    for name in ("a", "a", "b"):
        store.increment(name)
    wait_until("both to be listed", lambda: site.counters == {"a": 2, "b": 1})
    file = {"a": 10, "c": 5, **{f"c{number}": number for number in range(40)}}
    more = 15 + sum(range(40))
    result = site.add(table(file))
    assert result == {"counters": 42, "changed": 41, "before": 0, "sum": 2 + more, "lowers": [], "applied": True}
    expected = {"a": 12, "b": 1, "c": 5} | {name: value for name, value in file.items() if name not in ("a", "c")}
    assert site.counters == expected
    assert store.increment("a").value == 13
    # Again, in another order, and as JSON: it is the same file.
    records = "".join(lines_of([Record(name, value) for name, value in reversed(file.items())], "json"))
    for again in (site.add(table(file)), site.add(records, format="json")):
        assert (again["changed"], again["before"], again["sum"]) == (0, 42, 3 + more)
    assert site.counters == expected | {"a": 13}
    # Another file counts, also if only its time differs.
    assert site.add("name,value,time\na,10,2026-11-26T07:20:00Z\n")["sum"] == 23
    # What is exported is what the app shows.
    status, printed, said = site.run("export")
    assert status == 0, said
    summary, _, text = printed.partition("\n")
    assert json.loads(summary) == {"counters": 43, "sum": 24 + 5 + sum(range(40))}
    exported = parse(text, "csv")
    assert {record.name: record.value for record in exported} == site.counters
    assert [record.name for record in exported] == sorted(record.name for record in exported)
    assert len({record.time for record in exported}) == 1


def test_max_keeps_the_larger_value(site: Site) -> None:
    site.add(table({"a": 5, "b": 5}))
    result = site.add(table({"a": 4, "b": 6, "c": 0}), "max")
    assert (result["changed"], result["sum"]) == (1, 11)
    assert site.counters == {"a": 5, "b": 6, "c": 0}


def test_set_lowers_only_if_that_is_allowed(site: Site) -> None:
    site.add(table({f"c{number}": 10 for number in range(8)}))
    file = table({f"c{number}": 9 if number < 7 else 11 for number in range(8)} | {"new": 3})
    result = site.add(file, "set")
    assert not result["applied"]
    assert result["lowers"] == [*(f"c{number} from 10 to 9" for number in range(5)), "and 2 more"]
    assert site.counters == {f"c{number}": 10 for number in range(8)}
    result = site.add(file, "set", lower=True)
    assert result == {"counters": 9, "changed": 9, "before": 0, "sum": 77, "lowers": [], "applied": True}
    site.store.increment("c0")
    # It is done, and what was counted since then is not undone.
    again = site.add(file, "set")
    assert (again["before"], again["lowers"], again["sum"]) == (9, [], 78)


def test_set_does_not_undo_what_is_counted_meanwhile(site: Site) -> None:
    site.add(table({"a": 1, "b": 1}))
    wanted = [Record("a", 1, "2026-11-26T07:20:00Z"), Record("b", 5, "2026-11-26T07:20:00Z")]
    request = Import(site.primaries, wanted, "set")
    assert request.check().lowers == []
    assert site.store.increment("a").value == 2
    result = request.apply()
    assert (result.lowers, result.changed, result.sum) == (["a from 2 to 1"], 1, 7)
    assert site.counters == {"a": 2, "b": 5}
    result = Import(site.primaries, wanted, "set", lower=True).apply()
    assert (result.lowers, result.changed, result.before) == ([], 1, 1)
    assert site.counters == {"a": 1, "b": 5}


def test_a_dry_run_says_what_would_change_and_changes_nothing(site: Site) -> None:
    site.add(table({"a": 1}))
    result = site.add(table({"a": 1, "b": 2}), "max", dry=True)
    assert result == {"counters": 2, "changed": 1, "before": 0, "sum": 3, "lowers": [], "applied": False}
    assert site.counters == {"a": 1}
    assert site.add(table({"a": 1, "b": 2}), "max")["before"] == 0


def test_nothing_is_imported_of_a_file_with_a_bad_line(site: Site) -> None:
    status, printed, said = site.run("import", text="name,value\na,1\nb,x\n", mode="add")
    assert (status, printed) == (1, "")
    assert said == f"line 3: value='x': must be a whole number from 0 to {GREATEST}\n"
    assert site.counters == {}


def test_a_counter_stays_where_it_counts_exactly(site: Site) -> None:
    site.add(table({"a": GREATEST}), "set")
    store = site.store
    assert [store.increment("a").value for _ in range(3)] == [GREATEST + more for more in (1, 2, 3)]
    status, _, said = site.run("import", text=table({"b": 1, "a": 1}), mode="add")
    assert (status, said) == (1, f"a: {GREATEST + 3} and 1 are more than {GREATEST}\n")
    assert site.counters == {"a": GREATEST + 3}
    # An import that adds nothing to it is made.
    assert site.add(table({"b": 1, "a": 1}), "max")["changed"] == 1
    assert site.add(table({"b": 1, "a": 0}))["changed"] == 1
    assert site.counters == {"a": GREATEST + 3, "b": 2}


@pytest.mark.parametrize(
    "site",
    ["standalone", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("sentinel", "cluster"))],
    indirect=True,
)
def test_what_clients_count_meanwhile_counts(site: Site) -> None:
    names = [f"c{number}" for number in range(1000)]
    store, end, counted = site.store, threading.Event(), []

    def count() -> None:
        while not end.is_set():
            store.increment("c7")
            counted.append(1)

    client = threading.Thread(target=count)
    client.start()
    try:
        for seconds in range(3):
            text = "".join(lines_of([Record(name, 2, f"2026-11-26T07:20:0{seconds}Z") for name in names], "csv"))
            assert site.add(text)["changed"] == 1000
    finally:
        end.set()
        client.join()
    assert counted
    assert site.counters == dict.fromkeys(names, 6) | {"c7": 6 + len(counted)}


@pytest.mark.parametrize("site", ["standalone", "cluster"], indirect=True)
def test_an_import_that_was_broken_off_is_completed(site: Site) -> None:
    file = {f"c{number}": 1 for number in range(30_000)}
    with site.start("import", text=table(file), mode="add") as process:
        wait_until("some to be imported", lambda: sum(site.counters.values()) > 2000)
        process.kill()
    after = sum(site.all_counters.values())
    assert 0 < after < len(file)
    result = site.add(table(file))
    assert result["sum"] == len(file)
    assert result["changed"] + result["before"] == len(file)
    assert result["before"] >= after - 1
    assert site.all_counters == file


@pytest.mark.parametrize("site", ["sentinel"], indirect=True)
def test_an_import_outlives_its_primary(site: Site) -> None:
    file = {f"c{number}": 1 for number in range(20_000)}
    with site.start("import", text=table(file), mode="add") as process:
        wait_until("some to be imported", lambda: sum(site.counters.values()) > 1000)
        for sentinel in site.found.sentinels:  # now one is to be replaced
            sentinel.client().execute_command("SENTINEL", "SET", site.found.name, "down-after-milliseconds", 1000)
        site.found.primary().kill()
        printed, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert json.loads(printed)["sum"] == len(file)
    assert site.all_counters == file


def test_an_import_that_cannot_go_on_says_how_far_it_came(site: Site) -> None:
    site.environ["PATIENCE"] = "2"
    with site.start("import", text=table({f"c{number}": 1 for number in range(20_000)}), mode="add") as process:
        wait_until("some to be imported", lambda: sum(site.counters.values()) > 1000)
        site.found.kill()
        printed, said = process.communicate(timeout=120)
    assert (process.returncode, printed) == (2, "")
    assert "Connection refused" in said
    status, _, said = site.run("import", text=table({"a": 1}), mode="add")
    assert (status, said.count("\n")) == (1, 1)


# -- Removals


def keys_of(site: Site, name: str) -> set[str]:
    """Return the keys of a counter that any node has, but those that prove the primary."""
    found = {str(key) for node in site.nodes for key in node.client().scan_iter(f"{{{name}}}:*", count=1000)}
    return {key for key in found if not key.endswith(":proof")}


@everywhere
def test_a_removed_counter_leaves_nothing_and_can_be_imported(site: Site) -> None:
    site.environ["COUNTER_MAX_COUNTERS"] = "3"
    store = site.store
    for name, key in (("kept", "k"), ("spam-1", "k1"), ("spam-1", None), ("spam-22", None)):
        store.increment(name, key)
    site.add(table({"spam-1": 7}))
    with pytest.raises(RefusedError, match="there are 3 counters"):
        store.increment("new")
    shown = read_all(site.primaries, "spam-*")
    assert [(record.name, record.value) for record in shown] == [("spam-1", 9), ("spam-22", 1)]
    assert len(keys_of(site, "spam-1")) >= 4  # the value, imports, ids of clients and of the app
    store.increment("spam-22")
    assert remove(site.primaries, shown, "spam-*", noted=True) == Removed(1, 9, ["spam-22 from 1 to 2"])
    assert keys_of(site, "spam-1") == set()
    wait_until("what stayed to be listed", lambda: site.counters == {"kept": 1, "spam-22": 2})
    assert site.primaries.run([("SMEMBERS", REMOVED_KEY)]) == [["spam-1"]]
    # There is room again. A repeat counts, and what remains is still known.
    assert store.increment("spam-1", "k1").value == 1
    assert store.increment("kept", "k").value == 1
    assert remove(site.primaries, read_all(site.primaries, "spam-1"), "spam-1", noted=False) == Removed(1, 1, [])
    assert site.add("".join(lines_of(shown[:1], "csv")))["sum"] == 9
    wait_until("all to be listed", lambda: site.counters == {"kept": 1, "spam-1": 9, "spam-22": 2})


def test_a_removal_that_was_interrupted_is_not_repeated_and_can_be_completed(site: Site) -> None:
    """A counter that was removed and made anew may have the same value."""
    redis = site.found.client()
    for name in ("a", "b"):
        site.store.increment(name)
    redis.execute_command("ACL", "SETUSER", "counter", "-unlink")
    before = redis.info("commandstats")["cmdstat_eval"]["calls"]
    with pytest.raises(UnavailableError):
        remove(site.primaries, read_all(site.primaries), "*", noted=False)
    assert redis.info("commandstats")["cmdstat_eval"]["calls"] == before + 2
    redis.execute_command("ACL", "SETUSER", "counter", "+unlink")
    assert site.all_counters == {"a": 1, "b": 1}
    assert remove(site.primaries, read_all(site.primaries), "*", noted=False) == Removed(2, 2, [])
    assert not redis.exists(COUNTERS)


def test_a_removal_that_loses_its_connection_hides_no_counter_and_no_later_loss(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis, store, primaries = site.found.client(), site.store, site.primaries
    for name in ("counted-on", "gone", "left", "made-anew"):
        for _ in range(3):
            store.increment(name)
    shown, run = read_all(primaries), primaries.run
    store.increment("counted-on")

    def cut_off(commands: Sequence[Command], *, repeats: bool = True) -> list[Any]:
        if not repeats:
            run([command for command in commands if "{left}:value" not in command], repeats=False)
            store.increment("made-anew")
            raise UnavailableError("the connection is lost")
        return run(commands)

    monkeypatch.setattr(primaries, "run", cut_off)
    with pytest.raises(UnavailableError, match="the connection is lost"):
        remove(primaries, shown, "*", noted=True)
    assert site.counters == {"counted-on": 4, "left": 3, "made-anew": 1}
    assert redis.smembers(REMOVED_KEY) == {"gone", "made-anew"}


def test_a_removal_that_was_killed_hides_no_later_loss(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    redis, primaries = site.found.client(), site.primaries
    site.store.increment("a")
    run = primaries.run

    def killed(commands: Sequence[Command], *, repeats: bool = True) -> list[Any]:
        if not repeats:
            raise KeyboardInterrupt
        return run(commands)

    monkeypatch.setattr(primaries, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        remove(primaries, read_all(primaries), "*", noted=True)
    assert not redis.exists(REMOVED_KEY)
    mark([site.primaries], Mark("0" * 32, "counter"))  # as the next deployment does
    assert site.counters == {"a": 1}


def test_a_name_without_a_value_can_be_removed(site: Site) -> None:
    """An app's replica was killed between the name and its value."""
    site.found.client().sadd(COUNTERS, "without", "other")
    status, text, said = site.show("without")
    assert status == 0, said
    assert json.loads(text.partition("\n")[0]) == {"counters": 1, "sum": 0}
    records = parse(text.partition("\n")[2], "csv")
    assert remove(site.primaries, records, "without", noted=True) == Removed(1, 0, [])
    assert site.found.client().smembers(COUNTERS) == {"other"}


@pytest.mark.slow
def test_more_than_a_hundred_thousand_counters(site: Site) -> None:
    file = {f"counter-with-a-name-{number:06d}": number for number in range(120_000)}
    result = site.add(table(file))
    assert (result["counters"], result["changed"], result["sum"]) == (120_000, 119_999, sum(file.values()))
    status, printed, said = site.run("export", format="json")
    assert status == 0, said
    records = parse(printed.partition("\n")[2], "json")
    assert {record.name: record.value for record in records} == file
    assert site.found.client().get(value_key("counter-with-a-name-000009")) == "9"
    assert remove(site.primaries, records, "*", noted=True) == Removed(120_000, sum(file.values()), [])
    assert site.all_counters == {}
    assert not site.found.client().exists(COUNTERS)
