"""The order of the arms, and settings that cannot be run."""

from pathlib import Path

import pytest
from bench.plan import Settings, arms, steps
from hypothesis import given
from hypothesis import strategies as st

COUNTS = st.lists(st.integers(1, 64), min_size=1, max_size=6)


def test_default_order_is_abba_then_the_fixed_rate() -> None:
    assert [arm.name for arm in arms(Settings())] == ["S-r1-1", "S-r4-1", "S-r4-2", "S-r1-2", "L-r1-1", "L-r4-1"]


def test_quick_run_goes_down_to_where_the_fixed_rate_begins() -> None:
    assert [arm.name for arm in arms(Settings(quick=True))] == ["S-r4-1", "S-r1-1", "L-r1-1", "L-r4-1"]


@given(COUNTS, st.integers(1, 3), st.lists(st.floats(0.1, 1), max_size=3))
def test_every_way_has_every_column_and_the_next_way_is_its_mirror(counts: list[int], repeats: int, loads: list[float]) -> None:
    planned = arms(Settings(replicas=tuple(counts), repeats=repeats, curve_loads=tuple(loads)))
    assert len({arm.name for arm in planned}) == len(planned)
    ways = [[arm.column for arm in planned if arm.phase == "S" and arm.position == way] for way in range(2 * repeats)]
    for up, down in zip(ways[::2], ways[1::2], strict=True):
        assert sorted(up) == list(range(len(counts)))
        assert down == up[::-1]
    assert all(arm.replicas == counts[arm.column] for arm in planned)


@given(COUNTS)
def test_fixed_rate_of_phase_l_comes_from_the_first_count(counts: list[int]) -> None:
    assert {arm.load_of for arm in arms(Settings(replicas=tuple(counts))) if arm.phase == "L"} == {counts[0]}


def test_the_generator_is_measured_before_the_arms_and_without_replicas() -> None:
    first, *others = steps(Settings(), Path("/run"))
    assert (first["command"], first["replicas"]) == (["ceiling", "/run"], "")
    assert [step["command"] for step in others] == [["arm", "/run", arm.name] for arm in arms(Settings())]
    assert (others[1]["replicas"], others[1]["title"]) == (4, "2 of 6, 4 replicas, saturated, 67 s")


def test_a_setting_of_another_version_is_named() -> None:
    with pytest.raises(ValueError, match="usres"):
        Settings.from_mapping({"usres": 3})


def test_settings_survive_json() -> None:
    settings = Settings(replicas=(2, 2), max_p99_ms=20.5)
    assert Settings.from_mapping(settings.as_dict()) == settings
