"""Run a playbook as ansible-playbook does, but end with an exit code of ./counter (exit_codes.json).

run_playbook.py PROGRAM PLAYBOOK [OPTION ...]

PROGRAM is the path of ansible-playbook, by which other processes recognize this one. The verdict on a run is that of
plugins/callback/run_record.py.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from ansible.cli.playbook import main
from ansible.errors import ExitCode

VERDICT = "COUNTER_DEPLOY_VERDICT"
# How Ansible ends before a play has begun: argparse, or Ansible itself, does not understand an option; it was
# interrupted, or has a bug. It refuses everything else, such as an inventory that it cannot read.
EARLY = {2: "usage", 99: "failed", 250: "failed"} | {int(ExitCode.INVALID_CLI_OPTION): "usage"}


def verdict(code: int) -> str:
    """Return the verdict on a run that ended with this exit code of Ansible."""
    said = os.environ.get(VERDICT)
    if code == 0:
        return said or "done"
    if said is None:
        return EARLY.get(code, "refused")
    # A run can break off after its last task.
    return "failed" if said in ("done", "would change") else said


if __name__ == "__main__":
    del sys.argv[0]
    # Another run may have started this one.
    os.environ.pop(VERDICT, None)
    codes = json.loads(Path(__file__).with_name("exit_codes.json").read_text(encoding="utf-8"))
    try:
        main()
    except SystemExit as end:
        sys.exit(codes[verdict(int(end.code or 0))]["code"])
