"""Ansible lookup: options of this play's command line, for the commands that the play runs itself."""

from __future__ import annotations

from typing import Any

from ansible import context
from ansible.plugins.lookup import LookupBase
from ansible.utils.vars import load_extra_vars

DOCUMENTATION = r"""
name: caller
short_description: Options of this play's command line
description:
  - Returns options of C(ansible-playbook) by Ansible's internal names; C(extra_vars) are read and merged.
options:
  _terms: {description: Names of options., required: true}
"""


class LookupModule(LookupBase):
    """Returns options of the command line."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        """Return the value of each option named in ``terms``."""
        del variables, kwargs
        given = {**context.CLIARGS, "extra_vars": load_extra_vars(self._loader)}
        return [given.get(term) for term in terms]
