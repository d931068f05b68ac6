"""Which scenario comes next in continuous integration, and what an interrupted ``full`` runs again."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rotation import choose, estimate
from support.ansible import ROOT

RUNS: dict[str, dict[str, Any]] = {
    "old": {"date": "2026-11-01", "seconds": 3000, "slowness": 1.0},
    "older": {"date": "2026-10-01", "seconds": 2000, "slowness": 2.0},
    "new": {"date": "2026-11-30", "seconds": 600, "slowness": 1.0},
    "new too": {"date": "2026-11-30", "seconds": 900, "slowness": 1.0},
}


@pytest.mark.parametrize(
    ("minutes", "slow", "name"), [(75, 1, "older"), (16, 1, "new"), (75, 4, "older"), (62, 4, "new"), (9, 1, None)]
)
def test_the_oldest_green_run_that_ends_in_time_is_next(minutes: float, slow: float, name: str | None) -> None:
    assert choose(RUNS, minutes, slow) == name


def test_a_run_is_scaled_by_both_machines() -> None:
    assert estimate(RUNS["older"], 4) == pytest.approx(2000 / 60 * 2)


def test_what_passed_in_an_interrupted_run_is_not_run_again(tmp_path: Path) -> None:
    program = """source tests/run; passed=$0/passed
        step first sh -c "echo ran >>$0/runs"; step second false
        printf '%s\\n' "${results[@]}" """
    first, again = (
        subprocess.run(["bash", "-c", program, tmp_path], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    assert (tmp_path / "runs").read_text() == "ran\n"
    assert re.search(r"^first +passed +[0-9]", first, re.MULTILINE)
    assert re.search(r"^first +passed before$", again, re.MULTILINE)
    assert all(re.search(r"^second +FAILED", output, re.MULTILINE) for output in (first, again))
