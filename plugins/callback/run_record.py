"""Keep a record of each run that changes something, for its audit line; end the run if the playbook fails; close it.

It also judges every run, for the exit code of ./counter (launcher/run_playbook.py), and describes it as JSON (`json`).

Ansible has no ``finally`` for a whole playbook: after a failure no further play runs. So this runs a small playbook
then, which releases the lock, notes the failure in the audit log and runs the hook (roles/run/tasks/end.yml).
"""

from __future__ import annotations

import atexit
import getpass
import json
import os
import re
import secrets
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible import constants as C  # noqa: N812
from ansible import context
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.playbook.task_include import TaskInclude
from ansible.plugins.callback import CallbackBase
from ansible.utils.vars import load_extra_vars

DOCUMENTATION = """
name: run_record
type: aggregate
short_description: Keeps a record of a run that changes something, ends it after a failure, and prints the last line
description:
  - A run begins with a play that has the variable C(run_verb).
  - The record is in the environment variable E(COUNTER_DEPLOY_RUN), as JSON. Ansible forks a process for each task,
    so tasks see the record as it is then.
  - The verdict on the run is in the environment variable E(COUNTER_DEPLOY_VERDICT) from the first play on. It is a key
    of launcher/exit_codes.json.
  - The last line is the custom statistic C(closing_sentence), which Ansible would print as a nested structure. After a
    failure it is the path of the log (E(ANSIBLE_LOG_PATH)), if there is one.
  - With the extra variable C(json), all output goes to standard error, but for one JSON document on standard output. It
    says how the run ended, and what the custom statistic C(document) has (docs/json/run.schema.json).
  - If a message or the sentence suggests a command, the inventory of the command line is named: such commands lack it.
"""

ROOT = Path(__file__).resolve().parents[2]
RECORD = "COUNTER_DEPLOY_RUN"
VERDICT = "COUNTER_DEPLOY_VERDICT"
# The name of tasks that end a run which was to find this out.
FINDING = "Report what is missing or broken"
LONGEST_MESSAGE = 2000
# More than a hook may take (`hook_timeout`).
END_SECONDS = 4000
GIT_SECONDS = 10
# Changes here are not of what is deployed: a user's own files, documents and tests.
# A green run of a scenario writes molecule/runs.json, for example.
NOT_DEPLOYED = (":!inventory", ":!hooks", ":!docs", ":!molecule", ":!tests")
# It has no terminal, so it must not ask.
NO_QUESTIONS = {f"ANSIBLE_{what}": "false" for what in ("ASK_PASS", "ASK_VAULT_PASS", "BECOME_ASK_PASS")}
# What the playbook that ends a failed run needs of this run's command line: internal names and options.
HANDED_ON = {
    "inventory": "--inventory",
    "extra_vars": "--extra-vars",
    "subset": "--limit",
    "remote_user": "--user",
    "private_key_file": "--private-key",
    "connection": "--connection",
    "become_method": "--become-method",
    "connection_password_file": "--connection-password-file",
    "vault_ids": "--vault-id",
    "vault_password_files": "--vault-password-file",
    "ssh_common_args": "--ssh-common-args",
    "ssh_extra_args": "--ssh-extra-args",
}


class CallbackModule(CallbackBase):
    """Records what the tasks of a run cannot know: who began it, how much has changed, and why it failed."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "run_record"

    def __init__(self) -> None:
        """Be ready for a run that is interrupted: it has no statistics."""
        super().__init__()
        self._record: dict[str, Any] = {}
        self._held = self._noted = self._suggests = False
        self._play: Any = None
        self._failed_tasks: dict[str, Any] = {}
        self._become_password = self._verb = self._failure = ""
        self._began = time.time()
        self._document_to: int | None = None
        atexit.register(self._print_document)
        atexit.register(self._name_the_log)
        atexit.register(self._end)

    def set_play_context(self, play_context: Any) -> None:
        """Remember a password that was typed, for the playbook that ends a failed run."""
        self._become_password = play_context.become_pass or ""

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Send what Ansible prints to standard error if the result is to be JSON."""
        asked = load_extra_vars(playbook.get_loader()).get("json")
        if boolean(asked or False, strict=False):
            sys.stdout.flush()
            self._document_to = os.dup(1)
            os.dup2(2, 1)

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Begin a record. A playbook may run several verbs, one after the other."""
        self._play = play
        self._verb = play.vars.get("run_verb") or play.vars.get("reading_verb") or self._verb
        # Until the run has ended.
        os.environ.setdefault(VERDICT, "failed")
        verb = play.vars.get("run_verb")
        if verb and (self._noted or verb != self._record.get("verb")):
            self._held = self._noted = False
            self._update(new_record(verb))

    def v2_runner_on_ok(self, result: Any) -> None:
        """Count a change, and note the closing sentence."""
        self._look(result.result)
        if not self._record:
            return
        answer = result.result
        if result.task.action == "stack_lock":
            self._held |= answer["held"]
            self._noted |= answer["noted"]
        changes = self._record["changes"] + (result.is_changed() and not isinstance(result.task, TaskInclude))
        sentence = answer.get("ansible_stats", {}).get("data", {}).get("closing_sentence", self._record["sentence"])
        self._update({"changes": changes, "sentence": sentence})

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:  # noqa: FBT001, FBT002
        """Note a failure, unless a block rescues it."""
        if not ignore_errors:
            self._look(result.result)
            if not self._is_rescued(result.host):
                self._fail(result.task, "; ".join(messages(result.result)), verdict_on(result.task))

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Note a host that cannot be reached."""
        if not result.task.ignore_unreachable:
            message = f"{away(result)} cannot be reached: {'; '.join(messages(result.result))}"
            self._fail(result.task, message, "failed")

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """End a run that has failed, below the recap. The playbook of one that has not failed has ended it."""
        failed = stats.failures or stats.dark
        changes = self._record.get("changes", 0)
        if failed:
            self._end()
        else:
            would = context.CLIARGS.get("check") and self._record.get("changes")
            os.environ[VERDICT] = "would change" if would else "done"
        self._record = {}
        inventories = [path for path in context.CLIARGS["inventory"] if path not in C.DEFAULT_HOST_LIST]
        if self._suggests and inventories:
            options = " ".join(f"-i {shlex.quote(shown(path))}" for path in inventories)
            # Standard output may be read by a program.
            self._display.display(f"\nSuggested commands need the inventory of this run too: {options}", stderr=True)
        told = stats.custom.get("_run", {})
        sentence = told.get("closing_sentence", "")
        if not failed or not C.DEFAULT_LOG_PATH:
            atexit.unregister(self._name_the_log)
            if sentence:
                self._display.display(sentence)
        self._print_document(told.get("document", {}), changes, sentence)

    def _print_document(self, told: Mapping[str, Any] | None = None, changes: int = 0, sentence: str = "") -> None:
        """Print the JSON document, once. A run that breaks off ends without statistics."""
        if self._document_to is None:
            return
        document = {
            "verb": self._verb,
            "result": os.environ.get(VERDICT, "refused"),
            "changes": changes,
            "seconds": round(time.time() - self._began, 1),
            "message": self._failure or sentence,
            **(told or {}),
        }
        with os.fdopen(self._document_to, "w", encoding="utf-8") as file:
            file.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
        self._document_to = None

    def _look(self, result: Mapping[str, Any]) -> None:
        """Note whether a message or the closing sentence suggests a command."""
        said = [(one.get("msg"), one.get("ansible_stats")) for one in results(result)]
        self._suggests |= "./counter " in str(said)

    def _name_the_log(self) -> None:
        if C.DEFAULT_LOG_PATH:
            self._display.display(f"\nThe whole log: {C.DEFAULT_LOG_PATH}", screen_only=True)

    def _is_rescued(self, host: Any) -> bool:
        """Tell whether a block rescues the failure just seen: Ansible then sets ``ansible_failed_task`` anew."""
        variables = self._play.get_variable_manager().get_vars(play=self._play, host=host, include_hostvars=False)
        before = self._failed_tasks.get(host.get_name())
        self._failed_tasks[host.get_name()] = variables.get("ansible_failed_task")
        return self._failed_tasks[host.get_name()] is not before

    def _fail(self, task: Any, message: str, verdict: str) -> None:
        if verdict == "refused" and self._record.get("changes"):
            verdict = "failed"
        os.environ[VERDICT] = verdict
        self._failure = self._failure or message
        if self._record:
            noted = verdict if verdict == "refused" else "failed"
            self._update({"verdict": noted, "sentence": f"{task.get_name()}: {message}"[:LONGEST_MESSAGE]})

    def _update(self, values: dict[str, Any]) -> None:
        self._record |= values
        os.environ[RECORD] = json.dumps(self._record)

    def _end(self) -> None:
        if not self._record or self._noted or context.CLIARGS.get("check") or context.CLIARGS.get("tags") != ("all",):
            return
        if not self._record["verdict"]:
            if not self._held:
                return
            self._update({"verdict": "failed", "sentence": "The run was interrupted."})
        record, self._record = self._record, {}
        words = command(with_password=bool(self._become_password), in_haste=not self._held)
        if self._document_to is not None:
            words.append("--extra-vars=json=false")
        try:
            done = subprocess.run(  # noqa: S603
                words,
                env=os.environ | {"ANSIBLE_STDOUT_CALLBACK": "stages"} | NO_QUESTIONS,
                input=self._become_password,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=END_SECONDS,
            )
        except subprocess.TimeoutExpired:
            done = subprocess.CompletedProcess(words, 1, stdout="")
        # An audit log that cannot be reached does not matter if an option was mistyped, or if there is no server yet.
        if self._held or done.returncode == 0:
            self._say(done.stdout.strip())
        if self._held and done.returncode:
            self._say(
                f"WARNING: run {record['id']} may still have the lock. The next run from this machine takes it over. "
                "./counter unlock, with the name of the stack if you gave one, shows the lock and how to remove it"
            )

    def _say(self, text: str) -> None:
        if text:
            self._display.display(text, color=C.COLOR_WARN)


def verdict_on(task: Any) -> str:
    """Return what it means that a task failed. One that refuses to continue ends a run that has begun."""
    name = str(task.name or "")
    if task.action.rpartition(".")[2] not in ("assert", "fail"):
        return "failed"
    return "broken" if name == FINDING else "refused" if re.match("Refuse (?!to continue)", name) else "failed"


def new_record(verb: str) -> dict[str, Any]:
    """Return the record of a run that begins now; ``began`` is in seconds since 1970."""
    login = os.environ.get("SSH_CONNECTION", "").partition(" ")[0]
    return {
        "id": secrets.token_hex(4),
        "verb": verb,
        "who": f"{os.environ.get('SUDO_USER') or getpass.getuser()}@{socket.gethostname()}",
        "from": f"{Path.cwd()}{f', logged in from {login}' if login else ''}",
        "pid": os.getpid(),
        "began": time.time(),
        "asks": somebody_can_answer(),
        **revision(ROOT),
        "changes": 0,
        "verdict": "",
        "sentence": "",
    }


def somebody_can_answer() -> bool:
    """Tell whether a question of the run would reach a terminal, as ``ansible.builtin.pause`` needs it."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    return os.getpgrp() == os.tcgetpgrp(sys.stdin.fileno())


def revision(root: Path) -> dict[str, Any]:
    """Return the git ``revision`` of a checkout, empty without one, and whether it may have changes (``dirty``).

    Changes count where a deployment reads the project's own files.
    """
    if not (commit := git(root, "rev-parse", "HEAD")):
        return {"revision": "", "dirty": False}
    return {"revision": commit, "dirty": git(root, "status", "--porcelain", "--", ".", *NOT_DEPLOYED) != ""}


def git(root: Path, *command: str) -> str | None:
    """Return what git prints; None if it fails."""
    try:
        done = subprocess.run(  # noqa: S603
            ["git", "-C", str(root), *command],  # noqa: S607  # wherever the system has git
            capture_output=True,
            text=True,
            check=False,
            timeout=GIT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def command(*, with_password: bool, in_haste: bool) -> list[str]:
    """Return the command that ends a failed run, with this run's inventory, variables and connection.

    It reads the password for sudo from its standard input. One for SSH that was typed (`--ask-pass`) is not handed on.
    A run that was refused has no lock to release, so it need not wait for hosts that may be down.
    """
    options = []
    for name, option in HANDED_ON.items():
        value = context.CLIARGS.get(name)
        values = value if isinstance(value, (list, tuple)) else [value]
        options += [f"{option}={each}" for each in values if each and not is_pipe(str(each))]
    if with_password:
        options.append("--become-password-file=-")
    if in_haste:
        options.append("--timeout=5")
    return [sys.executable, "-m", "ansible", "playbook", *options, str(ROOT / "playbooks/failed.yml")]


def is_pipe(value: str) -> bool:
    """Tell whether variables come from a pipe, such as that of ``sops exec-file``: it can be read only once."""
    return value.startswith("@") and Path(value[1:]).is_fifo()


def shown(inventory: str) -> str:
    """Return an inventory as a person would type it here. A list of hosts has a comma."""
    return inventory if "," in inventory else os.path.relpath(inventory)


def results(result: Mapping[str, Any]) -> Any:
    """Return the results of the items of a loop; of a task without a loop, its result."""
    return result.get("results", [result])


def away(result: Any) -> str:
    """Return the hosts that cannot be reached: of a loop over hosts, to which it is delegated, those items."""
    items = [item.get("item") for item in result.result.get("results", []) if item.get("unreachable")]
    hosts = [item for item in items if isinstance(item, str) and result.task.delegate_to]
    return ", ".join(hosts) or str(result.host.get_name())


def messages(result: Mapping[str, Any]) -> list[str]:
    """Return why a task failed; of a loop, each item's reason. What no_log hides is hidden here too."""
    failed = [item for item in results(result) if item.get("failed") or item.get("unreachable")]
    failed = failed or [result]
    return list(dict.fromkeys(str(item.get("msg") or item.get("censored") or "").strip() for item in failed))
