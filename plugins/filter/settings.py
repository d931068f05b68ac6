"""Filters for settings: their types, checked by Ansible's validator, and suggestions for misspelled names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import cache
from ipaddress import IPv4Network
from math import inf
from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.yaml import yaml_load

CRON_FIELDS = 5
# What an option of each type must be, in words.
WORDS = {
    "bool": "true or false",
    "dict": "a mapping of names to values",
    "float": "a number",
    "int": "a whole number",
    "list": "a list",
    "str": "text",
}


def typed(values: Mapping[str, Any], spec: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the values, each converted to its type in ``spec`` (options of an argument spec).

    A value that cannot be converted stays as it is; `mistyped` names it.
    """
    return {name: _validated(name, value, spec)[0] for name, value in values.items()}


def mistyped(values: Mapping[str, Any], spec: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return ``name`` and ``rule`` of each value with a wrong type or an unknown choice."""
    return [
        {"name": name, "rule": f"must be {_rule(spec[name])}"}
        for name, value in values.items()
        if not _validated(name, value, spec)[1]
    ]


def whole(value: Any, least: int = 0, most: float = inf) -> bool:
    """Tell whether a value is a whole number in this range, as a number or as text."""
    return re.fullmatch("[0-9]{1,18}", str(value)) is not None and least <= int(value) <= most


def refused(broken: Iterable[Mapping[str, Any]], wrong: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rules that do not hold, after the values of a wrong type (``mistyped``) that no such rule is about."""
    rules = list(broken)
    named = {rule["name"] for rule in rules}
    return [value for value in wrong if value["name"] not in named] + rules


def nearest(name: object, known: Iterable[str], likeness: float = 0.0) -> str:
    """Return the known name that is most similar to ``name``; empty if no similarity reaches ``likeness`` (0 to 1)."""
    lower = {each.lower(): each for each in known}
    # YAML makes a truth value of the name `on`.
    found = get_close_matches(str(name).lower(), lower, n=1, cutoff=likeness)
    return lower[found[0]] if found else ""


def cron_fault(expression: str, *, needed: bool) -> str:
    """Return what is wrong with a cron expression; empty if nothing is, or if an unneeded one cannot be checked."""
    try:
        from cronsim import CronSim, CronSimError  # noqa: PLC0415  # an Ansible of the user's own may lack it
    except ImportError:
        return "to check it, Ansible's Python needs the package cronsim" if expression and needed else ""
    if not expression:
        return ""
    if len(expression.split()) != CRON_FIELDS:
        return f"it has {len(expression.split())} fields"
    try:
        CronSim(expression, datetime.now(UTC))
    except CronSimError as error:
        return str(error)
    return ""


def origins(addresses: Iterable[str], settings: Mapping[str, Any]) -> list[str]:
    """Return the origin (scheme, address and port) of the counter at each address, with these settings."""
    secure = settings.get("edge_tls", "none") != "none"
    port = settings["https_port" if secure else "http_port"]
    return [f"{'https' if secure else 'http'}://{address}:{port}" for address in addresses]


def not_networks(texts: Iterable[Any]) -> list[str]:
    """Return what is neither an IPv4 address nor an IPv4 network (``192.0.2.0/24``)."""
    return [str(text) for text in texts if not _is_network(str(text))]


def _is_network(text: str) -> bool:
    try:
        network = IPv4Network(text)
    except ValueError:
        return False
    # Python takes 192.0.2.0/0.0.0.255 for a network, HAProxy for other addresses.
    return "/" not in text or text in (network.with_prefixlen, network.with_netmask)


def is_moment(text: str) -> bool:
    """Tell whether a text, after the name of a stack and a slash, is a date and time that exists."""
    try:
        datetime.fromisoformat(text.rpartition("/")[2])
    except ValueError:
        return False
    return True


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
    """Return the type and choices of each setting, as the role ``settings`` below ``root`` specifies them.

    Each task runs in a process of its own, which reads this again. The filter ``from_yaml`` takes much longer, since
    Ansible remembers for each string where it came from.
    """
    text = Path(root, "roles/settings/meta/argument_specs.yml").read_text(encoding="utf-8")
    options: dict[str, dict[str, Any]] = yaml_load(text)["argument_specs"]["settings"]["options"]
    return options


@cache
def roles_options(root: str) -> dict[str, dict[str, Any]]:
    """Return the type and choices of each variable of a single role below ``root``, as the role specifies it."""
    files = [file for file in Path(root).glob("roles/*/meta/argument_specs.yml") if file.parts[-3] != "settings"]
    specs = [spec for file in files for spec in yaml_load(file.read_text(encoding="utf-8"))["argument_specs"].values()]
    options = [option for spec in specs for option in (spec.get("options") or {}).items()]
    return {name: option for name, option in options if "type" in option}


def _validated(name: str, value: Any, spec: Mapping[str, Mapping[str, Any]]) -> tuple[Any, bool]:
    # The role has rules of its own.
    if spec[name]["type"] == "raw":
        return value, True
    # The validator reports an empty number as text that is not a number, and treats None as an option not given.
    if value is None or (isinstance(value, str) and not value.strip() and spec[name]["type"] != "str"):
        return value, False
    # The validator would make text of it, such as "['sentinel']".
    if isinstance(value, (Mapping, list)) and spec[name]["type"] == "str":
        return value, False
    value = _plain(value)
    # Under a neutral name and without no_log, so that the validator does not treat the value as a secret.
    result = ArgumentSpecValidator({"value": {**spec[name], "no_log": False}}).validate({"value": value})
    return (value, False) if result.error_messages else (result.validated_parameters["value"], True)


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


def _rule(option: Mapping[str, Any]) -> str:
    choices = [str(choice) for choice in option.get("choices", [])]
    if not choices:
        return WORDS[str(option["type"])]
    return " or ".join(filter(None, [", ".join(choices[:-1]), choices[-1]]))


class FilterModule:
    """The filters by name, for Ansible."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Return the filters by name."""
        return {
            "typed": typed,
            "mistyped": mistyped,
            "whole": whole,
            "as_yaml": as_yaml,
            "refused": refused,
            "nearest": nearest,
            "not_networks": not_networks,
            "is_moment": is_moment,
            "cron_fault": cron_fault,
            "origins": origins,
            "role_defaults": role_defaults,
            "settings_defaults": settings_defaults,
            "chosen_by": chosen_by,
            "settings_options": settings_options,
            "roles_options": roles_options,
        }
