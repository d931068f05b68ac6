"""The sampler asks an engine over its socket, and samples the node whether the engine answers or not."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from socketserver import UnixStreamServer

import docker
import pytest
from bench.sampler import Task, main, tasks
from support.serving import Handler, serving

RUNNING = {"one": 41, "two": 42, "ended": None}


class Engine(Handler):
    """An engine with the containers of RUNNING; one of them ends after it was listed."""

    protocol_version = "HTTP/1.0"  # the server has one thread
    asked: list[str]

    def reply(self) -> None:
        path = self.path.partition("?")[0].partition("/v1.41")[2]
        name = path.split("/")[-2] if path else ""
        self.asked.append(name)
        labels = {"com.docker.swarm.service.name": "s_app", "com.docker.swarm.task.name": "s_app.1"}
        answer: object = {"message": "", "State": {"Pid": RUNNING.get(name)}, "HostConfig": {"NanoCpus": 150_000_000}}
        if name in ("", "containers"):
            answer = [{"Id": name, "Labels": labels} for name in RUNNING] if name else {"ApiVersion": "1.41"}
        self.answer(json.dumps(answer).encode(), 404 if name == "ended" else 200)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[tuple[docker.APIClient, list[str]]]:
    """A client of an engine, and the names of the containers it was asked for."""
    handler = type("Recording", (Engine,), {"asked": []})
    with serving(UnixStreamServer(str(tmp_path / "engine.sock"), handler)):
        yield docker.APIClient(f"unix://{tmp_path}/engine.sock", version="auto"), handler.asked


def test_a_container_is_asked_for_once(engine: tuple[docker.APIClient, list[str]]) -> None:
    """A sampler that asked for all of them each time would use the CPU that it measures."""
    client, asked = engine
    found = tasks(client, {"gone": Task("s_app", "s_app.9", 40, 0.0)})
    assert found == {name: Task("s_app", "s_app.1", pid, 0.15) for name, pid in RUNNING.items() if pid}
    del asked[:]
    assert tasks(client, found) == found
    assert asked == ["containers", "ended"]


def test_a_node_is_sampled_while_its_engine_does_not_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    main(tmp_path / "new/n1.csv", 0.5)
    with (tmp_path / "new/n1.csv").open(newline="") as file:
        assert [row["service"] for row in csv.DictReader(file)] == ["node"]
    assert "the engine does not answer" in capsys.readouterr().err
