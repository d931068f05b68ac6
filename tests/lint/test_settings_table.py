"""Each setting is written in one place, described, typed and checked, and nothing names one that is not there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml
from support.ansible import ROOT

from plugins.filter.settings import refused, roles_options, settings_options

TEXT = (ROOT / "roles/settings/defaults/main.yml").read_text(encoding="utf-8")
DEFAULTS: dict[str, Any] = yaml.safe_load(TEXT)
SPEC = settings_options(str(ROOT))
RULES_TEXT = (ROOT / "plugins/filter/rules.py").read_text(encoding="utf-8")
RULES = set(re.findall(r'_broken\(\s*"(\w+)"', RULES_TEXT))
RETIRED: dict[str, str] = yaml.safe_load((ROOT / "roles/preflight/vars/main/names.yml").read_text(encoding="utf-8"))[
    "preflight_retired"
]

OF_ROLES = {
    path.parts[-3]: yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    for path in ROOT.glob("roles/*/defaults/main.yml")
}
KEYS = {"type", "choices", "min", "max", "match", "rule", "why", "values", "works", "no_log", "verbs", "place", "words"}


def faults(name: str) -> Iterator[str]:
    """Yield what is wrong with the entries of a setting."""
    described = re.findall(rf'((?:^#.*\n)+)"?{name}"?:', TEXT, re.MULTILINE)
    if [sentence.strip()[-1] in ".!?" for sentence in described] != [True]:
        yield f"{name}: no sentence above its default"
    spec = SPEC[name]
    if not {"type"} <= set(spec) <= KEYS:
        yield f"{name}: keys {sorted(spec)}"
    limited = spec.get("type") in ("bool", "port") or {"choices", "min", "match", "rule"} & set(spec)
    # Any text is a name of a file.
    if not (limited or name == "status_file" or name in RULES):
        yield f"{name}: takes any value"
    if "password" in name and not spec.get("no_log"):
        yield f"{name}: is shown"


def test_every_setting_is_described_typed_and_checked() -> None:
    assert [fault for name in DEFAULTS for fault in faults(name)] == []


def test_no_specification_is_left_over() -> None:
    assert list(SPEC) == list(DEFAULTS)
    assert {*DEFAULTS, "managers"} >= RULES


def test_rules_read_settings_and_facts_that_exist() -> None:
    facts = yaml.safe_load((ROOT / "roles/preflight/vars/main/rules.yml").read_text(encoding="utf-8"))
    assert set(re.findall(r"\bknown\.(\w+)", RULES_TEXT)) == set(facts["__preflight_facts"])
    assert set(re.findall(r"\bs\.(\w+)", RULES_TEXT)) <= set(DEFAULTS)


def test_a_setting_is_set_in_no_other_place() -> None:
    """Where a default stands twice, one of the two is ignored."""
    of_roles = [*ROOT.glob("roles/*/defaults/*.yml"), *ROOT.glob("roles/*/vars/**/*.yml")]
    of_users = [*ROOT.glob("playbooks/*.yml"), *ROOT.glob("inventory/**/*.yml")]
    found = {
        (str(path.relative_to(ROOT)), name)
        for path in of_roles + of_users
        for name in re.findall(
            r'^"?(\w+)"?:' if path in of_roles else r"^ *(\w+):", path.read_text(encoding="utf-8"), re.MULTILINE
        )
        if name in DEFAULTS
    }
    assert found == {("roles/settings/defaults/main.yml", name) for name in DEFAULTS}


def test_every_play_begins_with_the_settings() -> None:
    for path in ROOT.glob("playbooks/*.yml"):
        for play in yaml.safe_load(path.read_text(encoding="utf-8")):
            if "hosts" in play and play["name"] != "Check the inventory":
                assert play["roles"][0] == {"role": "settings"}, f"{path.name}: {play['name']}"


def test_each_variable_of_a_single_role_has_a_type() -> None:
    roles = {role: defaults for role, defaults in OF_ROLES.items() if role != "settings"}
    given = {name: value for defaults in roles.values() for name, value in defaults.items()}
    types = roles_options(str(ROOT))
    # The benchmark has rules of its own for most of its variables.
    assert {name for name in given if not name.startswith("bench_")} <= set(types) <= set(given)
    allowed = {"images": ("images_", "base_image_")}
    strays = [
        (role, name) for role in roles for name in roles[role] if not name.startswith(allowed.get(role, f"{role}_"))
    ]
    assert strays == []
    assert refused({name: given[name] for name in types if "{{" not in str(given[name])}, str(ROOT)) == []
    assert [name for name in types if "password" in name and not types[name].get("no_log")] == []


def test_each_example_of_the_settings_fits_its_options() -> None:
    text = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)```", text, re.MULTILINE | re.DOTALL)
    given = [yaml.safe_load(block)["all"]["vars"] for block in blocks]
    of_one_run = {name for name, option in SPEC.items() if "verbs" in option}
    assert {name for example in given for name in example} >= set(SPEC) - of_one_run
    assert [refused(example, str(ROOT)) for example in given if refused(example, str(ROOT))] == []


def test_retired_names_lead_to_names_in_use() -> None:
    known = {name for defaults in OF_ROLES.values() for name in defaults}
    # YAML makes a truth value of the name `on`, so that its entry says more.
    assert {new for old, new in RETIRED.items() if old is not True} <= known
    assert not set(RETIRED) & known
