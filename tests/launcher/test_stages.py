"""What a run of ``./counter`` prints: stages, messages, each failure once; and what only its log holds."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from textwrap import dedent

import psutil
import pytest
from support.ansible import ROOT, TIMEOUT_SECONDS, project_environment
from support.waiting import wait_until

TWO_HOSTS = "[managers]\na\nb\n"
HEAD = """
- name: The play
  hosts: managers
  gather_facts: false
  connection: local
"""

ROLES = {
    "outer": """
        - name: Include the other role
          ansible.builtin.include_role:
            name: inner
        - name: Change something
          ansible.builtin.command: "true"
        """,
    "inner": """
        - name: Work in the other role
          ansible.builtin.command: "true"
        """,
    "skipped": """
        - name: Never run
          ansible.builtin.command: "true"
          when: false
        """,
}


class Site:
    """A directory with roles, an inventory and a playbook; what a run of it prints and logs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log_path = directory / "log"
        (directory / "hosts").write_text(TWO_HOSTS)
        for name, tasks in ROLES.items():
            (directory / "roles" / name / "tasks").mkdir(parents=True)
            (directory / "roles" / name / "tasks" / "main.yml").write_text(dedent(tasks))

    def command(self, tasks: str, *options: str, head: str = HEAD) -> list[str]:
        """Write the playbook; return the command that runs it."""
        (self.directory / "play.yml").write_text(f"{head}  tasks:{tasks}")
        return ["ansible-playbook", "-i", str(self.directory / "hosts"), str(self.directory / "play.yml"), *options]

    def environment(self, **more: str) -> dict[str, str]:
        own = {"ANSIBLE_STDOUT_CALLBACK": "stages", "ANSIBLE_LOG_PATH": str(self.log_path)}
        return project_environment(**(own | more))

    def run(self, tasks: str, *options: str, head: str = HEAD, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run the tasks as ``./counter`` does, without a terminal; standard error comes with the output."""
        return subprocess.run(
            self.command(tasks, *options, head=head),
            cwd=ROOT,
            env=self.environment(**environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=TIMEOUT_SECONDS,
        )

    def run_on_a_terminal(self, tasks: str) -> str:
        """Return all bytes that a terminal gets."""
        mine, theirs = pty.openpty()
        command, environ = self.command(tasks), self.environment(TERM="xterm")
        with subprocess.Popen(command, cwd=ROOT, env=environ, stdin=theirs, stdout=theirs, stderr=theirs):
            os.close(theirs)
            shown = b""
            # A terminal whose programs have all ended gives an error on Linux.
            while part := read(mine):
                shown += part
        os.close(mine)
        return shown.decode()

    @property
    def log(self) -> str:
        return self.log_path.read_text()


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def steady(output: str) -> str:
    """Return an output with all seconds written as 1.0, and two spaces between columns."""
    return re.sub(r" {2,}", "  ", re.sub(r" [0-9.]+ s(?=  |$)", "  1.0 s", output, flags=re.MULTILINE))


def left_on_the_terminal(shown: str) -> str:
    """Return the lines as a terminal shows them in the end: a return goes to the start, an escape clears the rest."""
    lines = []
    for line in shown.replace("\r\n", "\n").split("\n"):
        cells = ""
        for overwritten in line.split("\r"):
            column = 0
            for number, text in enumerate(overwritten.split("\x1b[K")):
                if number:
                    cells = cells[:column]
                cells = cells[:column] + text + cells[column + len(text) :]
                column += len(text)
        lines.append(cells)
    return "\n".join(lines)


def test_a_stage_is_a_role_with_what_it_includes(site: Site) -> None:
    done = site.run(
        """
    - name: Work without a role
      ansible.builtin.command: "true"
    - name: Say what runs
      ansible.builtin.set_stats:
        data:
          closing_sentence: It runs.
        aggregate: false
""",
        head=HEAD + "  roles: [outer, skipped]\n",
    )
    assert done.returncode == 0, done.stdout
    assert steady(done.stdout).splitlines() == [
        "outer  2 hosts  begins",
        "outer  2 hosts  1.0 s  4 changes",
        "skipped  2 hosts  begins",
        "skipped  2 hosts  1.0 s  skipped",
        "The play  2 hosts  begins",
        "The play  2 hosts  1.0 s  2 changes",
        "It runs.",
    ]


def test_a_stage_goes_on_in_the_next_play_for_the_same_hosts(site: Site) -> None:
    play = HEAD + "  roles: [outer]\n"
    done = site.run("", head=play + play.replace("managers", "all") + play.replace("managers", "managers[0]"))
    assert done.returncode == 0, done.stdout
    assert steady(done.stdout).splitlines() == [
        "outer  2 hosts  begins",
        "outer  2 hosts  1.0 s  8 changes",
        "outer  a  begins",
        "outer  a  1.0 s  2 changes",
    ]


def test_a_message_comes_once_with_its_hosts_and_as_it_was_written(site: Site) -> None:
    done = site.run(
        """
    - name: Say the same on both
      ansible.builtin.debug:
        msg: "It's the \\"same\\":\\n  two lines"
    - name: Say something different
      ansible.builtin.debug:
        msg: "This is {{ inventory_hostname }}."
    - name: Say several things
      ansible.builtin.debug:
        msg: "{{ item }}"
      loop: [one, two]
      when: inventory_hostname == 'b'
    - name: Show a variable
      ansible.builtin.debug:
        var: group_names
      when: inventory_hostname == 'a'
"""
    )
    said = done.stdout.splitlines()[1:-1]
    # Hosts answer in any order.
    assert sorted(said[2:4]) == ["a: This is a.", "b: This is b."]
    del said[2:4]
    assert said == ['a, b: It\'s the "same":', "  two lines", "b: one", "b: two", "a: group_names:", "    - managers"]


def test_only_messages_are_printed_where_a_playbook_says_so(site: Site) -> None:
    one = HEAD.replace("hosts: managers", "hosts: managers[0]") + "  vars:\n    messages_only: true\n"
    shown = """
    - name: Show a table
      ansible.builtin.debug:
        msg: |-
          a    1
          bb  22
"""
    assert site.run(shown, head=one).stdout == "a    1\nbb  22\n"
    failed = site.run(shown + "    - name: Fail\n      ansible.builtin.fail:\n        msg: One is down.\n", head=one)
    assert failed.returncode == 2
    assert failed.stdout.splitlines()[3:] == [
        f"FAILED on a: Fail ({site.directory}/play.yml:14)",
        "One is down.",
        "",
        f"The whole log: {site.log_path}",
    ]


FAILS = """
    - name: Fail
      ansible.builtin.fail:
        msg: "{{ item }}"
      loop: ["Nothing is deployed. This deploys it: ./counter deploy", Another]
"""
NOTES = """
    - name: Note
      ansible.builtin.debug:
        msg: "To return: ./counter rollback"
"""
CLOSES = """
    - name: Close
      ansible.builtin.set_stats:
        data: {closing_sentence: "To deploy it again: ./counter deploy"}
"""
SAYS_NOTHING = """
    - name: Pass
      ansible.builtin.debug:
        msg: "The counter serves."
"""


@pytest.mark.parametrize(("tasks", "suggests"), [(FAILS, True), (NOTES, True), (CLOSES, True), (SAYS_NOTHING, False)])
def test_a_suggested_command_gets_the_inventory_of_the_run(site: Site, tasks: str, *, suggests: bool) -> None:
    """Without it, the command would change other hosts."""
    done = site.run(tasks)
    hint = (
        f"Suggested commands need the inventory of this run too: -i {os.path.relpath(site.directory / 'hosts', ROOT)}"
    )
    assert (hint in done.stdout.splitlines()) == suggests, done.stdout


def test_a_failure_on_every_host_is_shown_once(site: Site) -> None:
    done = site.run(
        """
    - name: Fail everywhere
      ansible.builtin.fail:
        msg: The cause of it all.
"""
    )
    assert done.returncode == 2
    assert steady(done.stdout).splitlines() == [
        "The play  2 hosts  begins",
        "The play  2 hosts  1.0 s  failed",
        "",
        f"FAILED on a, b: Fail everywhere ({site.directory}/play.yml:7)",
        "The cause of it all.",
        "",
        f"The whole log: {site.log_path}",
    ]


def test_a_failure_in_a_loop_names_the_items_and_shows_what_the_command_printed_once(site: Site) -> None:
    done = site.run(
        """
    - name: Try them all
      ansible.builtin.command: sh -c 'echo told by $0 >&2; echo lines; echo of it; exit 3' same
      loop: [first, second]
"""
    )
    assert done.stdout.count("told by same") == 1
    assert "FAILED on a, b: Try them all" in done.stdout
    cause = done.stdout[done.stdout.index("Item ") :]
    assert cause.splitlines()[:7] == [
        "Item first, second: The command exited with a non-zero return code.",
        "command: sh -c 'echo told by $0 >&2; echo lines; echo of it; exit 3' same",
        "exit code: 3",
        "stdout:",
        "lines",
        "of it",
        "stderr: told by same",
    ]


def test_items_that_succeeded_are_not_shown_as_failed(site: Site) -> None:
    done = site.run(
        """
    - name: Try them all
      ansible.builtin.command: "{{ item }}"
      loop: ["true", "false"]
"""
    )
    assert "Item false: " in done.stdout
    assert "Item true" not in done.stdout


def test_what_is_rescued_or_ignored_is_only_in_the_log(site: Site) -> None:
    done = site.run(
        """
    - name: Go on after a failure
      block:
        - name: Fail and be rescued
          ansible.builtin.command: sh -c 'echo rescued; exit 1'
      rescue:
        - name: Save it
          ansible.builtin.command: "true"
    - name: Fail and be ignored
      ansible.builtin.command: sh -c 'echo ignored; exit 1'
      ignore_errors: true
"""
    )
    assert done.returncode == 0, done.stdout
    assert steady(done.stdout).splitlines() == [
        "The play  2 hosts  begins",
        # As in Ansible's recap: the ignored one counts as changed, the rescued one does not.
        "The play  2 hosts  1.0 s  4 changes",
    ]
    assert "rescued: sh" not in done.stdout
    assert site.log.count("stdout: rescued") == 2
    assert site.log.count("stdout: ignored") == 2
    assert "rescued=1" in site.log


def test_a_failure_after_a_rescued_one_is_shown(site: Site) -> None:
    done = site.run(
        """
    - name: Go on after a failure
      block:
        - name: Fail first
          ansible.builtin.fail:
            msg: the symptom
      rescue:
        - name: Fail again
          ansible.builtin.fail:
            msg: the cause
"""
    )
    assert done.returncode == 2
    assert "FAILED on a, b: Fail again" in done.stdout
    assert done.stdout.count("the cause") == 1
    assert "the symptom" not in done.stdout


def test_a_host_that_cannot_be_reached_is_a_failure(site: Site) -> None:
    done = site.run(
        """
    - name: Reach it
      ansible.builtin.ping:
      vars:
        ansible_connection: ssh
        # With pipelining, ssh may have ended before the module is sent to it, which is another error.
        ansible_pipelining: false
        ansible_host: 127.0.0.1
        ansible_port: 1
"""
    )
    assert done.returncode == 4
    assert "FAILED on a, b: Reach it" in done.stdout
    assert done.stdout.count("Connection refused") == 1


def test_of_a_loop_over_hosts_the_one_that_cannot_be_reached_is_named(site: Site) -> None:
    away = "away ansible_connection=ssh ansible_pipelining=false ansible_host=127.0.0.1 ansible_port=1"
    (site.directory / "hosts").write_text(f"[managers]\na\nb ansible_connection=local\n[others]\n{away}\n")
    done = site.run(
        """
    - name: Reach each
      ansible.builtin.ping:
      delegate_to: "{{ item }}"
      loop: [b, away]
      run_once: true
"""
    )
    assert done.returncode == 4
    assert "Item away: " in done.stdout
    assert done.stdout.count("Connection refused") == 1
    assert "All items completed" not in done.stdout


def test_what_no_log_hides_is_neither_printed_nor_logged(site: Site) -> None:
    done = site.run(
        """
    - name: Say it
      ansible.builtin.debug:
        msg: "pass{{ 'word' }}"
      no_log: true
    - name: Change with it
      ansible.builtin.copy:
        dest: "{{ playbook_dir }}/secret-{{ inventory_hostname }}"
        content: "pass{{ 'word' }}"
        mode: "0600"
      no_log: true
    - name: Fail with it
      ansible.builtin.command: "sh -c 'echo pass{{ item }}; exit 1'"
      loop: [word]
      no_log: true
""",
        "--diff",
    )
    assert done.returncode == 2
    assert (site.directory / "secret-a").read_text() == "password"
    assert "password" not in done.stdout + site.log
    assert "word" not in done.stdout.replace(str(site.directory), "")
    assert done.stdout.count("The task has no_log: its output is hidden.") == 2


def test_warnings_and_deprecations_are_printed_in_full(site: Site) -> None:
    (site.directory / "library").mkdir()
    (site.directory / "library" / "warns.py").write_text(
        dedent("""
        from ansible.module_utils.basic import AnsibleModule
        module = AnsibleModule({})
        module.warn("A disk of this host " + "is nearly full, " * 9 + "really.")
        module.deprecate("This module goes away.", version="99.0", collection_name="ansible.builtin")
        module.exit_json(changed=False)
        """)
    )
    done = site.run("\n    - name: Warn\n      warns:\n")
    assert done.returncode == 0, done.stdout
    for text in ("A disk of this host " + "is nearly full, " * 9 + "really.", "This module goes away."):
        assert done.stdout.count(text) == 1, done.stdout
        assert text in site.log
    assert "[WARNING]: " in done.stdout
    assert "[DEPRECATION WARNING]: " in done.stdout


def test_the_log_holds_what_v_shows(site: Site) -> None:
    tasks = """
    - name: Run a command
      ansible.builtin.command: echo found {{ item }}
      loop: [one]
"""
    site.run(tasks)
    quiet = site.log
    assert "TASK [Run a command] ***" in quiet
    assert "changed: [a] => (item=one) =>" in quiet
    assert "stdout: found one" in quiet
    assert "PLAY RECAP ***" in quiet
    site.log_path.unlink()
    verbose = site.run(tasks, "-v")
    assert "TASK [Run a command] ***" in verbose.stdout
    assert "stdout: found one" in verbose.stdout
    assert "begins" not in verbose.stdout
    assert site.log.count("stdout: found one") == 2


def test_diffs_are_shown(site: Site) -> None:
    done = site.run(
        """
    - name: Write a file
      ansible.builtin.copy:
        dest: "{{ playbook_dir }}/written"
        content: "hello\\n"
        mode: "0644"
      run_once: true
""",
        "--check",
        "--diff",
    )
    assert done.stdout.count("+hello") == 1
    assert "Write a file [a]" in done.stdout
    assert not (site.directory / "written").exists()


def test_on_a_terminal_a_live_line_is_cleared_before_anything_else_is_written(site: Site) -> None:
    shown = site.run_on_a_terminal(
        """
    - name: Take some time
      ansible.builtin.command: sleep 6
    - name: Say something
      ansible.builtin.debug:
        msg: Something.
"""
    )
    # Each live line begins with a return, and what follows it clears the line.
    drawn = re.findall(r"\rThe play +2 hosts +([0-9.]+) s  Take some time\x1b\[K", shown)
    assert len(drawn) >= 3
    assert float(drawn[-1]) > float(drawn[0])
    assert steady(left_on_the_terminal(shown)).splitlines() == [
        "a, b: Something.",
        "The play  2 hosts  1.0 s  2 changes",
    ]


def test_elsewhere_a_long_stage_says_what_it_is_doing_more_and_more_rarely(site: Site) -> None:
    (site.directory / "callback").mkdir()
    plugin = (ROOT / "plugins/callback/stages.py").read_text()
    for constant, quick in {
        "FIRST_REPORT = 30.0": "FIRST_REPORT = 0.5",
        "LIVE_INTERVAL = 1.0": "LIVE_INTERVAL = 0.1",
    }.items():
        assert constant in plugin
        plugin = plugin.replace(constant, quick)
    (site.directory / "callback" / "quick.py").write_text(plugin)
    done = site.run(
        """
    - name: Take some time
      ansible.builtin.command: sleep 5.5
""",
        ANSIBLE_STDOUT_CALLBACK="quick",
        ANSIBLE_CALLBACK_PLUGINS=str(site.directory / "callback"),
    )
    said = [float(seconds) for seconds in re.findall(r"2 hosts +([0-9.]+) s  Take some time\n", done.stdout)]
    # A slow machine takes longer and says more, but no report comes before its time.
    assert len(said) >= 3
    assert [seconds >= 0.5 * 2**index for index, seconds in enumerate(said)] == [True] * len(said)


def test_an_interrupted_run_shows_the_failures_until_then_and_names_its_log(site: Site) -> None:
    command = site.command(
        """
    - name: Fail on one host, and go on for long on the other
      ansible.builtin.command: "{{ 'false' if inventory_hostname == 'a' else 'sleep 60' }}"
"""
    )
    with subprocess.Popen(
        command, cwd=ROOT, env=site.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        wait_until("the failure of one host", lambda: site.log_path.exists() and "fatal: [a]" in site.log)
        # A worker that is ended just after it told the failure keeps a lock, and Ansible waits for ever.
        wait_until("the end of its worker", lambda: running_children(process.pid) == 1)
        process.send_signal(signal.SIGINT)
        try:
            shown, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode != 0
    assert "FAILED on a: Fail on one host" in shown
    assert shown.splitlines()[-1] == f"The whole log: {site.log_path}"


def running_children(pid: int) -> int:
    """Return how many children of a process have not ended."""

    def is_running(child: psutil.Process) -> bool:
        with suppress(psutil.NoSuchProcess):
            return bool(child.status() != psutil.STATUS_ZOMBIE)
        return False

    return sum(map(is_running, psutil.Process(pid).children()))


def test_by_hand_the_output_is_ansible_s_own(site: Site) -> None:
    environment = {key: value for key, value in site.environment().items() if not key.startswith("ANSIBLE_")}
    environment["ANSIBLE_CONFIG"] = str(ROOT / "ansible.cfg")
    command = site.command(
        """
    - name: Say what runs
      ansible.builtin.set_stats:
        data:
          closing_sentence: It runs.
        aggregate: false
"""
    )
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS
    )
    assert "TASK [Say what runs] ***" in done.stdout
    assert "PLAY RECAP ***" in done.stdout
    assert done.stdout.splitlines()[-1] == "It runs."
