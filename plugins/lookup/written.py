"""Ansible lookup: variables that are not templates."""

from __future__ import annotations

from typing import Any

from ansible.plugins.lookup import LookupBase

DOCUMENTATION = r"""
name: written
short_description: Variables that are not templates
description:
  - Returns a mapping of those variables that have a value. Templates are left out, since they may read facts of the
    hosts that are not known yet.
options:
  _terms: {description: Names of variables., required: true}
"""


class LookupModule(LookupBase):
    """Returns variables that need not be rendered."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[dict[str, Any]]:
        """Return name -> value of the variables named in ``terms``, as the only entry of a list."""
        del kwargs
        given = {name: value for name, value in (variables or {}).items() if name in terms and value is not None}
        return [{name: value for name, value in given.items() if not self._templar.is_template(value)}]
