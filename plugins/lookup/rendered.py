"""Ansible lookup: the text of a template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.loader import lookup_loader
from ansible.plugins.lookup import LookupBase

DOCUMENTATION = r"""
name: rendered
short_description: The text of a template
description:
  - Does what C(ansible.builtin.template) does. That one first copies all variables of the host deeply, which takes
    longer than the rest.
options:
  _terms: {description: Names of templates in C(templates/) of the project or of the role., required: true}
"""

TEMPLATES = Path(__file__).parents[2] / "templates"


class LookupModule(LookupBase):
    """Returns the text of templates."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Return the text of each template named in ``terms``."""
        template = lookup_loader.get("ansible.builtin.template", loader=self._loader, templar=self._templar)
        found = [str(path) if (path := TEMPLATES / name).exists() else name for name in terms]
        texts: list[str] = template.run(found, _Shared(variables or {}), **kwargs)
        return texts


class _Shared(dict[str, Any]):
    """Variables whose deep copy is a shallow one, since templates add variables and change none."""

    def __deepcopy__(self, _: dict[int, Any]) -> dict[str, Any]:
        return dict(self)
