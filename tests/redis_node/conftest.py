"""What the tests of a file leave to each other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from replicated import Reusable


@pytest.fixture(scope="module")
def kept() -> Iterator[list[Reusable]]:
    """Hold the set that the last test has left, if it was as good as new."""
    found: list[Reusable] = []
    yield found
    for one in found:
        one.kill()
