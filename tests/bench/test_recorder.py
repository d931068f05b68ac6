"""What the plugin writes of each request, without a load."""

import subprocess
import sys
from pathlib import Path

from bench.percentiles import read_hlog
from support.ansible import ROOT

# Locust patches the standard library of its process.
RECORD = """
import sys
from types import SimpleNamespace
from locust.env import Environment
from bench.recorder import Recorder
environment = Environment(parsed_options=SimpleNamespace(record=sys.argv[1]))
environment.create_local_runner()
recorder = Recorder(environment)
for error, context in ((None, {"intended": 99.0}), ("HTTP 503", {"intended": 98.0}), ("HTTP 503", {})):
    recorder.on_request("read", 500.0, 100.0, error, None, context)
recorder.write()
"""


def test_a_request_counts_from_its_intended_start_whatever_its_answer(tmp_path: Path) -> None:
    """A failure that came late was late, too."""
    subprocess.run([sys.executable, "-c", RECORD, str(tmp_path)], cwd=ROOT, check=True)
    found = {interval.outcome: interval.histogram for interval in read_hlog(tmp_path / "latency.hlog")}
    assert {outcome: histogram.get_total_count() for outcome, histogram in found.items()} == {"ok": 1, "failed": 2, "corrected": 2}
    assert [round(found["corrected"].get_value_at_percentile(p) / 1e6, 1) for p in (50, 100)] == [1.5, 2.5]
