"""The order of the tests, for runs of all of them."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread the tests that break Redis evenly over the others.

    They wait most of the time. If several of pytest's workers ran only these at the end, the processors would be idle.
    """
    waiting = [item for item in items if item.get_closest_marker("fault")]
    others = [item for item in items if not item.get_closest_marker("fault")]
    place = {item: (n + 0.5) / len(kind) for kind in (waiting, others) for n, item in enumerate(kind)}
    items.sort(key=lambda item: place[item])
