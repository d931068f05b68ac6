"""Run a playbook and break it off in a stage, as `kill -9`, a closed laptop or a power cut would.

break_off.py TASK HOST COMMAND...   end COMMAND with SIGKILL half a second into a task whose name begins with TASK
break_off.py TASK -HOST COMMAND...  instead, end all SSH sessions of the container HOST until COMMAND has ended

Prints the last lines of the output. Fails if there was no such task, and if COMMAND succeeded.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

INTO_THE_STAGE_SECONDS = 0.5
LONGEST_SECONDS = 600


def main() -> None:
    """Run the command and break it off."""
    task, host, *command = sys.argv[1:]
    # Otherwise a task that is skipped is not named.
    environ = os.environ | {"ANSIBLE_DISPLAY_SKIPPED_HOSTS": "true"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ, start_new_session=True
    ) as run:
        lines = []
        locked = False
        for line in run.stdout or ():
            lines.append(line)
            # Preflight, which is before the lock, has a task of docker_host too.
            locked |= line.startswith("TASK [run :")
            if locked and line.startswith(f"TASK [{task}"):
                break
        else:
            sys.exit(f"no task {task}:\n{''.join(lines[-30:])}")
        time.sleep(INTO_THE_STAGE_SECONDS)
        if host.startswith("-"):
            sessions = ["docker", "exec", host[1:], "pkill", "-9", "-f", "sshd-session: |sshd: [a-z]+@"]
            deadline = time.monotonic() + LONGEST_SECONDS
            # Again and again, since a run connects anew between two tasks.
            while run.poll() is None and time.monotonic() < deadline:
                subprocess.run(sessions, check=False, timeout=30)
                time.sleep(0.1)
        else:
            os.killpg(run.pid, signal.SIGKILL)
        lines += run.communicate(timeout=30)[0].splitlines(keepends=True)
    print("".join(lines[-15:]))
    if run.returncode == 0:
        sys.exit("the run succeeded before it could be broken off")


if __name__ == "__main__":
    main()
