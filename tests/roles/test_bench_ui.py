"""Locust's web interface is started with what was asked for."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path

import yaml
from support.ansible import ROOT, play, run
from support.ports import free_port

# In the place of Locust: writes what it was given, and answers.
LOCUST = """#!/bin/sh
printf '%s\\n' "$@" "$BENCH_WEIGHT_PAGE $BENCH_WEIGHT_INCREMENT $BENCH_WEIGHT_READ" >{site}/given
exec {python} -m http.server --bind 127.0.0.1 {port}
"""


def test_the_web_interface_has_the_target_and_the_mix_of_requests(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin/python"
    python.write_text(LOCUST.format(site=tmp_path, python=sys.executable, port=port))
    python.chmod(0o700)
    (tmp_path / "hosts.yml").write_text(
        yaml.safe_dump({"managers": {"hosts": {"host": {"ansible_connection": "local"}}}})
    )
    tasks = [
        {"ansible.builtin.import_role": {"name": "preflight", "tasks_from": "settings"}},
        {"ansible.builtin.include_role": {"name": "bench", "tasks_from": "ui"}},
    ]
    (tmp_path / "play.yml").write_text(yaml.safe_dump(play(*tasks)))
    target = "http://192.0.2.1:8080/?a=1&b=2"
    given = {
        "bench_venv": str(tmp_path),
        "bench_reports": str(tmp_path),
        "bench_target": target,
        "bench_weights": "{page: 0, increment: 7, read: 1}",
        "bench_ui_port": port,
        "bench_ui_seconds": 300,
    }
    done = run(
        *("ansible-playbook", "-i", tmp_path / "hosts.yml", tmp_path / "play.yml", "-e", json.dumps(given)),
        ANSIBLE_ROLES_PATH=str(ROOT / "roles"),
        http_proxy="http://127.0.0.1:1",
        no_proxy="",
    )
    stops = re.search(r"This stops it: kill (\d+)", done.stdout)
    assert stops, done.stdout + done.stderr
    os.kill(int(stops[1]), signal.SIGTERM)
    assert done.returncode == 0, done.stdout + done.stderr
    words = (tmp_path / "given").read_text().splitlines()
    assert words[words.index("--host") + 1] == target
    assert words[-1] == "0 7 1"
