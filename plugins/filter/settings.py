"""Filters for settings: their types, checked by Ansible's validator, their ranges, and their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from math import inf
from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.text.formatters import human_to_bytes
from ansible.module_utils.common.yaml import yaml_load

# What an option of each type must be, in words.
WORDS = {
    "bool": "true or false",
    "dict": "a mapping of names to values",
    "float": "a number",
    "int": "a whole number",
    "list": "a list",
    "str": "text",
    "size": "a size such as 128M or 1G, at least {min}",
}
# Types of settings that Ansible does not have: what they are there, and what they imply.
OWN_TYPES: dict[str, dict[str, Any]] = {
    "port": {"type": "int", "min": 1, "max": 65535},
    "size": {"type": "str", "match": "[0-9]+[MG]"},
    "password": {"type": "str", "no_log": True},
}


def typed(values: Mapping[str, Any], root: str) -> dict[str, Any]:
    """Return the settings, each converted to its type; `refused` names those that cannot be, and stay as they are."""
    return {name: _converted(value, settings_options(root)[name])[0] for name, value in values.items()}


def refused(values: Mapping[str, Any], root: str, broken: Iterable[Mapping[str, Any]] = ()) -> list[dict[str, Any]]:
    """Return ``name``, ``shown`` (the value), ``rule`` and ``works`` of each value that is refused.

    ``values``: settings, and variables of single roles, which have no ``works``. These are the values that are not as
    their options say, and the ``broken`` rules (`broken_rules`), which say more than that a value has the wrong type.
    """
    options = roles_options(root) | settings_options(root)
    rules = list(broken)
    named = {rule["name"] for rule in rules}
    wrong = [
        {"name": name}
        for name, value in values.items()
        if not _fits(value, options[name]) and (name not in named or _converted(value, options[name])[1])
    ]
    found = []
    for rule in [*wrong, *rules]:
        name = rule["name"]
        option = options.get(name, {})
        said: dict[str, Any] = {"shown": _shown(values.get(name), option), "rule": f"must be {_allowed(option)}"}
        if name in settings_options(root):
            works = option.get("works", {name: option.get("choices", [settings_defaults(root)[name]])[0]})
            said["works"] = works if isinstance(works, Mapping) else {name: works}
        found.append({**said, **rule})
    return found


def whole(value: Any, least: float = 0, most: float = inf) -> bool:
    """Tell whether a value is a whole number in this range, as a number or as text."""
    return re.fullmatch("[0-9]{1,18}", str(value)) is not None and least <= int(value) <= most


def nearest(name: object, known: Iterable[str], likeness: float = 0.0) -> str:
    """Return the known name that is most similar to ``name``; empty if no similarity reaches ``likeness`` (0 to 1)."""
    lower = {each.lower(): each for each in known}
    # YAML makes a truth value of the name `on`.
    found = get_close_matches(str(name).lower(), lower, n=1, cutoff=likeness)
    return lower[found[0]] if found else ""


def origins(addresses: Iterable[str], settings: Mapping[str, Any]) -> list[str]:
    """Return the origin (scheme, address and port) of the counter at each address, with these settings."""
    secure = settings.get("edge_tls", "none") != "none"
    port = settings["https_port" if secure else "http_port"]
    return [f"{'https' if secure else 'http'}://{address}:{port}" for address in addresses]


def role_defaults(root: str) -> list[str]:
    """Return the names of all variables in the defaults of the roles below ``root``."""
    files = Path(root).glob("roles/*/defaults/main.yml")
    return sorted({name for file in files for name in yaml_load(file.read_text(encoding="utf-8")) or {}})


@cache
def settings_defaults(root: str) -> dict[str, Any]:
    """Return the default of each setting below ``root``: a value, or a template that reads other settings."""
    return dict(yaml_load(Path(root, "roles/settings/defaults/main.yml").read_text(encoding="utf-8")))


def chosen_by(defaults: Mapping[str, Any], given: Iterable[str]) -> list[str]:
    """Return the settings that are given, and those whose default is derived from one that is given."""
    names = list(given)
    word = re.compile(rf"\b({'|'.join(map(re.escape, names)) or '(?!)'})\b")
    return names + [name for name, value in defaults.items() if "{{" in str(value) and word.search(str(value))]


@cache
def settings_options(root: str) -> dict[str, dict[str, Any]]:
    """Return what each setting may be: the table of the role ``settings`` below ``root``."""
    return dict(_table(root)["settings"])


@cache
def _table(root: str) -> dict[str, dict[str, Any]]:
    """Return the whole table.

    Each task runs in a process of its own, which reads this again. The filter ``from_yaml`` takes much longer, since
    Ansible remembers for each string where it came from.
    """
    return dict(yaml_load(Path(root, "roles/settings/meta/settings.yml").read_text("utf-8")))


def options_of_verbs(root: str) -> dict[str, list[str]]:
    """Return the options of one run below ``root``, with the verbs that read them."""
    return {name: option["verbs"] for name, option in settings_options(root).items() if "verbs" in option}


def roles_options(root: str) -> dict[str, dict[str, Any]]:
    """Return the type of each variable of a single role below ``root``."""
    by_type = _table(root)["variables"]
    return {name: {"type": kind, **OWN_TYPES.get(kind, {})} for kind, names in by_type.items() for name in names}


def _converted(value: Any, option: Mapping[str, Any]) -> tuple[Any, bool]:
    """Return the value, and whether it could be converted to its type."""
    kind = OWN_TYPES.get(option["type"], option)["type"]
    # The validator reports an empty number as text that is not a number, and treats None as an option not given.
    if value is None or (isinstance(value, str) and not value.strip() and kind != "str"):
        return value, False
    # The validator would make text of it, such as "['sentinel']".
    if isinstance(value, (Mapping, list)) and kind == "str":
        return value, False
    value = _plain(value)
    # Under a neutral name and without no_log, so that the validator does not treat the value as a secret.
    argument = {"type": kind} | ({"choices": option["choices"]} if "choices" in option else {})
    result = ArgumentSpecValidator({"value": argument}).validate({"value": value})
    return (value, False) if result.error_messages else (result.validated_parameters["value"], True)


def _fits(value: Any, option: Mapping[str, Any]) -> bool:
    """Tell whether a value is of its type, like its pattern, and in its range."""
    number, is_typed = _converted(value, option)
    own = {**OWN_TYPES.get(option["type"], {}), **option}
    if not is_typed or not re.fullmatch(own.get("match", "(?s).*"), str(value)):
        return False
    if "min" not in own:
        return True
    if option["type"] == "size":
        return bool(human_to_bytes(value) >= human_to_bytes(own["min"]))
    return bool(number >= own["min"]) if option["type"] == "float" else whole(value, own["min"], own.get("max", inf))


def _plain(value: Any) -> Any:
    """Return the value without Ansible's own containers, which the validator would copy with all that they refer to."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value


def as_yaml(value: object) -> object:
    """Return what a text means as YAML, such as a list that was typed; the text itself if it is none.

    An empty text is an empty list.
    """
    if not isinstance(value, str):
        return value
    try:
        meant = yaml_load(str(value))
    except (yaml.YAMLError, ValueError):  # a date that does not exist
        return value
    return [] if meant is None else meant


def _shown(value: Any, option: Mapping[str, Any]) -> str:
    """Return what a message shows of a value, which may be a secret, or a URL with a login."""
    shown = "" if value is None else str(_plain(value))
    return "***" if option.get("no_log") is True and shown else re.sub("//.*@", "//***@", shown)


def _allowed(option: Mapping[str, Any]) -> str:
    """Return in words what a value may be."""
    choices = [str(choice) for choice in option.get("choices", [])]
    kind = "choices" if choices else option.get("type", "")
    words = " or ".join(filter(None, [", ".join(choices[:-1]), *choices[-1:]])) or WORDS.get(kind, "").format(**option)
    if kind == "int" and {"min", "max"} <= set(option):
        words += f" from {option['min']} to {option['max']}"
    return "; ".join(filter(None, [option.get("rule", words), option.get("why")]))


class FilterModule:
    """The filters by name, for Ansible."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Return the filters by name."""
        return {
            "typed": typed,
            "whole": whole,
            "as_yaml": as_yaml,
            "refused": refused,
            "nearest": nearest,
            "origins": origins,
            "role_defaults": role_defaults,
            "settings_defaults": settings_defaults,
            "chosen_by": chosen_by,
            "settings_options": settings_options,
            "roles_options": roles_options,
            "options_of_verbs": options_of_verbs,
        }
