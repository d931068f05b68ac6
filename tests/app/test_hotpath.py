"""The benchmark of the hot path has a name of its own."""

from __future__ import annotations

from support.processes import APP_DIR


def test_no_package_of_the_app_has_the_name_of_one_of_the_project() -> None:
    ours, others = ({path.parent.name for path in place.glob("*/__init__.py")} for place in (APP_DIR, APP_DIR.parent))
    assert {"counter", "hotpath"} <= ours
    assert "bench" in others
    assert not ours & others
