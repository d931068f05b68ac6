"""The defaults of a role and its argument specification say the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from support.ansible import ROOT

# The settings have a table of their own (test_settings.py).
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir() and path.name != "settings")
TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "bool": (bool,),
    "str": (str,),
    "path": (str,),
    "list": (list,),
    "dict": (dict,),
    "float": (int, float),
    # The role says itself what it takes.
    "raw": (object,),
}


def read(path: Path) -> dict[str, Any]:
    return (yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None) or {}


def specs(role: Path) -> dict[str, dict[str, Any]]:
    """Return the options of every entry point of a role, with their specification."""
    entries = read(role / "meta/argument_specs.yml").get("argument_specs", {})
    assert all(entry.get("short_description") for entry in entries.values())
    return {name: spec for entry in entries.values() for name, spec in entry.get("options", {}).items()}


def by_name(role: Path) -> str:
    return role.name


@pytest.mark.parametrize("role", ROLES, ids=by_name)
def test_every_default_is_specified_and_the_other_way_round(role: Path) -> None:
    required = {name for name, spec in specs(role).items() if spec.get("required")}
    assert set(read(role / "defaults/main.yml")) == set(specs(role)) - required


@pytest.mark.parametrize("role", ROLES, ids=by_name)
def test_every_option_is_typed_and_named_after_its_role(role: Path) -> None:
    for name, spec in specs(role).items():
        assert name.startswith(f"{role.name}_"), name
        # The comment of its default describes it; without a default, this does.
        assert ("description" in spec) == (name not in read(role / "defaults/main.yml")), name
        assert spec["type"] in TYPES, name
        # It would be a second place for the same value, and the two would drift apart.
        assert "default" not in spec, name


@pytest.mark.parametrize("role", ROLES, ids=by_name)
def test_defaults_are_of_the_specified_type(role: Path) -> None:
    for name, value in read(role / "defaults/main.yml").items():
        if isinstance(value, str) and "{{" in value:
            continue
        spec = specs(role)[name]
        assert isinstance(value, TYPES[spec["type"]]), f"{name}: {value!r} is no {spec['type']}"
        assert "choices" not in spec or value in spec["choices"], name


@pytest.mark.parametrize("role", ROLES, ids=by_name)
def test_passwords_are_not_shown(role: Path) -> None:
    assert [name for name, spec in specs(role).items() if "password" in name and not spec.get("no_log")] == []
