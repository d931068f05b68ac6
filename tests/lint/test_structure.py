"""Each thing has one place: topologies one table, the control machine one host."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from support.ansible import ROOT, run
from support.documents import mappings, parts

from plugins.filter.settings import options_of_verbs

TABLE = ROOT / "roles/settings/vars/main/topologies.yml"
TOPOLOGIES = list(yaml.safe_load(TABLE.read_text(encoding="utf-8"))["topologies"])
# The files that make and change a deployment.
SOURCES = [
    path
    for pattern in ("*.yml", "playbooks/**/*", "roles/**/*", "templates/**/*", "plugins/**/*", "inventory/**/*")
    for path in ROOT.glob(pattern)
    if path.suffix in (".yml", ".j2", ".py") and path != TABLE
]
# A topology as a value: in quotes, in a list, after `=`, `.` or `: `. As a word of a configuration it stands alone.
NAMED = re.compile(rf"(?:['\"=.,\[]|: )({'|'.join(TOPOLOGIES)})(?=['\"\],}})\s]|$)", re.MULTILINE)

MAY_NAME = {
    "roles/settings/defaults/main.yml": "the default",
    # A Sentinel is a process, as a Redis node is; its topology has the same name.
    "roles/redis/vars/main/credentials.yml": "the user that Sentinels log in as",
    "templates/users.acl.j2": "the same user, at the nodes",
    "templates/sentinel.acl.j2": "the same user, at the Sentinels",
    "templates/redis.stack.yml.j2": "the kind of a service",
    "plugins/filter/placement.py": "the kind of a node",
}


def without_comments(path: Path) -> str:
    """Return what decides something: neither comments nor docstrings."""
    text = path.read_text(encoding="utf-8")
    return re.sub(r"\{#(?s:.*?)#\}|^ *#.*$|\"\"\"(?s:.*?)\"\"\"", "", text, flags=re.MULTILINE)


def found_by(pattern: re.Pattern[str]) -> dict[str, list[str]]:
    """Return what is found in each file in which something is."""
    found = {str(path.relative_to(ROOT)): pattern.findall(without_comments(path)) for path in SOURCES}
    return {name: words for name, words in found.items() if words}


def test_topologies_are_named_in_their_table_only() -> None:
    found = found_by(NAMED)
    assert set(found) == set(MAY_NAME), found
    for name in set(MAY_NAME) - {"roles/settings/defaults/main.yml"}:
        assert set(found[name]) == {"sentinel"}, name


def test_every_topology_says_everything() -> None:
    table = yaml.safe_load(TABLE.read_text(encoding="utf-8"))["topologies"]
    fields = {frozenset(entry) for entry in table.values()}
    assert len(fields) == 1
    described = re.findall(r"^#   (\w[\w, ]*?)   ", TABLE.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(fields.pop()) == {name for names in described for name in names.split(", ")} | {"nodes_rule"}


def test_the_control_machine_is_one_host() -> None:
    found = found_by(re.compile(r"delegate_to: (?:localhost|127)|ansible_python_interpreter|connection: local"))
    # The one server of the inventory that comes with the project is this machine too.
    assert set(found) == {"inventory/hosts.example.yml", "roles/preflight/tasks/settings.yml"}
    assert found["inventory/hosts.example.yml"] == ["connection: local"]


def test_the_state_directory_is_written_in_one_place() -> None:
    """A removed stack's directory is removed elsewhere; which files there are is asked of one module."""
    assert set(found_by(re.compile(r"/etc/counter-deploy"))) == {"roles/settings/vars/main/derived.yml"}
    readers = {"roles/deployed/tasks/read.yml", "roles/deployed/tasks/others.yml"}
    assert set(found_by(re.compile(r"\bstate_files:"))) == readers
    # Other roles do not read its record; two remove it.
    others = {name for name in found_by(re.compile(r"deployed\.json")) if not name.startswith("roles/deployed/")}
    assert others == {"plugins/filter/deployed.py", "roles/destroy/tasks/host.yml", "roles/redis/tasks/move/freeze.yml"}
    written = found_by(re.compile(r"^ +(?:path|dest): .*\bstate_dir\b", re.MULTILINE))
    assert {name for name in written if not name.startswith("roles/deployed/")} == {
        "roles/bench/tasks/check.yml",  # looks for another stack
        "roles/destroy/tasks/host.yml",
        "roles/node/tasks/clean.yml",  # that of all stacks
        "roles/redis/tasks/replace.yml",  # a stack file of one step
        "roles/redis/tasks/credentials/replace.yml",
    }


def test_every_verb_is_a_playbook_with_a_comment_and_no_other_playbook_is() -> None:
    begun = re.compile(r"\b(?:run|reading)_verb: (\w+)")
    verbs = {path.stem for path in ROOT.glob("playbooks/*.yml") if path.read_text(encoding="utf-8").startswith("# ")}
    verbs |= {path.stem for path in ROOT.glob("*.yml")}
    assert verbs == {verb for words in found_by(begun).values() for verb in words}


def test_verbs_that_change_something_take_the_options_of_their_runs() -> None:
    verbs = {verb for words in found_by(re.compile(r"\brun_verb: (\w+)")).values() for verb in words}
    options = options_of_verbs(str(ROOT))
    assert set(options["hook_timeout"]) == verbs
    assert set(options["lock_wait"]) == verbs - {"unlock"}


INTERNAL = re.compile(r"(?<![\w.])__[a-z]\w+")
NAME = r"(__[a-z]\w+)"
GIVEN = re.compile(rf"^\s*(?:- )?{NAME}:|(?:register|loop_var|index_var): {NAME}$|set {NAME} =", re.MULTILINE)


def test_internal_variables_are_given_in_their_role() -> None:
    """Ansible notices a missing one only when a task reads it, which may be in one topology only."""
    wrong = {}
    for role in (ROOT / "roles").iterdir():
        files = [path for path in SOURCES if path.is_relative_to(role) and path.suffix != ".py"]
        texts = "\n".join(map(without_comments, files))
        given = {name for found in GIVEN.findall(texts) for name in found if name}
        wrong[role.name] = given ^ set(INTERNAL.findall(texts))
    assert {role: names for role, names in wrong.items() if names} == {}


def test_values_that_reach_a_shell_are_quoted_or_numbers() -> None:
    blocks = found_by(re.compile(r"^ +ansible\.builtin\.shell:.*\n((?: {4,}.*\n)+)", re.MULTILINE))
    values = {name: re.findall(r"{{((?s:.*?))}}", "".join(texts)) for name, texts in blocks.items()}
    assert "roles/bench/tasks/step.yml" in values
    bare = {
        name: [value for value in found if not re.search(r"\| (quote|int|float)\b", value)]
        for name, found in values.items()
    }
    assert not any(bare.values()), bare


def test_what_a_verb_refuses_comes_before_what_it_changes() -> None:
    """A failure in the block of tasks/serve.yml is recorded as a failed release."""
    for verb in ("scale", "rollback"):
        plays = yaml.safe_load((ROOT / f"playbooks/{verb}.yml").read_text(encoding="utf-8"))
        first = next(play for play in plays if "tasks" in play)["tasks"][0]
        assert first["ansible.builtin.import_role"] == {"name": "counter", "tasks_from": "refuse"}, verb


SET_FACT = "ansible.builtin.set_fact"


@cache
def tasks() -> list[tuple[str, dict[str, Any]]]:
    """Return what could be a task of the project, each with the path of its file."""
    paths = [path for path in SOURCES if path.suffix == ".yml"]
    return [(str(path.relative_to(ROOT)), task) for path in paths for task in mappings(path)]


def test_no_template_has_a_backslash_in_the_place_of_the_end_of_a_line() -> None:
    r"""Ansible takes the backslashes of a template literally: only YAML makes an end of a line of ``"\n"``."""
    found = {path for path, task in tasks() for text in parts(task) if isinstance(text, str) and r"'\n'" in text}
    assert not found


def test_a_playbook_leaves_no_fact_to_the_next_one_of_the_run() -> None:
    """Preflight resets what a playbook sets."""

    def facts(begin: str) -> set[str]:
        return {fact for path, task in tasks() if path.startswith(begin) for fact in task.get(SET_FACT, ())}

    assert facts("playbooks/") <= facts("roles/preflight/tasks/settings.yml")


def test_each_wait_for_the_engine_is_bounded() -> None:
    """An engine may hang, and others may change the stack once the lease of the run has ended."""
    asking = [
        (path, task)
        for path, task in tasks()
        if "community.docker.docker_container_exec" in task
        or re.match(r"({'(argv|cmd)': )?\W*docker\b", str(task.get("ansible.builtin.command")))
    ]
    assert len(asking) > 15
    assert [(path, task["name"]) for path, task in asking if "timeout" not in task] == []


def test_facts_with_secrets_are_not_printed() -> None:
    """Ansible prints facts that a task sets: into the log always, and onto the screen with -v."""
    found = [
        (name, task.get("no_log", False))
        for name, task in tasks()
        if {"desired", "settings", "role_variables"} & set(task.get(SET_FACT, ())) or "host_state" in task
    ]
    assert len(found) > 6
    assert [name for name, hidden in found if not hidden] == []


def test_no_tasks_of_a_scenario_stand_in_the_way_of_those_of_a_role() -> None:
    """Ansible looks in the directory of a playbook, too, for what a role includes."""
    of_scenarios = {path.name: path for path in ROOT.glob("molecule/*/tasks/*.yml") if path.parts[-3] != "shared"}
    of_roles = {path.name for path in ROOT.glob("roles/*/tasks/*.yml")}
    assert [str(of_scenarios[name].relative_to(ROOT)) for name in of_scenarios.keys() & of_roles] == []


def test_newer_versions_are_proposed_for_every_directory_with_pins() -> None:
    updates = yaml.safe_load((ROOT / ".github/dependabot.yml").read_text(encoding="utf-8"))["updates"]
    (pip,) = (update for update in updates if update["package-ecosystem"] == "pip")
    listed = run("git", "ls-files", "*.in").stdout.split()
    assert pip["directories"] == sorted({f"/{Path(name).parent}" for name in listed})
