"""Print the last line of a run: the closing sentence or, after a failure, the path of the log."""

from __future__ import annotations

import atexit
import os
import shlex
from typing import Any

from ansible import constants as C  # noqa: N812
from ansible import context
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: closing_line
type: aggregate
short_description: Prints the custom statistic C(closing_sentence), or the path of the log after a failure
description:
  - Roles set the sentence with set_stats. Ansible's default callback would print it as a nested structure.
  - The path is that of E(ANSIBLE_LOG_PATH). Without it, a failure is followed by the sentence too.
  - If a message or the sentence suggests a command, the inventory of the command line is named: such commands lack it.
"""


def shown(inventory: str) -> str:
    """Return an inventory as a person would type it here. A list of hosts has a comma."""
    return inventory if "," in inventory else os.path.relpath(inventory)


class CallbackModule(CallbackBase):
    """Prints one line below all else that a run prints."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "closing_line"

    def __init__(self) -> None:
        """Be ready for a run that is interrupted."""
        super().__init__()
        self._suggests = False
        # An interrupted run has no statistics.
        atexit.register(self._name_the_log)

    def v2_runner_on_ok(self, result: Any) -> None:
        """Note whether the message suggests a command."""
        self._look(result.result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:  # noqa: FBT001, FBT002
        """Note whether the message suggests a command."""
        if not ignore_errors:
            self._look(result.result)

    def _look(self, result: dict[str, Any]) -> None:
        # A loop has a result of each item.
        said = [(one.get("msg"), one.get("ansible_stats")) for one in result.get("results", [result])]
        self._suggests |= "./counter " in str(said)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Run after the recap."""
        failed = stats.failures or stats.dark
        inventories = [path for path in context.CLIARGS["inventory"] if path not in C.DEFAULT_HOST_LIST]
        if self._suggests and inventories:
            options = " ".join(f"-i {shlex.quote(shown(path))}" for path in inventories)
            # Standard output may be read by a program.
            self._display.display(f"\nSuggested commands need the inventory of this run too: {options}", stderr=True)
        if not failed or not C.DEFAULT_LOG_PATH:
            atexit.unregister(self._name_the_log)
            sentence = stats.custom.get("_run", {}).get("closing_sentence")
            if sentence:
                self._display.display(sentence)

    def _name_the_log(self) -> None:
        if C.DEFAULT_LOG_PATH:
            self._display.display(f"\nThe whole log: {C.DEFAULT_LOG_PATH}", screen_only=True)
