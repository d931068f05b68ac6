"""A run ends with the sentence that a person looks for, below the recap."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from support.ansible import PLAYBOOKS, run
from support.recordings import unpack


def report(measured: Path, **more: object) -> CompletedProcess[str]:
    """Report on a run as the last tasks of a benchmark do."""
    given = {
        "bench_venv": sys.prefix,
        "bench_reports": str(measured.parent),
        "bench_run": measured.name,
        "bench_directory": str(measured),
        "bench_driver": "control_machine",
        "bench_broken_by": "",
    }
    return run("ansible-playbook", PLAYBOOKS / "verdict.yml", "-e", json.dumps(given | more))


@pytest.mark.parametrize(
    ("recorded", "verdict"), [("same-count", "PASS"), ("busy-machine", "INCONCLUSIVE"), ("independent", "FAIL")]
)
def test_a_benchmark_ends_with_its_verdict(tmp_path: Path, recorded: str, verdict: str) -> None:
    measured = unpack(recorded, tmp_path)
    manifest = measured / "manifest.json"
    # The runs of equal counts scatter too much to decide about an efficiency.
    manifest.write_text(manifest.read_text().replace('"min_efficiency": 0.9', '"min_efficiency": null'))
    done = report(measured)
    assert (done.returncode == 0) == (verdict != "FAIL"), done.stdout + done.stderr
    last = done.stdout.strip().splitlines()[-1]
    assert last.startswith(verdict)
    assert last.endswith(f"Report: {measured}/report.html")


def test_a_load_generator_does_not_keep_the_run(tmp_path: Path) -> None:
    there = unpack("independent", tmp_path)
    here = tmp_path / "here"
    here.mkdir()
    report(here, bench_driver="localhost", bench_driver_directory=str(there))
    assert (here / "summary.json").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"here", "latest"}
    assert not (here / "run.tar.gz").exists()


def test_in_a_comparison_a_fail_is_a_result(tmp_path: Path) -> None:
    measured = unpack("independent", tmp_path)
    done = report(measured, bench_in_comparison=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip().splitlines()[-1].startswith("FAIL")


def test_a_report_that_cannot_be_written_ends_with_its_cause_and_not_with_a_verdict(tmp_path: Path) -> None:
    measured = unpack("same-count", tmp_path)
    (measured / "manifest.json").write_text("[]")
    done = report(measured)
    assert done.returncode != 0
    assert "TypeError: list indices" in done.stdout + done.stderr
    assert "Report:" not in done.stdout + done.stderr
