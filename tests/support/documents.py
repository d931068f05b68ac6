"""YAML documents of the project, as Ansible reads them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.parsing.dataloader import DataLoader


def parts(document: Any) -> Iterator[Any]:
    """Yield all that a document has in it, and at last itself."""
    for value in document.values() if isinstance(document, dict) else document if isinstance(document, list) else ():
        yield from parts(value)
    yield document


def mappings(path: Path) -> Iterator[dict[str, Any]]:
    """Yield all mappings of a file: its plays and tasks are among them."""
    return (part for part in parts(DataLoader().load_from_file(str(path))) if isinstance(part, dict))
