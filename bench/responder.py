"""The trivial server with which the generator's ceiling is measured: it sends one canned answer to every request.

Usage: ``python3 responder.py PORT SECONDS``. It listens on loopback and ends after SECONDS. It uses the standard library
only, since it also runs on the load generators.
"""

import asyncio
import sys

BODY = b'{"name": "bench", "value": 1, "replica": "ceiling"}\n'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nX-Counter-Replica: ceiling\r\n\r\n%s" % (len(BODY), BODY)


class Responder(asyncio.Protocol):
    """Answers each request head; the benchmark's requests have no body."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the connection for the answers."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.pending = b""

    def data_received(self, data: bytes) -> None:
        """Answer every request that has arrived completely."""
        *requests, self.pending = (self.pending + data).split(b"\r\n\r\n")
        if requests:
            self.transport.write(ANSWER * len(requests))


async def serve(port: int, seconds: float) -> None:
    """Serve on 127.0.0.1:``port`` for ``seconds``; raises OSError if the port is taken."""
    server = await asyncio.get_running_loop().create_server(Responder, "127.0.0.1", port, backlog=1024)
    async with server:
        await asyncio.sleep(seconds)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2])))
