"""Ansible lookup: variables as somebody wrote them."""

from __future__ import annotations

from typing import Any

from ansible.plugins.lookup import LookupBase

DOCUMENTATION = r"""
name: written
short_description: Variables as somebody wrote them
description:
  - Returns a mapping of the variables that are defined, without those that are templates, since these may read what is
    known of the hosts later.
options:
  _terms: {description: Names of variables., required: true}
"""


class LookupModule(LookupBase):
    """Returns variables that need not be rendered."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[dict[str, Any]]:
        """Return name -> value of the variables named in ``terms``, as the only entry of a list."""
        del kwargs
        given = variables or {}
        return [{name: given[name] for name in terms if name in given and "{{" not in str(given[name])}]
