"""How the program of a node starts and ends its server."""

from __future__ import annotations

import signal
import subprocess
import sys
from textwrap import dedent

from support.ansible import ROOT

PROGRAM = dedent(
    """
    import sys
    from redis_node import server

    server.STOP_SECONDS = 1.0
    sys.exit(server.serve(sys.argv[1:], lambda: None, lambda: print("prepares", flush=True)) != -9)
    """
)
REFUSES = dedent(
    """
    import signal, time

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("serves", flush=True)
    time.sleep(60)
    """
)


def test_a_server_that_refuses_to_stop_is_killed_in_the_end() -> None:
    """Such as one with a full disk that copies its data anew."""
    command = [sys.executable, "-c", PROGRAM, sys.executable, "-c", REFUSES]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "serves\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "prepares\n"
        assert process.wait(20) == 0
