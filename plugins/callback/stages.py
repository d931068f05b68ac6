"""Print one line for each stage of a run, every message, and each failure once.

No callback of ansible-core, ansible.posix or community.general does this: all of them print a failure for each item and
each host, and rescued ones too. This one is Ansible's own ``default`` callback, whose output goes only to the log; the
screen gets a summary of it. With ``-v`` it is the ``default`` callback. Neither shows the join tokens of the swarm.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible import constants as C  # noqa: N812
from ansible import context
from ansible.playbook.task_include import TaskInclude
from ansible.plugins.callback.default import CallbackModule as Default
from ansible.utils.display import Display

DOCUMENTATION = """
name: stages
type: stdout
short_description: One line for each stage, every message, each failure once
description:
  - A stage is a role of a play, with all that the role includes. Tasks without a role form a stage of the play's name.
  - What Ansible's default callback prints with C(-v) goes to the log (E(ANSIBLE_LOG_PATH)), and only there.
  - A play with the variable C(messages_only) makes the whole run print its messages and nothing else, unless it fails.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
"""

# Seconds after which a stage says for the first time what it is doing, where there is no live line. Each further time
# comes after twice as many.
FIRST_REPORT = 30.0
LIVE_INTERVAL = 1.0

HIDDEN = "The task has no_log: its output is hidden."


@dataclass
class Stage:
    """A role of a play, or the tasks of a play that have no role."""

    name: str
    hosts: str
    began: float = field(default_factory=time.monotonic)
    next_report: float = FIRST_REPORT
    task: str = ""
    changes: int = 0
    ran: bool = False
    ended: bool = False

    @property
    def seconds(self) -> float:
        """Return the seconds since it began."""
        return time.monotonic() - self.began

    def line(self, note: str) -> str:
        """Return a line of the table of stages."""
        seconds = self.seconds
        return f"{self.name:<16} {self.hosts:<12} {seconds:>4.{0 if seconds >= 10 else 1}f} s  {note}".rstrip()  # noqa: PLR2004

    def result(self) -> str:
        """Return what became of it: how many changes, or that it was skipped."""
        if not self.ran:
            return "skipped"
        return {0: "", 1: "1 change"}.get(self.changes, f"{self.changes} changes")


class Screen:
    """Standard output and error of the run, with a line at the bottom that says what is happening now.

    It replaces ``Display.display``, through which all output of Ansible goes, so that the live line is cleared before
    anything else is written. Every line is flushed: a log of a CI system is read while the run goes on.
    """

    def __init__(self, display: Any) -> None:
        """Take the display of Ansible's main process."""
        self.live = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb" and not context.CLIARGS.get("step")
        self.stage: Stage | None = None
        self.reports = True
        self._display = display
        self._write = display.display
        self._drawn = False
        display.display = self.display
        threading.Thread(target=self._tick_forever, daemon=True).start()

    def display(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Display as Ansible does, below a cleared live line. Worker processes pass it on to the main one."""
        if self._display._final_q:
            self._write(msg, *args, **kwargs)
            return
        with self._display._lock:
            self.clear()
            self._write(msg, *args, **kwargs)
            with contextlib.suppress(BrokenPipeError):
                sys.stdout.flush()

    def print(self, text: str, color: str | None = None, *, stderr: bool = False) -> None:
        """Print a text to the screen only: the log holds it in Ansible's words."""
        self.display(text, color=color, stderr=stderr, screen_only=True)

    def clear(self) -> None:
        """Remove the live line."""
        if self._drawn:
            sys.stdout.write("\r\x1b[K")
            sys.stdout.flush()
            self._drawn = False

    def tick(self) -> None:
        """Redraw the live line; elsewhere, say from time to time what a long stage is doing."""
        # Ansible forks its workers while it holds this lock, so that none of them starts in the middle of a line.
        with self._display._lock:
            stage = self.stage
            if stage is None or stage.ended or not stage.task:
                return
            if self.live:
                width = shutil.get_terminal_size().columns - 1
                sys.stdout.write(f"\r{stage.line(stage.task)[:width]}\x1b[K")
                sys.stdout.flush()
                self._drawn = True
            elif self.reports and stage.seconds >= stage.next_report:
                stage.next_report *= 2
                self.print(stage.line(stage.task))

    def _tick_forever(self) -> None:
        while True:
            time.sleep(LIVE_INTERVAL)
            self.tick()


class Log:
    """The display of the ``default`` callback: as verbose as ``-v``, and written only to the log.

    Warnings and deprecations go where Ansible displays them: to the screen and to the log.
    """

    verbosity = 1
    banner = Display.banner
    _error = Display._error

    def __init__(self, display: Any) -> None:
        """Take the display that writes to the screen and to the log."""
        self._screen = display

    def __getattr__(self, name: str) -> Any:
        """Return what it does not change."""
        return getattr(self._screen, name)

    def display(self, msg: str, color: str | None = None, **_: Any) -> None:
        """Write to the log, if there is one."""
        self._screen.display(msg, color=color, log_only=True)


class Quiet(Default):
    """Ansible's default output for the log, and a summary of it for the screen."""

    def __init__(self) -> None:
        """Leave the display of the default callback to the log."""
        super().__init__()
        self._screen = Screen(Display())
        self._display: Any = Log(Display())
        self._messages_only = False
        self._hosts: list[str] = []
        self._rescued: dict[str, Any] = {}
        # What the hosts of the current task have said and how they failed: each text with its hosts, in order.
        self._said: dict[str, list[str]] = {}
        self._failed: dict[str, list[str]] = {}
        self._task: Any = None
        self._task_name = ""

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Look for the mark of a playbook that only shows something."""
        # An interrupted run ends without a callback. Registered here, this runs before what run_record registered.
        atexit.register(self._stop)
        super().v2_playbook_on_start(playbook)
        self._messages_only = any(play.vars.get("messages_only") for play in playbook.get_plays())
        self._screen.reports = not self._messages_only

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """End the last task of the play before. Its stage ends when one with another name or other hosts begins."""
        self._end_task()
        super().v2_playbook_on_play_start(play)
        variables = play.get_variable_manager().get_vars(play=play, include_hostvars=False)
        self._hosts = variables["ansible_play_batch"]

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:  # noqa: FBT001
        """Begin a stage when the task belongs to another one than the last task."""
        super().v2_playbook_on_task_start(task, is_conditional)
        self._end_task()
        self._task = task
        self._task_name = task.get_name().strip()
        # An include does nothing itself: what it includes may be a stage of its own.
        if isinstance(task, TaskInclude):
            return
        name = outermost_role(task) or self._play.get_name().strip() or "play"
        hosts = self._hosts[0] if len(self._hosts) == 1 else f"{len(self._hosts)} hosts"
        stage = self._screen.stage
        if stage is None or (stage.name, stage.hosts) != (name, hosts):
            self._end_stage()
            stage = Stage(name, hosts)
            self._screen.stage = stage
            if not self._screen.live and not self._messages_only:
                self._screen.print(f"{stage.name:<16} {stage.hosts:<12} begins")
        # A pause waits for an answer at the terminal, which a live line would hide.
        stage.task = "" if task.action.endswith("pause") else task.name or task.action
        self._screen.tick()

    def v2_runner_on_ok(self, result: Any) -> None:
        """Note changes and messages."""
        if result.task.action in C._ACTION_DEBUG:
            for said in results(result.result):
                self._note(self._said, self._message(said), result.host)
        if stage := self._screen.stage:
            stage.ran = True
            stage.changes += result.is_changed() and not isinstance(result.task, TaskInclude)
        super().v2_runner_on_ok(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:  # noqa: FBT001, FBT002
        """Note a failure that neither the task ignores nor a block rescues."""
        if stage := self._screen.stage:
            stage.ran = True
            stage.changes += ignore_errors and result.is_changed()
        if not ignore_errors and not self._is_rescued(result.host):
            self._note(self._failed, self._causes(result.result), result.host)
        super().v2_runner_on_failed(result, ignore_errors)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Note a host that cannot be reached."""
        if not result.task.ignore_unreachable:
            self._note(self._failed, self._causes(result.result), result.host)
        super().v2_runner_on_unreachable(result)

    def v2_on_file_diff(self, result: Any) -> None:
        """Print what a task changes, with ``--diff``."""
        for changed in results(result.result):
            if changed.get("diff") and changed.get("changed") and (diff := self._get_diff(changed["diff"])):
                self._screen.print(f"{self._task_name} [{self.host_label(result)}]\n{diff}")
        super().v2_on_file_diff(result)

    def v2_playbook_on_no_hosts_remaining(self) -> None:
        """Print why no host is left."""
        self._end_task()
        super().v2_playbook_on_no_hosts_remaining()

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """End the last stage."""
        self._end_task()
        self._end_stage()
        super().v2_playbook_on_stats(stats)

    def _stop(self) -> None:
        self._end_task()
        self._screen.stage = None
        self._screen.clear()

    def _end_task(self) -> None:
        """Print what its hosts said, and how they failed: the same text once, with its hosts."""
        for text, hosts in self._said.items():
            self._screen.print(text if len(self._hosts) == 1 else f"{self._in_order(hosts)}: {text}")
        self._said = {}
        if self._failed:
            self._end_stage("failed")
            stderr = self.get_option("display_failed_stderr")
            for text, hosts in self._failed.items():
                where = f"{self._task_name} ({relative(self._task.get_path())})"
                self._screen.print(f"\nFAILED on {self._in_order(hosts)}: {where}", C.COLOR_ERROR, stderr=stderr)
                self._screen.print(text, stderr=stderr)
        self._failed = {}

    def _end_stage(self, failed: str = "") -> None:
        stage = self._screen.stage
        if stage and not stage.ended:
            stage.ended = True
            self._screen.clear()
            if not self._messages_only:
                self._screen.print(stage.line(", ".join(filter(None, [stage.result(), failed]))))

    def _in_order(self, hosts: list[str]) -> str:
        """Return the names of hosts in the order of the play; they answer in any order."""
        return ", ".join(sorted(hosts, key=self._hosts.index))

    @staticmethod
    def _note(texts: dict[str, list[str]], text: str, host: Any) -> None:
        hosts = texts.setdefault(text, [])
        if host.get_name() not in hosts:
            hosts.append(host.get_name())

    def _is_rescued(self, host: Any) -> bool:
        """Tell whether a block rescues the failure just seen: Ansible then sets ``ansible_failed_task`` anew."""
        variables = self._play.get_variable_manager().get_vars(play=self._play, host=host, include_hostvars=False)
        before = self._rescued.get(host.get_name())
        self._rescued[host.get_name()] = variables.get("ansible_failed_task")
        return self._rescued[host.get_name()] is not before

    def _message(self, said: Mapping[str, Any]) -> str:
        """Return the text of a ``debug`` task, of its item, or the variable that it shows."""
        if "censored" in said:
            return HIDDEN
        message = said.get("msg")
        if isinstance(message, str):
            return message
        if isinstance(message, list) and all(isinstance(line, str) for line in message):
            return "\n".join(message)
        shown = {key: value for key, value in said.items() if key not in {"changed", "failed"}}
        return self._dump_results(shown).strip()

    def _causes(self, result: Mapping[str, Any]) -> str:
        """Return why a task failed, for a loop why each item did: the same text once, with its items."""
        items: dict[str, list[str]] = {}
        for item in results(result):
            if "exception" in item or item.get("unreachable") or item is result:
                items.setdefault(self._cause(item), []).append(str(self._get_item_label(item)))
        if "results" not in result:
            return "\n".join(items)
        return "\n".join(
            text if text == HIDDEN else f"Item {', '.join(labels)}: {text}" for text, labels in items.items()
        ) or self._cause(result)

    def _cause(self, result: Mapping[str, Any]) -> str:
        """Return why it failed: the message, and what a command printed unless the message repeats it."""
        if "censored" in result:
            return HIDDEN
        message = str(result.get("msg") or "").strip()
        parts = [message]
        if "assertion" in result and message == "Assertion failed":
            parts.append(f"assertion: {result['assertion']}")
        if "rc" in result:
            command = result.get("cmd")
            if command:
                parts.append(f"command: {command if isinstance(command, str) else shlex.join(map(str, command))}")
            parts.append(f"exit code: {result['rc']}")
        for stream in ("stdout", "stderr", "module_stdout", "module_stderr"):
            text = str(result.get(stream) or "").strip()
            if text and text not in message:
                parts.append(f"{stream}: {text}" if "\n" not in text else f"{stream}:\n{text}")
        return "\n".join(filter(None, parts)) or self._dump_results(result).strip()


def results(result: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the results of the items of a loop; of a task without a loop, its result."""
    yield from result.get("results", [result])


def outermost_role(task: Any) -> str:
    """Return the name of the role that the play lists or includes and that brought the task; empty without a role."""
    name, parent = "", task
    while parent is not None:
        name = parent._role.get_name() if parent._role else name
        parent = parent._parent
    return name


def relative(path: str) -> str:
    """Return a path of the current directory without that directory."""
    return path.removeprefix(f"{Path.cwd()}/")


class CallbackModule(Default if Display().verbosity else Quiet):  # type: ignore[misc]
    """Quiet, unless ``-v`` asks for Ansible's own output."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "stages"
