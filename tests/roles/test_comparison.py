"""A comparison has every variant that was asked for, or ends with the one that could not be measured."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import yaml
from support.ansible import PLAYBOOKS, ROOT, run
from support.recordings import unpacked

# In the place of ansible-playbook. The real one checks what it is given. Then "bench.yml" reports on a recorded run, as
# the last tasks of that playbook do.
COMMAND = f"""
import json, pathlib, shutil, subprocess, sys
from os import environ
*options, playbook = sys.argv[1:]
file = pathlib.Path(next(option for option in options if option[0] == "@")[1:])
given = json.loads(file.read_text())
given.pop("__bench_playbook", None)
file.write_text(json.dumps(given))
checked = ["ansible-playbook", "-i", environ["NOWHERE"], "--tags", "always", *options, playbook]
checked = subprocess.run(checked, capture_output=True, text=True).stdout
if "Check settings and hosts" not in checked or "Nothing was changed" in checked:
    sys.exit(checked)
with open(environ["CALLS"], "a") as calls:
    print(playbook, given["stack_name"], given.get("redis_topology"), given.get("bench_in_comparison"), file=calls)
if playbook == "bench.yml":
    name = given["redis_topology"]
    run = shutil.copytree(pathlib.Path(environ["RECORDED"], name), pathlib.Path(given["bench_reports"], name))
    more = {{"bench_run": name, "bench_directory": str(run), "bench_driver": "control_machine", "bench_broken_by": ""}}
    more = json.dumps(more | {{"bench_venv": sys.prefix}})
    sys.exit(subprocess.call(["ansible-playbook", {str(PLAYBOOKS / "verdict.yml")!r}, *options, "-e", more]))
"""

NOWHERE = {"managers": {"hosts": {"nowhere": {"ansible_host": "127.0.0.1", "ansible_port": 1}}}}
"""An inventory with a host that refuses connections."""


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Return a directory with a run that passes, and one of which nothing was measured."""
    runs = tmp_path / "recorded"
    for topology in ("standalone", "cluster"):
        shutil.copytree(unpacked("same-count"), runs / topology)
    shutil.rmtree(runs / "cluster/arms")
    return runs


def compare(recorded: Path, *topologies: str) -> CompletedProcess[str]:
    """Compare the recorded runs of some topologies."""
    site = recorded.parent
    (site / "command.py").write_text(COMMAND)
    given = {
        "__bench_playbook": [sys.executable, str(site / "command.py")],
        "bench_topologies": topologies,
        "bench_reports": str(site / "reports"),
        "bench_venv": sys.prefix,
        "stack_name": "counter",
        "edge": "proxy",
        "http_port": 80,
    }
    variables = site / "given.json"
    variables.write_text(json.dumps(given))
    nowhere = site / "nowhere.yml"
    nowhere.write_text(yaml.safe_dump(NOWHERE))
    environ = {"RECORDED": str(recorded), "CALLS": str(site / "calls"), "NOWHERE": str(nowhere)}
    return run("ansible-playbook", PLAYBOOKS / "comparison.yml", "-e", f"@{variables}", **environ)


def test_a_variant_without_a_result_breaks_the_comparison_off(recorded: Path) -> None:
    done = compare(recorded, "cluster", "standalone")
    assert done.returncode != 0, done.stdout + done.stderr
    assert "Run the command ./counter bench for cluster with edge proxy" in done.stdout
    assert "no arm finished" in done.stdout
    # The second task has all runs.
    following = yaml.safe_load((ROOT / "roles/bench/tasks/compare.yml").read_text(encoding="utf-8"))[2:]
    assert not [task["name"] for task in following if task["name"] in done.stdout]
    calls = (recorded.parent / "calls").read_text().splitlines()
    # That it is part of a comparison is what makes a FAIL a result there.
    measured = [f"{playbook}.yml counter-bench cluster True" for playbook in ("deploy", "bench")]
    assert calls == [*measured, "destroy.yml counter-bench None None"]
