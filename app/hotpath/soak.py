"""Count with a key for each increment, at a fixed rate and for a long time, and see whether Redis fills.

``python -m hotpath.soak [--rate N] [--seconds S]`` in ``app``. Redis has as much memory as with the default
``redis_memory`` (60 % of 256 MiB), and a replica. Prints JSON: ``acknowledged`` and ``refused`` increments (those
without an answer included), the rate that was reached, and the memory of the primary in bytes once a minute. The exit
status is 1 if any was refused.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import tempfile
import threading
import time
import uuid
from contextlib import ExitStack, suppress
from pathlib import Path

from support.processes import Gunicorn, Process, RedisServer, running
from support.waiting import wait_until

CONNECTIONS = 16
MAXMEMORY = int(0.6 * 256 * 2**20)
DISK = ("appendonly yes", "appendfsync always", "repl-diskless-sync-delay 0", f"maxmemory {MAXMEMORY}")
SAMPLE_SECONDS = 60.0


class Client(threading.Thread):
    """One connection that counts at its share of the rate."""

    def __init__(self, port: int, interval: float, ends: float) -> None:
        """Take the app's port, the seconds between two increments, and the monotonic time of the end."""
        super().__init__()
        self.port, self.interval, self.ends = port, interval, ends
        self.acknowledged = self.refused = 0

    def run(self) -> None:
        """Count until the end; what is late is made up for."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        due = time.monotonic()
        while due < self.ends:
            time.sleep(max(0.0, due - time.monotonic()))
            due += self.interval
            status = 0
            with suppress(OSError, http.client.HTTPException):
                key = {"Idempotency-Key": str(uuid.uuid4())}
                connection.request("POST", "/api/counters/soak/increment", headers=key)
                with connection.getresponse() as answer:
                    answer.read()
                status = answer.status
            if status == http.client.OK:
                self.acknowledged += 1
            else:
                self.refused += 1
                connection.close()  # the next request opens it again


def main() -> int:
    """Run the load; print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rate", type=float, default=750.0, help="increments a second")
    parser.add_argument("--seconds", type=float, default=900.0)
    options = parser.parse_args()
    Process.lifetime = int(options.seconds) + 60
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        primary = RedisServer(directory, *DISK)
        replica = RedisServer(directory, *DISK, f"replicaof 127.0.0.1 {primary.port}")
        app = Gunicorn(directory, REDIS_NODES=primary.address, REPLICAS_PER_PRIMARY="1", WRITE_CONCERN="majority")
        stack.enter_context(running(primary, replica, app))
        for redis in (primary, replica):
            redis.up()
        wait_until("the replica", lambda: primary.client().wait(1, 100) == 1)
        app.up()
        began = time.monotonic()
        ends = began + options.seconds
        clients = [Client(app.port, CONNECTIONS / options.rate, ends) for _ in range(CONNECTIONS)]
        for client in clients:
            client.start()
        memory = []
        while (left := ends - time.monotonic()) > 0:
            time.sleep(min(SAMPLE_SECONDS, left))
            memory.append(int(primary.client().info("memory")["used_memory"]))
        for client in clients:
            client.join()
        acknowledged = sum(client.acknowledged for client in clients)
        refused = sum(client.refused for client in clients)
        found = {
            "acknowledged": acknowledged,
            "refused": refused,
            "per_second": round(acknowledged / (time.monotonic() - began), 1),
            "maxmemory": MAXMEMORY,
            "used_memory": memory,
        }
    sys.stdout.write(json.dumps(found) + "\n")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
