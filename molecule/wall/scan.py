"""Prints as JSON which TCP ports of a host take connections: scan.py ADDRESS."""

from __future__ import annotations

import asyncio
import json
import sys

# Those of the system, of the swarm, and of the programs that the scenario starts.
PORTS = [*range(1, 1025), 2377, 5000, 7946, *range(8000, 9300)]
AT_ONCE = 300
# A closed port of the wall does not answer.
SECONDS = 2.0


async def open_ports(address: str) -> list[int]:
    """Return the ports that take connections."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def is_open(port: int) -> bool:
        async with turns:
            try:
                _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), SECONDS)
            except OSError:
                return False
            writer.close()
            return True

    found = await asyncio.gather(*map(is_open, PORTS))
    return [port for port, answers in zip(PORTS, found, strict=True) if answers]


if __name__ == "__main__":
    print(json.dumps(asyncio.run(open_ports(sys.argv[1]))))
