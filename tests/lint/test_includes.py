"""What includes what: each target is there and used, and no role includes itself, not even through others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from support.ansible import ROOT
from support.documents import mappings

ROLES = ROOT / "roles"
PLAYBOOKS = [*ROOT.glob("*.yml"), *ROOT.glob("playbooks/**/*.yml")]
SOURCES = [*PLAYBOOKS, *ROLES.glob("*/tasks/**/*.yml"), *ROLES.glob("*/handlers/*.yml")]
# A name that is a setting, and its choices.
SETTING = {"{{ desired.image_distribution }}.yml": ("load", "registry")}


class Include(NamedTuple):
    """A file, and one that it includes."""

    source: Path
    target: Path


def names(text: str) -> Iterator[str]:
    """Yield the files that a name, or a template with names in quotes, can lead to."""
    for name in SETTING.get(text) or (re.findall(r"'(\w+(?:\.yml)?)'", text) if "{{" in text else (text,)):
        yield f"{name.removesuffix('.yml')}.yml"


def targets(source: Path, task: dict[str, Any]) -> Iterator[Path]:
    """Yield the files that a task or a play includes."""
    for word, value in task.items():
        match word.removeprefix("ansible.builtin."):
            case "include_tasks" | "import_tasks" | "import_playbook":
                for name in names(value["file"] if isinstance(value, dict) else value):
                    yield (tasks_of(source) if role_of(source) else source.parent) / name
            case "include_role" | "import_role":
                for name in names(value.get("tasks_from", "main")):
                    yield ROLES / value["name"] / "tasks" / name
            case "roles":
                for role in value:
                    path = ROLES / (role["role"] if isinstance(role, dict) else role) / "tasks/main.yml"
                    # Of some roles, a play takes only the variables.
                    if path.parent.exists():
                        yield path


def role_of(path: Path) -> str | None:
    """Return the role that a file belongs to."""
    return path.relative_to(ROLES).parts[0] if path.is_relative_to(ROLES) else None


def tasks_of(source: Path) -> Path:
    """Return the directory ``tasks`` above a file, from which names count in each of its directories."""
    return next(path for path in source.parents if path.name == "tasks")


def includes() -> list[Include]:
    """Return all includes of the playbooks and roles."""
    return [
        Include(source, target.resolve())
        for source in SOURCES
        for task in mappings(source)
        for target in targets(source, task)
    ]


INCLUDES = includes()


def test_each_target_is_there() -> None:
    assert len(INCLUDES) > 200
    assert [(str(source), str(target)) for source, target in INCLUDES if not target.exists()] == []


def test_each_file_of_tasks_is_included() -> None:
    included = {target for _, target in INCLUDES}
    assert [str(path.relative_to(ROOT)) for path in ROLES.glob("*/tasks/**/*.yml") if path not in included] == []


def test_no_role_includes_itself_through_others() -> None:
    uses: dict[str, set[str]] = {}
    for source, target in INCLUDES:
        begin, end = role_of(source), role_of(target)
        if begin and end and begin != end:
            uses.setdefault(begin, set()).add(end)

    def ways(*way: str) -> Iterator[str]:
        """Yield each way that leads back to its first role."""
        for other in sorted(uses.get(way[-1], ())):
            if other == way[0]:
                yield " -> ".join([*way, other])
            elif other not in way:
                yield from ways(*way, other)

    graph = "\n".join(f"{role}: {' '.join(sorted(others))}" for role, others in sorted(uses.items()))
    assert [found for role in sorted(uses) for found in ways(role)] == [], graph
