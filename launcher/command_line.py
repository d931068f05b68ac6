"""What ./counter understands: its verbs, their words and options, help and completion.

command_line.py VERB [WORD ...]      check the words; print the verb, its playbook and ansible-playbook's options
command_line.py help [VERB]          describe the verbs, or one of them
command_line.py completion SHELL     print a script for bash or zsh, which asks for `completion words WORD ...`

The launcher starts it before it installs anything, so it needs only Python 3.10, exit_codes.json, and the table in
options.json, which docs/generate.py writes. It exits with 2, after one line, for a command that cannot work.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
EXIT_CODES: dict[str, dict[str, Any]] = json.loads((ROOT / "launcher/exit_codes.json").read_text(encoding="utf-8"))
# These deploy, so that they take each setting of the stack.
DEPLOYING = ("deploy", "restore")
# How Ansible reads values of these types, as text.
PATTERNS = {
    "bool": "(?i:y|yes|on|1|true|t|n|no|off|0|false|f)",
    "float": r"[0-9]+(\.[0-9]+)?",
    "int": "[0-9]{1,18}",
    "port": "[0-9]{1,18}",
    "size": "[0-9]+[MG]",
}
UNITS = {"M": 2**20, "G": 2**30}
# A value that needs no quotes after -e.
PLAIN = re.compile(r"[^\s'\"\\{}]*")


class RefusedError(Exception):
    """A command that cannot work. The message says why, and what works."""


@dataclass(frozen=True)
class Setting:
    """A setting, as options.json has it: ``place`` and ``words`` are as in roles/settings/meta/settings.yml."""

    name: str
    type: str
    allowed: str
    default: str
    meaning: str
    works: str = ""
    choices: tuple[str, ...] = ()
    min: str = ""
    max: str = ""
    match: str = "(?s).*"
    verbs: tuple[str, ...] = ()
    place: tuple[str, ...] = ()
    words: dict[str, str] = field(default_factory=dict)
    secret: bool = False

    @property
    def option(self) -> str:
        """Its name as an option."""
        return f"--{self.name.replace('_', '-')}"

    def is_of(self, verb: str) -> bool:
        """Tell whether it is an option of this verb, and not of others."""
        return verb in self.verbs or self.name == "stack_name" or (not self.verbs and verb in DEPLOYING)

    def fits(self, value: str) -> bool:
        """Tell whether a value is allowed, as far as the table says; preflight checks the rest."""
        if not re.fullmatch(PATTERNS.get(self.type, "(?s).*"), value) or not re.fullmatch(self.match, value):
            return False
        if self.choices:
            return value in self.choices
        least, most = (amount(limit) if limit else None for limit in (self.min, self.max))
        return (least is None or least <= amount(value)) and (most is None or amount(value) <= most)

    def variable(self, value: str) -> list[str]:
        """Return the value as a variable of ansible-playbook; ``fits`` must be true."""
        meant: Any = value
        if self.type in ("dict", "list") and value[:1] in ("[", "{"):
            meant = json.loads(value)
        elif self.type == "list":
            meant = [json.loads(each) if re.fullmatch(PATTERNS["float"], each) else each for each in value.split(",")]
        plain = isinstance(meant, str) and PLAIN.fullmatch(meant)
        return ["-e", f"{self.name}={meant}" if plain else json.dumps({self.name: meant}, ensure_ascii=False)]


@dataclass(frozen=True)
class Verb:
    """A verb, as the comment at the top of its playbook describes it."""

    name: str
    playbook: str
    sentence: str
    examples: tuple[str, ...]

    @property
    def place(self) -> Setting | None:
        """The setting that a word without a name sets."""
        return next((setting for setting in SETTINGS.values() if self.name in setting.place), None)

    def refuse(self, reason: str, works: str = "") -> RefusedError:
        """Return an error with a command that works."""
        works = works or next(iter(self.examples), f"./counter help {self.name}")
        return RefusedError(f"{reason}{'' if reason.endswith('?') else '.'} This works: {works}")


def amount(text: str) -> float:
    """Return the number that a text is, which may be a size."""
    return float(text[:-1]) * UNITS[text[-1]] if text[-1] in UNITS else float(text)


def load_table() -> tuple[dict[str, Setting], list[dict[str, Any]]]:
    """Return the settings by name, and the options of ansible-playbook: ``flags``, and if they take a ``value``."""
    table = json.loads((ROOT / "launcher/options.json").read_text(encoding="utf-8"))
    return {name: Setting(name, **entry) for name, entry in table["settings"].items()}, table["ansible"]


SETTINGS, ANSIBLE = load_table()


def all_verbs() -> dict[str, Verb]:
    """Return the verbs. A playbook is one if it begins with a comment: a sentence, and lines with examples.

    The playbook behind one at the root is the same verb.
    """
    found: dict[str, Verb] = {}
    for path in [*sorted(ROOT.glob("*.yml")), *sorted(ROOT.glob("playbooks/*.yml"))]:
        lines = re.match(r"(?:# .*\n)*", path.read_text(encoding="utf-8"))[0].splitlines()  # type: ignore[index]
        if lines:
            sentence, *examples = (line.removeprefix("# ") for line in lines)
            verb = Verb(path.stem, str(path.relative_to(ROOT)), sentence, tuple(examples))
            found.setdefault(path.stem, verb)
    return found


def kinds_of_test() -> str:
    """Return what ./counter test can be followed by, as its own message says it."""
    found = re.search(r"Usage: ./counter test \[(.*)\]", (ROOT / "tests/run").read_text(encoding="utf-8"))
    return found[1] if found else ""


class Parser(argparse.ArgumentParser):
    """A parser of a verb's words, which collects those of ansible-playbook in ``words``."""

    def __init__(self, verb: Verb, **more: Any) -> None:
        """Take the verb, and what argparse takes."""
        super().__init__(prog=f"./counter {verb.name}", add_help=False, **more)
        self.verb = verb

    def error(self, message: str) -> Any:
        """Refuse what argparse does not understand."""
        raise self.verb.refuse(message)


class HandOn(argparse.Action):
    """Hands an option on to ansible-playbook. Of those that would do harm or nothing, it says why they cannot work."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        """Add the option to ``words``."""
        flags, refuse = self.option_strings, parser.verb.refuse
        if "--tags" in flags or "--skip-tags" in flags:
            raise refuse(f"{option_string}: the stages of a verb have no tags; leave it out")
        # Ansible would blame the inventory, even if the file is one of variables. A list of hosts has a comma.
        if "--inventory" in flags and "," not in values and not exists(values):
            missing = f"there is no inventory {values} (looked for in {Path.cwd()})"
            raise refuse(f"{missing}; without -i, inventory/hosts.yml is used")
        if "--extra-vars" in flags and values.startswith("@") and not exists(values[1:]):
            raise refuse(f"-e {values}: there is no such file (looked for in {Path.cwd()})")
        if self.nargs == 0:
            namespace.words.append(option_string)
        elif option_string.startswith("--"):
            namespace.words.append(f"{option_string}={values}")
        else:
            namespace.words += [option_string, values]


class Set(argparse.Action):
    """Hands a setting on to ansible-playbook, as a variable."""

    def __init__(self, setting: Setting, **more: Any) -> None:
        """Take the setting, and what argparse takes."""
        super().__init__(**more)
        self.setting = setting

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        """Add the variable to ``words``."""
        setting, verb = self.setting, parser.verb
        if setting.verbs and verb.name not in setting.verbs:
            readers = " and ".join(f"./counter {name}" for name in setting.verbs)
            raise verb.refuse(f"{option_string} is an option of {readers}; {verb.name} would ignore it")
        namespace.words += checked(verb, setting, values, f"{option_string} ")


def checked(verb: Verb, setting: Setting, value: str, before: str = "") -> list[str]:
    """Return a value as a variable; raise RefusedError if it cannot work. ``before`` is what was typed before it."""
    try:
        if setting.fits(value):
            return setting.variable(value)
    except ValueError:
        pass
    choices = setting.choices if before else tuple(setting.words) or setting.choices
    example = choices[0] if choices else setting.works
    works = f"./counter {verb.name} {before}{shlex.quote(example)}" if example else ""
    typed = f"{verb.name} {before}{'***' if setting.secret else value}"
    raise verb.refuse(f"{typed}: must be {' or '.join(choices) or setting.allowed}", works)


def exists(path: str) -> bool:
    """Tell whether a file exists. The shell expands ~ only at the beginning of a word."""
    return Path(os.path.expanduser(path)).exists()  # noqa: PTH111  # a Path raises an error for a user who does not exist


def parser_of(verb: Verb, **more: Any) -> Parser:
    """Return a parser of a verb's options: all settings, of which help shows its own, and those of ansible-playbook."""
    parser = Parser(verb, **more)
    own = parser.add_argument_group("options, also as -e NAME=VALUE")
    for setting in sorted(SETTINGS.values(), key=lambda each: each.name == "stack_name"):
        shown = setting.is_of(verb.name) and (setting.verbs or setting.name == "stack_name")
        limits = "; ".join(filter(None, [setting.allowed, setting.default and f"default: {setting.default}"]))
        text = f"{meaning_for(verb, setting)} ({limits})".replace("%", "%%")
        own.add_argument(
            setting.option,
            action=Set,
            setting=setting,
            # A flag is true if it stands alone.
            **({"nargs": "?", "const": "true"} if setting.type == "bool" else {}),  # type: ignore[arg-type]
            metavar="VALUE",
            help=text if shown else argparse.SUPPRESS,
        )
    for option in ANSIBLE:
        parser.add_argument(
            *option["flags"], action=HandOn, nargs=None if option["value"] else 0, help=argparse.SUPPRESS
        )
    return parser


def meaning_for(verb: Verb, setting: Setting) -> str:
    """Return the sentence of a setting without what it says of other verbs, and without the marks of Markdown."""
    before, *parts = re.split(r"(?:^|(?<=\. ))(`[a-z]+`(?:, `[a-z]+`)*): ", setting.meaning)
    said = [text for verbs, text in zip(parts[::2], parts[1::2], strict=True) if f"`{verb.name}`" in verbs]
    text = " ".join([before, *said]).strip().replace("`", "")
    return text[:1].upper() + text[1:]


def words_for_ansible(verb: Verb, words: Sequence[str]) -> list[str]:
    """Return the options of ansible-playbook that a command means; raise RefusedError if it cannot work."""
    found, others = parser_of(verb).parse_known_args(words, argparse.Namespace(words=[]))
    place = verb.place
    for word in others:
        if word.startswith("-"):
            own = [setting.option for setting in SETTINGS.values() if setting.is_of(verb.name)]
            near = get_close_matches(word, own)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise verb.refuse(f"{verb.name} has no option {word}{hint}", f"./counter help {verb.name}")
        if re.match(r"\w+=", word):
            raise verb.refuse(f"{word} follows no -e", f"./counter {verb.name} -e {shlex.quote(word)}")
        if place is None:
            raise verb.refuse(f"{verb.name} does not know the word {word}")
        found.words += checked(verb, place, place.words.get(word, word))
        place = None
    return list(found.words)


def describe_all() -> str:
    """Return the list of the verbs."""
    lines = ["usage: ./counter VERB [WORD] [OPTION ...]", ""]
    lines += [f"  {verb.name:12} {verb.sentence}" for verb in all_verbs().values()]
    lines.append(f"  {'test':12} Run the checks of the project: test [{kinds_of_test()}].")
    return "\n".join(
        [
            *lines,
            "",
            "./counter help VERB shows its options and examples, ./counter --version the version of the project.",
            "source <(./counter completion bash) lets the shell complete what you type; zsh: completion zsh.",
        ]
    )


def describe(verb: Verb) -> str:
    """Return the help of a verb."""
    place = verb.place
    more = ["options of ansible-playbook can follow, such as -i INVENTORY, --check, --diff, -v and -e NAME=VALUE"]
    if verb.name in DEPLOYING:
        more = ["each setting of docs/settings.md is an option too, such as --app-memory 128M", *more]
    if verb.examples:
        more += ["", "examples:", *(f"  {example}" for example in verb.examples)]
    more += [
        "",
        "exit codes:",
        *(f"  {each['code']}  {each['meaning'].replace('`', '')}" for each in EXIT_CODES.values()),
    ]
    parser = parser_of(
        verb,
        usage=f"./counter {verb.name} {f'[{place.name.upper()}] ' if place else ''}[OPTION ...]",
        description=verb.sentence,
        epilog="\n".join(more),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if place:
        words = f"{' or '.join(place.words)}; " if place.words else ""
        group = parser.add_argument_group("word")
        group.add_argument(place.name.upper(), nargs="?", help=f"{words}the same as {place.option}")
    return parser.format_help().rstrip()


def completions(words: Sequence[str]) -> list[str]:
    """Return what can stand in the place of the last word; nothing stands for the name of a file."""
    # The shell makes a word of the = between an option and its value.
    *before, _ = [word for word in words if word != "="] + [""] * (words[-1] == "=")
    verbs = all_verbs()
    if not before:
        return [*verbs, "test", "help", "completion"]
    fixed = {"help": [*verbs, "test"], "completion": ["bash", "zsh"], "test": kinds_of_test().split("|")}
    if before[0] not in verbs:
        return fixed.get(before[0], []) if len(before) == 1 else []
    verb, last = verbs[before[0]], before[-1]
    for option in ANSIBLE:
        if last in option["flags"] and option["value"]:
            return []
    for setting in SETTINGS.values():
        if last == setting.option and setting.type != "bool":
            return list(setting.choices)
    place = verb.place if len(before) == 1 else None
    options = [setting.option for setting in SETTINGS.values() if setting.is_of(verb.name)]
    long = [flag for option in ANSIBLE for flag in option["flags"] if flag.startswith("--")]
    return [*(place.words or place.choices if place else ()), *options, *long, "--help"]


def completion(shell: str = "", *words: str) -> str:
    """Return the script for a shell, or what can stand in the place of the last word."""
    if shell == "words":
        return "\n".join(completions(words))
    script = (ROOT / "launcher/completion.bash").read_text(encoding="utf-8").rstrip()
    if shell == "bash":
        return script
    if shell == "zsh":
        return f"autoload -U +X compinit bashcompinit && compinit && bashcompinit\n{script}"
    works = "source <(./counter completion bash)"
    raise RefusedError(f"completion for '{shell}': must be bash or zsh. This works: {works}")


def help_on(name: str = "", *_: str) -> str:
    """Return the list of the verbs, or the help of one of them."""
    if name == "test":
        described = "Run the checks of the project: CONTRIBUTING.md describes them."
        return f"usage: ./counter test [{kinds_of_test()}]\n\n{described}"
    return describe(known(name)) if name else describe_all()


def known(name: str) -> Verb:
    """Return a verb; raise RefusedError if there is none of this name."""
    verbs = all_verbs()
    if name not in verbs:
        raise RefusedError(f"no verb '{name}'; ./counter lists the verbs")
    return verbs[name]


def run(name: str, *words: str) -> str:
    """Return what the launcher runs, quoted: the verb, its playbook, and the options of ansible-playbook."""
    verb = known(name)
    return shlex.join([verb.name, verb.playbook, *words_for_ansible(verb, words)])


def main(words: Sequence[str]) -> int:
    """Answer a command; return the exit code."""
    others: dict[str, Callable[..., str]] = {"help": help_on, "completion": completion}
    first, *rest = words or ["help"]
    try:
        print(others[first](*rest) if first in others else run(first, *rest))
    except RefusedError as error:
        print(f"counter: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
