"""Which images leave a node: those that are named and that no container of the node needs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from engines import engine, serve
from support.ansible import ROOT, run


def container(image: str, state: str, *, of_swarm: bool = False) -> dict[str, Any]:
    labels = {"com.docker.swarm.task.id": "task"} if of_swarm else {}
    return {"Id": f"{image}-{state}", "ImageID": f"sha256:{image}", "State": state, "Labels": labels}


@pytest.mark.parametrize("options", [[], ["--check"]])
def test_an_image_that_a_container_needs_stays(tmp_path: Path, options: list[str]) -> None:
    names = {name: f"counter-app:{name}" for name in ("runs", "starts", "ended", "other", "unused", "kept")}
    containers = [
        container("runs", "running", of_swarm=True),
        container("starts", "created", of_swarm=True),
        # Swarm keeps some ended tasks, and starts none of them again; somebody may start another container again.
        container("ended", "exited", of_swarm=True),
        container("other", "exited"),
    ]
    images = [{"Id": f"sha256:{name}", "RepoTags": [tag]} for name, tag in names.items()] + [
        {"Id": "x", "RepoTags": None}
    ]
    answers = engine("one", manager=True) | {"/containers/json": containers, "/images/json": images}
    answers |= {f"/images/{name}": [] for name in names.values()}
    asked = [name for name in names.values() if name != names["kept"]]
    removed: list[str] = []
    with serve(tmp_path, "engine", answers) as server:
        server.change = lambda path, _body: removed.append(path.removeprefix("/images/"))
        done = run(
            *("ansible", "all", "-i", "host,", "-c", "local", "-m", "images_removed", *options),
            *("-a", json.dumps({"names": [*asked, "counter-app:gone"]})),
            *("-e", f"ansible_python_interpreter={sys.executable}"),
            ANSIBLE_LIBRARY=str(ROOT / "roles/releases/library"),
            ANSIBLE_CALLBACK_RESULT_FORMAT="json",
            DOCKER_HOST=f"unix://{tmp_path}/engine.sock",
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.partition(" => ")[2])["removed"] == [names["ended"], names["unused"]]
    assert removed == ([] if options else [names["ended"], names["unused"]])
