"""Every command of the documentation is run or parsed by a test, or says why it is not.

The molecule scenario ``newcomer`` types the blocks of commands of README.md. The commands of all pages, in blocks and
in sentences, are parsed here as ``ansible-playbook`` parses them, and the variables that they set are compared with the
settings. A block that is not parsed has the comment ``<!-- not run: REASON -->`` on the line before it.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.cli.playbook import PlaybookCLI
from ansible.parsing.splitter import parse_kv
from support.ansible import ROOT, load

from plugins.filter.settings import refused, settings_options

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
VERBS = sorted({path.stem for place in (ROOT, ROOT / "playbooks") for path in place.glob("*.yml")} - {"preflight"})
BLOCK = re.compile(
    r"(?:^ *<!-- (?P<comment>[^\n]*) -->\n)?^ *```(?P<language>\w*)\n(?P<body>.*?)^ *```$", re.MULTILINE | re.DOTALL
)
# What gets the checkout; the scenario copies it instead.
FETCH = ("git clone ", "cd ")
# Stands for something that the reader has to fill in: -i FILE, "a command ...".
PLACEHOLDER = re.compile(r"\.\.\.|\b[A-Z]{3,}\b")
SPECS = settings_options(str(ROOT))
COMMAND_LINE = load("launcher/command_line.py")
# Pages name files of the user.
COMMAND_LINE.exists = lambda _: True


@dataclass(frozen=True)
class Block:
    """A block of commands; ``reason`` is why it is not run, or empty."""

    commands: tuple[str, ...]
    reason: str


def blocks(text: str) -> list[Block]:
    """Return the blocks of commands of a Markdown text, without their comments."""
    found = []
    for match in BLOCK.finditer(text):
        lines = [re.sub(r"(^|\s+)#.*", "", line).strip() for line in re.sub(r"\\\n\s*", "", match["body"]).splitlines()]
        if match["language"] in ("bash", "sh", "shell", "console") or any(
            line.startswith("./counter ") for line in lines
        ):
            reason = re.fullmatch(r"not run: (.+)", match["comment"] or "")
            found.append(Block(tuple(filter(None, lines)), reason[1] if reason else ""))
    return found


def sentences(text: str) -> list[str]:
    """Return the commands of the launcher that stand in sentences and tables, and are complete."""
    found = re.findall(r"`(\./counter\s[a-z]+[^`]*)`", BLOCK.sub("", text))
    return [re.sub(r"\s+", " ", command) for command in found if not PLACEHOLDER.search(command)]


def arguments(command: str) -> list[str]:
    """Return verb and options of a command of the launcher; raise ValueError for a command that no test knows."""
    words = shlex.split(command)
    if words[0] != "./counter" or len(words) < 2 or words[1] not in VERBS:
        raise ValueError(f"no test runs `{command}`: see tests/lint/test_readme.py")
    return words[1:]


def extra_variables(command: str) -> dict[str, Any]:
    """Return the variables that a command sets; raises RefusedError or SystemExit where its options are wrong."""
    verb, *words = arguments(command)
    options = COMMAND_LINE.words_for_ansible(COMMAND_LINE.known(verb), words)
    cli = PlaybookCLI(["ansible-playbook", f"{verb}.yml", *options])
    cli.init_parser()
    given = cli.post_process_args(cli.parser.parse_args(cli.args[1:]))
    found: dict[str, Any] = {}
    for text in given.extra_vars:
        found |= yaml.safe_load(text) if text.startswith("{") else parse_kv(text)
    return found


@cache
def other_variables() -> set[str]:
    """Return the names of the advanced settings, which roles have themselves."""
    paths = [path for path in ROOT.glob("roles/*/defaults/main.yml") if path.parts[-3] != "settings"]
    return {name for path in paths for name in yaml.safe_load(path.read_text(encoding="utf-8"))}


def commands_of(page: Path) -> list[str]:
    """Return the commands of a page that are parsed here."""
    text = page.read_text(encoding="utf-8")
    typed = [command for block in blocks(text) if not block.reason for command in block.commands]
    skipped = [command for block in blocks(text) if block.reason for command in block.commands]
    # A command that cannot be run here can be parsed all the same.
    typed += [command for command in skipped if command.startswith("./counter ") and not PLACEHOLDER.search(command)]
    return [*(command for command in typed if not command.startswith(FETCH)), *sentences(text)]


README = PAGES[0].read_text(encoding="utf-8")
BLOCKS = blocks(README)
# Words like settings that are none: a module of the kernel, a member of a document, a value, a variable, a role.
OTHER_WORDS = {
    "ansible_port",
    "ansible_ssh_private_key_file",
    "ansible_user",
    "as_deployed",
    "docker_host",
    "ip_vs",
    "log_until",
    "more_counters",
    "operation_id",
}
# Prometheus adds the ending to those that only grow.
METRICS = {
    name + ending
    for part in ("app/counter", "keeper")
    for name in re.findall(r'"(counter_\w+)"', (ROOT / part / "metrics.py").read_text(encoding="utf-8"))
    for ending in ("", "_total")
}
COMMANDS = sorted({command for page in PAGES for command in commands_of(page)})
[SELECTIONS] = re.findall(r"Usage: ./counter test \[(.*)\]", (ROOT / "tests/run").read_text(encoding="utf-8"))


def test_the_readme_can_be_read_in_a_few_minutes() -> None:
    assert len(README.splitlines()) <= 160


def test_lines_outside_tables_are_short() -> None:
    texts = [page.read_text(encoding="utf-8") for page in [*PAGES, ROOT / "app/README.md"]]
    prose = [line for text in texts for line in text.splitlines() if not line.startswith("|")]
    assert [line for line in prose if len(re.sub(r"\]\([^)]*\)", "]", line)) > 120] == []


def test_the_first_block_is_what_a_newcomer_types() -> None:
    assert not BLOCKS[0].reason
    assert BLOCKS[0].commands[-1] == "./counter deploy"
    scenario = (ROOT / "molecule/newcomer/converge.yml").read_text(encoding="utf-8")
    assert "README.md" in scenario


def test_the_newcomer_types_every_other_block() -> None:
    scenario = (ROOT / "molecule/newcomer/verify.yml").read_text(encoding="utf-8")
    typed = re.findall(r'commands: "{{ blocks\[(\d+)\] }}"', scenario)
    assert sorted(map(int, typed)) == list(range(1, len([block for block in BLOCKS if not block.reason])))


def test_the_newcomer_finds_the_command_that_removes_everything() -> None:
    scenario = yaml.safe_load((ROOT / "molecule/newcomer/verify.yml").read_text(encoding="utf-8"))
    pattern = re.findall(r"regex_search\('(.*?)', ", scenario[0]["vars"]["purge"])[0].replace("\\\\", "\\")
    assert re.findall(pattern, README) == ["./counter destroy --purge --confirm counter"]


def objections(command: str) -> object:
    """Return what is wrong with a command."""
    if command.startswith("./counter test"):
        return set(command.split()[2:]) - set(SELECTIONS.split("|"))
    words = shlex.split(command)[1:]
    if words[0] in ("help", "completion"):
        return COMMAND_LINE.main(words)
    given = extra_variables(command)
    settings = {name: value for name, value in given.items() if name not in other_variables() and value != "ID"}
    return refused(settings, str(ROOT))


def test_commands_are_understood() -> None:
    assert len(COMMANDS) > 80
    assert [(command, wrong) for command in COMMANDS if (wrong := objections(command))] == []


def test_settings_in_sentences_exist() -> None:
    texts = [page.read_text(encoding="utf-8") for page in PAGES if page.name != "CONTRIBUTING.md"]
    named = re.findall(r"`(?:-e )?([a-z]+(?:_[a-z]+)+)(?:=[^`]*)?`", BLOCK.sub("", "\n".join(texts)))
    assert set(named) - set(SPECS) - other_variables() - OTHER_WORDS - METRICS == set()


def test_examples_of_settings_stand_in_their_place_and_are_accepted() -> None:
    """Ansible skips a setting at the top of an inventory, with a warning."""
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    bodies = [match["body"] for text in texts for match in BLOCK.finditer(text) if match["language"] == "yaml"]
    inventories = [yaml.safe_load(body) for body in bodies]
    assert [inventory for inventory in inventories if set(inventory) != {"all"}] == []
    given = [inventory["all"].get("vars", {}) for inventory in inventories]
    assert len(given) > 5
    known = set(SPECS) | other_variables() | OTHER_WORDS
    assert [name for variables in given for name in variables if name not in known] == []
    settings = [{name: value for name, value in each.items() if name in SPECS} for each in given]
    assert [wrong for each in settings if (wrong := refused(each, str(ROOT)))] == []


@pytest.mark.parametrize("command", ["./counter fly", "docker run hello", "./counter", "make install"])
def test_an_unknown_command_is_refused(command: str) -> None:
    with pytest.raises(ValueError, match="no test runs"):
        arguments(command)


def test_variables_of_commands_are_found() -> None:
    assert extra_variables("./counter deploy -e a=1 -e 'b=2 c=d'") == {"a": "1", "b": "2", "c": "d"}
    assert extra_variables("""./counter deploy -e '{"a": {"b": 1}}'""") == {"a": {"b": 1}}


def test_commands_are_found() -> None:
    text = "a\n```bash\n./counter fly # far\n```\n<!-- not run: too far -->\n```bash\nb\nc\n```\n```yaml\nd: 1\n```\n"
    assert blocks(text) == [Block(("./counter fly",), ""), Block(("b", "c"), "too far")]
    assert blocks("1. a\n\n   ```bash\n   ./counter fly\n   ```\n") == [Block(("./counter fly",), "")]
    assert blocks("```bash\na \\\n  b\n```\n")[0].commands == ("a b",)
    assert blocks("```text\n./counter deploy\n```\n")[0].commands == ("./counter deploy",)
    assert not blocks("<!-- not run: -->\n```bash\nb\n```\n")[0].reason
    assert extra_variables("./counter maintenance on") == {"on": "true"}
    assert sentences("Type `./counter scale -e replicas=2`, not `./counter VERB` or `./counter a ...`.") == [
        "./counter scale -e replicas=2"
    ]
