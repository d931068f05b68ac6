"""Every replica is reached before an arm, however the edge spreads."""

import itertools
from collections.abc import Iterator
from http.server import ThreadingHTTPServer

import pytest
from bench.warmup import CONNECTIONS, warm_up
from support.serving import Handler, serving


class Mesh(ThreadingHTTPServer):
    """As Swarm's own load balancer: each connection goes to the next replica, and stays with it."""

    request_queue_size = 128
    daemon_threads = True

    def __init__(self, replicas: int) -> None:
        super().__init__(("127.0.0.1", 0), Replica)
        self.turns = itertools.cycle(range(1, replicas + 1))


class Replica(Handler):
    """Answers all requests of one connection."""

    server: Mesh

    def setup(self) -> None:
        super().setup()
        self.name = str(next(self.server.turns))

    def reply(self) -> None:
        self.answer(X_Counter_Replica=self.name)


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    with serving(Mesh(replicas=2 * CONNECTIONS)) as server:
        yield server


def test_more_replicas_than_connections_are_reached_where_a_connection_stays_with_its_replica(mesh: Mesh) -> None:
    answers = warm_up(f"http://127.0.0.1:{mesh.server_port}", replicas=2 * CONNECTIONS, seconds=0.1, patience=20)
    assert len(answers) == 2 * CONNECTIONS
