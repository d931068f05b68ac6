"""The stack whose problems are told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from stacks import EDGES, Stack
from support.ansible import render
from support.edge import FILES
from support.workers import made_once


@pytest.fixture
def edge_texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Return the rendered files of each of `EDGES`."""
    return made_once(tmp_path_factory, "keeper-edges", lambda site: render(site, EDGES, *FILES))


@pytest.fixture
def stack(tmp_path: Path, edge_texts: dict[str, dict[str, str]]) -> Iterator[Stack]:
    """Return the stack, not started."""
    with ExitStack() as context:
        yield Stack(tmp_path, edge_texts, context)
