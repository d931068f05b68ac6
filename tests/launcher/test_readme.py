"""Every command of the README is run or parsed by a test, or says why it is not.

A block of commands is typed by the molecule scenario ``newcomer``, or parsed here by the playbook that it calls. One
that is not has the comment ``<!-- not run: REASON -->`` on the line before it.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from support.ansible import ROOT, run

README = (ROOT / "README.md").read_text(encoding="utf-8")
VERBS = sorted(path.stem for path in ROOT.glob("*.yml"))
KNOBS: dict[str, Any] = yaml.safe_load((ROOT / "inventory/group_vars/all.yml").read_text(encoding="utf-8"))
BLOCK = re.compile(
    r"(?:^<!-- (?P<comment>[^\n]*) -->\n)?^```(?P<language>\w*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL
)
# What gets the checkout; the scenario copies it instead.
FETCH = ("git clone ", "cd ")


@dataclass(frozen=True)
class Block:
    """A block of commands; ``reason`` is why it is not run, or empty."""

    commands: tuple[str, ...]
    reason: str


def blocks(text: str) -> list[Block]:
    """Return the blocks of commands of a Markdown text, without their comments."""
    found = []
    for match in BLOCK.finditer(text):
        if match["language"] in ("bash", "sh", "shell", "console"):
            lines = (re.sub(r"(^|\s+)#.*", "", line).strip() for line in match["body"].splitlines())
            reason = re.fullmatch(r"not run: (.+)", match["comment"] or "")
            found.append(Block(tuple(filter(None, lines)), reason[1] if reason else ""))
    return found


def arguments(command: str) -> list[str]:
    """Return verb and options of a command of the launcher; raise ValueError for a command that no test knows."""
    words = shlex.split(command)
    if words[0] != "./counter" or len(words) < 2 or words[1] not in VERBS:
        raise ValueError(f"no test runs `{command}`: see tests/launcher/test_readme.py")
    return words[1:]


def known_variables() -> str:
    """Return all text in which a variable that can be set is named."""
    files = [*ROOT.glob("inventory/group_vars/*.yml"), *ROOT.glob("roles/*/*/*.yml"), *ROOT.glob("playbooks/*.yml")]
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


BLOCKS = blocks(README)
COMMANDS = [command for block in BLOCKS if not block.reason for command in block.commands]
CALLS = [command for command in COMMANDS if not command.startswith(FETCH)]


def test_the_readme_can_be_read_in_a_few_minutes() -> None:
    assert len(README.splitlines()) < 250


def test_the_first_block_is_what_a_newcomer_types() -> None:
    assert not BLOCKS[0].reason
    assert BLOCKS[0].commands[-1] == "./counter deploy"
    scenario = (ROOT / "molecule/newcomer/converge.yml").read_text(encoding="utf-8")
    assert "README.md" in scenario


def test_the_newcomer_types_every_other_block() -> None:
    scenario = (ROOT / "molecule/newcomer/verify.yml").read_text(encoding="utf-8")
    typed = re.findall(r'commands: "{{ blocks\[(\d+)\] }}"', scenario)
    assert sorted(map(int, typed)) == list(range(1, len([block for block in BLOCKS if not block.reason])))


@pytest.mark.parametrize("command", sorted(set(CALLS)))
def test_command(command: str) -> None:
    verb, *options = arguments(command)
    done = run("ansible-playbook", f"{verb}.yml", *options, "--list-tasks")
    assert done.returncode == 0, done.stderr
    assert f"playbook: {verb}.yml" in done.stdout


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.commands[0])
def test_variables_of_commands_exist(block: Block) -> None:
    """Those that are not run too: a variable with a wrong name would be ignored without a word."""
    for command in block.commands:
        for name in re.findall(r"-e (\w+)=", command):
            assert re.search(rf"\b{name}\b", known_variables()), f"{name} in `{command}`"


def test_the_table_of_knobs_is_complete() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \|", README.partition("## Knobs")[2].partition("\n## ")[0], re.MULTILINE)
    assert [name for name, _ in rows] == list(KNOBS)
    for name, default in rows:
        value = KNOBS[name]
        if "{{" not in str(value) and value != "":
            shown = str(value).lower() if isinstance(value, bool) else str(value)
            assert default == f"`{shown}`", name


@pytest.mark.parametrize("command", ["./counter fly", "docker run hello", "./counter", "make install"])
def test_an_unknown_command_is_refused(command: str) -> None:
    with pytest.raises(ValueError, match="no test runs"):
        arguments(command)


def test_blocks_are_found() -> None:
    text = "a\n```bash\n./counter fly # far\n```\n<!-- not run: too far -->\n```bash\nb\nc\n```\n```yaml\nd: 1\n```\n"
    assert blocks(text) == [Block(("./counter fly",), ""), Block(("b", "c"), "too far")]
    assert not blocks("<!-- not run: -->\n```bash\nb\n```\n")[0].reason
