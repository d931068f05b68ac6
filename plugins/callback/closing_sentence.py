"""Print the sentence that a run ends with below the recap, where a person looks last."""

from __future__ import annotations

from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: closing_sentence
type: aggregate
short_description: Prints the custom statistic C(closing_sentence) as the last line of a run
description: The roles summary and bench set it with set_stats; the default callback would print a nested structure.
"""


class CallbackModule(CallbackBase):
    """Prints the custom statistic ``closing_sentence``, when a run set it."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "closing_sentence"

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Run after the recap."""
        sentence = stats.custom.get("_run", {}).get("closing_sentence")
        if sentence:
            self._display.display(f"{sentence}\n")
