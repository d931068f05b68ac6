#!/usr/bin/env python3
"""Writes the tables of README.md and docs/, and of ./counter (launcher/options.json), from the files of the roles.

docs/generate.py            write launcher/options.json, and what is between <!-- generated: NAME --> and <!-- end -->
docs/generate.py --check    write nothing; show what differs, and exit 1 if anything does
"""

from __future__ import annotations

import ast
import difflib
import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SETTINGS = ROOT / "roles/settings"
RUNS = ROOT / "molecule/runs.json"
FEATURES = ROOT / "molecule/features.yml"
FAILURES = ROOT / "molecule/failures.yml"
MEASURED = ROOT / "docs/measured.md"
OPTIONS = ROOT / "launcher/options.json"
METRICS = ROOT / "app/counter/metrics.py"
METRICS_OF_KEEPER = ROOT / "keeper/metrics.py"
# Prometheus adds the ending to those that only grow.
METRIC_ENDINGS = {"Counter": "_total", "Gauge": "", "Histogram": ""}
# The section of the settings that belong to single verbs.
OPTIONS_SECTION = "Options of one run"
# Examples for docs/settings.md, where the table of the settings has no value that works.
EXAMPLES: dict[str, Any] = {
    "acme_root": "-----BEGIN CERTIFICATE----- and the rest of the file",
    "acme_email": "admin@counter.example",
    "app_environment": {"COUNTER_KEY_SECONDS": 3600},
    "backup_copy_repository": "/mnt/copies",
    "backup_environment": {"RESTIC_REST_USERNAME": "counter", "RESTIC_REST_PASSWORD": "the password"},
    "backup_environment_files": {"RESTIC_CACERT": "authority.pem"},
    "backup_heartbeat_url": "https://watch.example/counter",
    "backup_known_hosts": "inventory/backup_known_hosts",
    "backup_password": "the-password-of-the-repository",
    "backup_report_url": "https://watch.example/reports",
    "backup_ssh_key": "inventory/backup_key",
    "cors_origins": ["https://blog.example", "https://shop.example:8443"],
    "edge_certificates": [{"certificate": "/etc/ssl/counter.pem", "key": "/etc/ssl/counter.key"}],
    "edge_domains": ["counter.example"],
    "edge_trusted_proxies": ["192.0.2.5", "198.51.100.0/24"],
    "heartbeat_url": "https://watch.example/counter",
    "notify_urls": ["slack://TokenA/TokenB/TokenC/#operators", "mailtos://me:password@mail.example?to=me@mail.example"],
    "redis_password": "the-password-of-the-app",
    "redis_replicas": 5,
    "redis_url": "redis://192.0.2.20:6379/0",
}
# The section of a role's defaults that other roles pass, and users do not set.
INTERNAL_SECTION = "For other roles"
TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)
REGION = re.compile(r"(?<=<!-- generated: )(?P<name>[a-z ]+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Setting:
    """One or several variables of a defaults file that share a comment."""

    names: tuple[str, ...]
    defaults: tuple[str, ...]
    sentence: str
    section: str


def load(path: Path) -> Any:
    """Return a YAML file of the project."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def read_settings(path: Path) -> list[Setting]:
    """Return the variables of a role's defaults, without the internal ones.

    The comment lines directly above a variable describe it and the variables directly below it that have no comment.
    ``# -- Title`` begins a section. Raises ValueError for a variable that nothing describes.
    """
    text = path.read_text(encoding="utf-8")
    values: dict[str, Any] = yaml.safe_load(text)
    found: list[Setting] = []
    section, comment, described = "", [], False
    for line in text.splitlines():
        if line.startswith("# -- "):
            section = line.removeprefix("# -- ")
        elif line.startswith("#"):
            comment.append(line.removeprefix("#").strip())
        elif name := re.match(r'"?(\w+)"?:', line):
            setting = Setting((name[1],), (show(values[name[1]]),), " ".join(comment), section)
            if not comment and not described:
                msg = f"{path}: no comment describes {name[1]}"
                raise ValueError(msg)
            if not comment:
                last = found.pop()
                setting = Setting(last.names + setting.names, last.defaults + setting.defaults, last.sentence, section)
            found.append(setting)
            comment, described = [], True
        elif not line:
            comment, described = [], False
    return [setting for setting in found if setting.section != INTERNAL_SECTION]


def show(value: Any) -> str:
    """Return a default as a user would write it with ``-e``."""
    if isinstance(value, str) and "{{" in value:
        return "by topology" if "topologies[" in value else "computed"
    if value in ("", [], {}):
        return "empty"
    if isinstance(value, (dict, list)):
        return f"`{yaml.safe_dump(value, default_flow_style=True, width=1000, sort_keys=False).strip()}`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def allowed_values() -> dict[str, str]:
    """Return what each setting may be: its choices, its range, the first clause of its rule, or its type."""
    words = {"dict": "a mapping", "float": "a number", "int": "a whole number", "str": "text"}
    shown = {
        "redis_topology": ", ".join(f"`{name}`" for name in topologies()),
        "redis_replicas": "[by topology](docs/topologies.md#nodes)",
    }
    for name, option in load(SETTINGS / "meta/settings.yml")["settings"].items():
        choices = option.get("choices", ["true", "false"] if option["type"] == "bool" else [])
        spans = {
            "int": "{min} to {max}" if "max" in option else words["int"],
            "size": "a size such as 128M or 1G, at least {min}",
        }
        rule = re.split(r"; |\. ", option.get("rule", ""))[0]
        text = option.get("values", rule) or spans.get(option["type"], words.get(option["type"], "")).format(**option)
        shown.setdefault(name, ", ".join(f"`{choice}`" for choice in choices) or text)
    return shown


def topologies() -> dict[str, dict[str, Any]]:
    """Return the table of topologies."""
    return dict(load(SETTINGS / "vars/main/topologies.yml")["topologies"])


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    lines = [list(heads), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(cell.replace('|', r'\|') for cell in line)} |\n" for line in lines)


def settings_list() -> str:
    """Return a heading for each setting, with its default, its values and where it is written."""
    values, specs = allowed_values(), load(SETTINGS / "meta/settings.yml")["settings"]
    found = [each for each in read_settings(SETTINGS / "defaults/main.yml") if each.section != OPTIONS_SECTION]
    parts = []
    for section in dict.fromkeys(setting.section for setting in found):
        members = [setting for setting in found if setting.section == section]
        listed = ", ".join(f"[`{setting.names[0]}`](#{setting.names[0]})" for setting in members)
        parts.append(f"### {section}\n\n{wrapped(listed + '.')}\n")
        parts += [setting_part(setting, values[setting.names[0]], specs[setting.names[0]]) for setting in members]
    return "\n".join(parts)


def setting_part(setting: Setting, values: str, spec: dict[str, Any]) -> str:
    """Return the part of the page about one setting; ``spec`` is its entry in the table."""
    name = setting.names[0]
    text = wrapped(f"{setting.sentence} Default: {setting.defaults[0]}. Allowed: {values}.")
    works = spec.get("works", spec.get("choices", [yaml.safe_load(plain(setting.defaults[0]))])[0])
    several = "works" in spec and isinstance(works, dict)
    given = works if several and name not in EXAMPLES else {name: EXAMPLES.get(name, works)}
    example = yaml.safe_dump({"all": {"vars": given}}, sort_keys=False, width=1000)
    return f"#### `{name}`\n\n{text}\n\n```yaml\n{example}```\n"


def wrapped(text: str) -> str:
    """Return a paragraph in lines that are short without the targets of their links."""
    targets = re.findall(r"\]\([^)]*\)", text)
    short = re.sub(r"\]\([^)]*\)", "\0", text)
    filled = textwrap.fill(short, 120, break_long_words=False, break_on_hyphens=False)
    return re.sub("\0", lambda _: targets.pop(0), filled)


def options_table() -> str:
    """Return a table of the options of single verbs."""
    values = allowed_values()
    rows = [
        (f"`{setting.names[0]}`", setting.defaults[0], values[setting.names[0]], setting.sentence)
        for setting in read_settings(SETTINGS / "defaults/main.yml")
        if setting.section == OPTIONS_SECTION
    ]
    return table(("option", "default", "values", "meaning"), rows)


def role_table(path: Path) -> str:
    """Return a table of the variables of another role."""
    rows = [
        (", ".join(f"`{name}`" for name in setting.names), ", ".join(setting.defaults), setting.sentence)
        for setting in read_settings(path)
    ]
    return table(("setting", "default", "meaning"), rows)


def role_tables() -> str:
    """Return a table for each role with advanced settings, except the benchmark, whose page has its own."""
    tables = []
    for path in sorted(ROOT.glob("roles/*/defaults/main.yml")):
        role = path.parts[-3]
        if role not in ("settings", "bench") and read_settings(path):
            tables.append(f"### Role {role}\n\n{role_table(path)}")
    return "\n".join(tables)


def promises() -> str:
    """Return what each topology promises."""
    default = load(SETTINGS / "defaults/main.yml")["redis_topology"]
    rows = [
        (f"`{name}`{' (default)' if name == default else ''}", entry["promise"], entry["survives"])
        for name, entry in topologies().items()
    ]
    return table(("topology", "what an acknowledged increment promises", "when one process or host is lost"), rows)


def topology_nodes() -> str:
    """Return which nodes each topology runs."""
    rows = [
        (
            f"`{name}`",
            str(entry["default_nodes"]),
            entry["nodes_rule"],
            str(entry["sentinels"]),
            f"`{entry['default_write_concern']}`",
            "yes" if entry["movable"] else "no",
        )
        for name, entry in topologies().items()
    ]
    heads = ("topology", "nodes", "`redis_replicas` can be", "Sentinels", "`write_concern`", "counters can move")
    return table(heads, rows)


def green_runs() -> dict[str, dict[str, Any]]:
    """Return the last green run of each scenario that has one."""
    return dict(json.loads(RUNS.read_text(encoding="utf-8"))) if RUNS.exists() else {}


def runs() -> str:
    """Return the last green run of each scenario; of those without one, only the name."""
    found = green_runs()
    figures = ("acknowledged", "lost", "doubled", "failed", "gap")
    rows = []
    for scenario in sorted(path.parent.name for path in ROOT.glob("molecule/*/molecule.yml")):
        run = found.get(scenario, {})
        minutes = f"{run['seconds'] / 60:.0f}" if run else ""
        shown = [f"{run[key]:,}" if key in run else "" for key in figures]
        known = [str(run.get(key, "")) for key in ("commit", "date")]
        machine = [str(run.get(key, "")) for key in ("cores", "slowness")]
        rows.append((f"`{scenario}`", *known, minutes, *machine, *shown))
    return table(("scenario", "commit", "date", "minutes", "cores", "slowness", *figures), rows)


def features() -> str:
    """Return which scenarios show each feature, and when they last did."""
    found = green_runs()

    def last(scenario: str) -> str:
        run = found.get(scenario)
        return f"`{scenario}` ({run['commit']}, {run['date']})" if run else f"`{scenario}`"

    shown = load(FEATURES)["features"].items()
    return table(("feature", "scenarios"), ((feature, ", ".join(map(last, names))) for feature, names in shown))


def untested() -> str:
    """Return what nothing tries, by page."""
    pages = load(FEATURES)["untested"].items()
    return "".join(f"- [{page}](docs/{page}): {text}\n" for page, texts in pages for text in texts)


def failures() -> str:
    """Return what happens to counting when something fails, by topology, with the gaps of docs/measured.md."""
    columns = ("standalone", "sentinel", "cluster")
    measured = MEASURED.read_text(encoding="utf-8")

    def cell(topology: str, entry: dict[str, str] | None) -> str:
        if entry is None:
            return "has none"
        gap = recorded_gap(measured, entry["measured"], topology) if "measured" in entry else ""
        return f"{entry['counting']}: {gap} s" if gap else f"{entry['counting']} (not measured)"

    rows = [(fault, *(cell(name, of.get(name)) for name in columns)) for fault, of in load(FAILURES).items()]
    return table(("what fails", *(f"`{name}`" for name in columns)), rows)


def recorded_gap(text: str, place: str, topology: str) -> str:
    """Return the gap in the row that ``place`` (heading > cell) names; raises ValueError unless there is exactly one.

    It is beside the column of the topology, or in the only column of gaps.
    """
    heading, _, label = place.partition(" > ")
    found = []
    for section in re.split(r"^#+ ", text, flags=re.MULTILINE):
        title, _, content = section.partition("\n")
        for lines in TABLE.findall(content) if title == heading else ():
            heads, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines.splitlines())
            gaps = [index for index, head in enumerate(heads) if head.endswith("gap")]
            column = heads.index(f"`{topology}`") + 1 if f"`{topology}`" in heads else min(gaps, default=None)
            found += [cells[column] for cells in rows if label in cells and column in gaps]
    if len(found) != 1 or not re.search(r"\d", found[0]):
        msg = f"{MEASURED}: {place!r} names {len(found)} rows with a gap of {topology}, not one"
        raise ValueError(msg)
    return found[0]


def options() -> str:
    """Return what ./counter knows of its options before anything is installed, as JSON with a line for each."""
    allowed = allowed_values() | {"redis_replicas": "a whole number that the topology allows"}
    specs = load(SETTINGS / "meta/settings.yml")["settings"]
    specs["redis_topology"]["choices"] = list(topologies())
    settings = {
        name: option_of(setting, number, specs[name]) | {"allowed": plain(allowed[name])}
        for setting in read_settings(SETTINGS / "defaults/main.yml")
        for number, name in enumerate(setting.names)
    }
    for setting in read_settings(ROOT / "roles/bench/defaults/main.yml"):
        for number, name in enumerate(setting.names):
            settings[name] = option_of(setting, number, {"verbs": ["bench"]}) | {"allowed": ""}
    shown = ",\n".join(f"    {json.dumps(name)}: {json.dumps(entry)}" for name, entry in settings.items())
    ansible = ",\n".join(f"    {json.dumps(option)}" for option in options_of_ansible())
    return f'{{\n  "settings": {{\n{shown}\n  }},\n  "ansible": [\n{ansible}\n  ]\n}}\n'


def option_of(setting: Setting, number: int, spec: dict[str, Any]) -> dict[str, Any]:
    """Return what ./counter knows of one variable of a setting; ``spec`` is its entry in the table."""
    name, default = setting.names[number], plain(setting.defaults[number])
    kind = "bool" if default in ("true", "false") else "list" if default.startswith("[") else "str"
    fallback = default if default not in ("empty", "computed", "by topology") else ""
    works = spec.get("works", spec.get("choices", [fallback])[0])
    works = works.get(name, "") if isinstance(works, dict) else works
    kept: dict[str, Any] = {key: spec[key] for key in ("choices", "match", "verbs", "place", "words") if key in spec}
    return {
        "type": spec.get("type", kind),
        "default": "" if default == "empty" else default,
        "meaning": plain(setting.sentence, marks=True),
        "works": str(works).lower() if isinstance(works, bool) else str(works),
        **{key: str(spec[key]) for key in ("min", "max") if key in spec},
        **kept,
        **({"secret": True} if "no_log" in spec else {}),
    }


def plain(text: str, *, marks: bool = False) -> str:
    """Return a text without links and, unless ``marks``, without the marks of Markdown."""
    linked = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
    return linked if marks else linked.replace("`", "")


def options_of_ansible() -> list[dict[str, Any]]:
    """Return the options that ansible-playbook lists: their ``flags``, and if they take a ``value``."""
    command = Path(sys.executable).with_name("ansible-playbook")
    listed = subprocess.run([command, "--help"], capture_output=True, text=True, check=True).stdout
    found: list[dict[str, Any]] = []
    for option in re.findall(r"^  (-\S.*?)(?:  |$)", listed, re.MULTILINE):
        words = [part.split() for part in option.split(", ")]
        found.append({"flags": [flag for flag, *_ in words], "value": any(len(word) > 1 for word in words)})
    return [option for option in found if "--help" not in option["flags"]]


def exit_codes() -> str:
    """Return the table of what ./counter exits with."""
    rows = [f"| {each['code']} | {each['meaning']} |" for each in load(ROOT / "launcher/exit_codes.json").values()]
    return "\n".join(["| exit code | meaning |", "| ---: | --- |", *rows, ""])


def metrics(module: Path, whose: str) -> str:
    """Return the metrics of a program, as its module defines them: name, description, names of the labels."""
    rows = []
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in METRIC_ENDINGS:
            name, text, *labels = (ast.literal_eval(argument) for argument in node.args)
            by = f" By {', '.join(f'`{label}`' for label in labels[0])}." if labels else ""
            rows.append((node.lineno, f"`{name}{METRIC_ENDINGS[node.func.id]}`", text + by))
    return table((f"metric of {whose}", "what it shows"), (row for _, *row in sorted(rows)))


PRODUCERS: dict[str, Callable[[], str]] = {
    "settings": settings_list,
    "options": options_table,
    "settings of roles": role_tables,
    "settings of the benchmark": lambda: role_table(ROOT / "roles/bench/defaults/main.yml"),
    "promises": promises,
    "nodes": topology_nodes,
    "runs": runs,
    "features": features,
    "untested": untested,
    "failures": failures,
    "exit codes": exit_codes,
    "metrics": lambda: metrics(METRICS, "each app replica"),
    "metrics of the keeper": lambda: metrics(METRICS_OF_KEEPER, "the keeper"),
}


def generate(page: Path, *, keep: Iterable[str] = ()) -> str:
    """Return the text of a page with its tables written anew, but those to ``keep``."""

    def produce(region: re.Match[str]) -> str:
        if region["name"] in keep:
            return region[0]
        text = PRODUCERS[region["name"]]()
        # Links in the roles' files are relative to the root of the project.
        return region["name"] + region[2] + (text if page.parent == ROOT else text.replace("](docs/", "]("))

    return REGION.sub(produce, page.read_text(encoding="utf-8"))


def main(arguments: list[str]) -> int:
    """Write the tables, or compare them; return the exit code."""
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    different = 0
    # A scenario may note its run at any moment.
    kept = ["runs", "features"] if arguments else []
    for page in [*PAGES, OPTIONS]:
        before = page.read_text(encoding="utf-8") if page.exists() else ""
        after = options() if page == OPTIONS else generate(page, keep=kept)
        if before == after:
            continue
        if not arguments:
            page.parent.mkdir(exist_ok=True)
            page.write_text(after, encoding="utf-8")
            continue
        different += 1
        name = str(page.relative_to(ROOT))
        print(
            "".join(
                difflib.unified_diff(
                    before.splitlines(keepends=True), after.splitlines(keepends=True), name, f"{name}, generated", n=0
                )
            )
        )
    if different:
        print("These tables are out of date. This writes them anew: python3 docs/generate.py")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
