"""A run ends with the sentence that a person looks for, below the recap."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from conftest import ROOT, run


@pytest.mark.parametrize(
    ("recorded", "verdict"), [("same-count", "PASS"), ("busy-machine", "INCONCLUSIVE"), ("independent", "FAIL")]
)
def test_a_benchmark_ends_with_its_verdict(tmp_path: Path, recorded: str, verdict: str) -> None:
    measured = Path(shutil.copytree(ROOT / "tests/bench/recorded" / recorded, tmp_path / recorded))
    given = {
        "bench_venv": sys.prefix,
        "bench_reports": str(tmp_path),
        "bench_run": recorded,
        "bench_directory": str(measured),
        "bench_driver": "localhost",
        "bench_broken_by": "",
    }
    done = run("ansible-playbook", Path(__file__).with_name("verdict.yml"), "-e", json.dumps(given))
    assert (done.returncode == 0) == (verdict != "FAIL"), done.stdout + done.stderr
    last = done.stdout.strip().splitlines()[-1]
    assert last.startswith(verdict)
    assert last.endswith(f"Report: {measured}/report.html")
