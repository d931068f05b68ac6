"""A stack is deployed by the engine's own command, and is a change only if a service then differs."""

from __future__ import annotations

import json
import lzma
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from engines import engine, serve
from support.ansible import PLAYBOOKS, project_environment, run

with lzma.open(Path(__file__).with_name("engine") / "states.json.xz") as recorded:
    CONVERGED: dict[str, Any] = json.load(recorded)["converged"]

# How often the services are asked for until an update has ended. A deployment that does not wait for it asks twice.
LOOKS = 4

# In the place of docker: tells the engine its arguments, and ends as the environment says.
DOCKER = f"""#!{sys.executable}
import docker, os, sys
client = docker.from_env(version="1.41").api
client._post_json(client._url("/deploy"), data=sys.argv[1:])
sys.exit(os.environ["REFUSAL"] or None)
"""


def deploy(
    site: Path,
    *options: str,
    labels: dict[str, str],
    refusal: str = "",
    updating: str = "",
    errors: Mapping[str, int] | None = None,
) -> tuple[str, list[Any]]:
    """Deploy a stack of one service, which had these labels before; return the output, and what docker was asked.

    That is the arguments of a command, and the paths of what is removed. ``updating``: the image to which the service
    is being updated until the services were asked for ``LOOKS`` times. ``errors``: a path -> how often the engine has
    no answer there.
    """
    service = CONVERGED["service"] | {
        "PreviousSpec": {"TaskTemplate": {"ContainerSpec": {"Configs": [{"ConfigID": "c1"}]}}}
    }
    spec = service["Spec"] | {"Name": "counter_app", "Labels": {}}
    state = site / "state/counter"
    state.mkdir(parents=True)
    image = spec["TaskTemplate"]["ContainerSpec"]["Image"]
    wanted = {"image": image, "deploy": {"replicas": 2}}
    (state / "stack.yml").write_text(yaml.safe_dump({"services": {"app": wanted}}))
    (site / "docker").write_text(DOCKER)
    (site / "docker").chmod(0o755)
    answers = engine("one", manager=True) | {"/nodes": CONVERGED["nodes"], "/tasks": CONVERGED["tasks"], "/deploy": {}}
    answers |= {
        "/services": [service | {"Spec": spec | {"Labels": labels}}],
        "/configs": [{"ID": "c1"}, {"ID": "c2"}],
        "/secrets": [{"ID": "s1"}],
    }
    answers |= {"/configs/c2": {}, "/secrets/s1": {}}
    asked: list[Any] = []
    [now] = answers["/services"]
    if updating:
        template = {"ContainerSpec": spec["TaskTemplate"]["ContainerSpec"] | {"Image": updating}}
        begun = spec if updating == image else spec | {"TaskTemplate": spec["TaskTemplate"] | template}
        answers["/services"] = [now | {"Spec": begun, "UpdateStatus": {"State": "updating"}}]
    looks, left, kept = 0, dict(errors or {}), dict(answers)
    with serve(site, "one", answers) as server:

        def look(path: str) -> None:
            nonlocal looks
            if path in left:
                server.answers.pop(path, None)
                if not left[path]:
                    server.answers[path] = kept[path]
                left[path] = max(0, left[path] - 1)
            looks += path == "/services"
            if looks == LOOKS and updating:
                server.answers["/services"] = [now]

        server.look = look

        def change(path: str, arguments: list[str]) -> None:
            if "UpdateStatus" in server.answers["/services"][0]:
                asked.append("during the update")
            asked.append(arguments or path)
            server.answers["/services"] = [service | {"Spec": spec}]

        server.change = change
        host = {"ansible_connection": "local", "ansible_python_interpreter": str(site / "one.python")}
        (site / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": {"one": host}}}))
        done = run(
            *("ansible-playbook", "-i", site / "hosts.yml", PLAYBOOKS / "stack.yml"),
            *("-e", f"state_dir={site / 'state'}", *options),
            PATH=f"{site}:{project_environment()['PATH']}",
            REFUSAL=refusal,
        )
    assert (done.returncode != 0) == bool(refusal or "/services" in left), done.stdout + done.stderr
    return done.stdout + done.stderr, asked


@pytest.mark.parametrize(("labels", "changed"), [({}, 0), ({"former": "1"}, 1)], ids=["as before", "changed"])
def test_a_stack_is_deployed_and_changes_what_differs(tmp_path: Path, labels: dict[str, str], changed: int) -> None:
    said, asked = deploy(tmp_path, labels=labels)
    file = str(tmp_path / "state/counter/stack.yml")
    assert asked == [
        ["stack", "deploy", "--resolve-image", "never", "--compose-file", file, "--prune", "counter"],
        *("/configs/c2", "/secrets/s1"),
    ]
    assert re.search(rf"changed={changed} ", said), said


@pytest.mark.parametrize("same", [True, False])
def test_an_update_to_the_same_ends_first(tmp_path: Path, *, same: bool) -> None:
    """Otherwise the engine could not return to what ran before it. Another update is replaced at once."""
    image = CONVERGED["service"]["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"]
    _, asked = deploy(tmp_path, "-e", "stack_timeout=120", labels={}, updating=image if same else "another")
    assert (asked[0] == "during the update") != same, asked


def test_an_engine_without_an_answer_is_asked_again(tmp_path: Path) -> None:
    """As while the managers elect a leader."""
    said, asked = deploy(tmp_path, "-e", "stack_timeout=120", labels={}, errors={"/nodes": 2})
    assert len(asked) == 3
    assert "failed=0" in said


def test_an_engine_without_an_answer_before_the_deployment_is_told(tmp_path: Path) -> None:
    said, asked = deploy(tmp_path, labels={}, errors={"/services": 1})
    assert "the engine does not answer: " in said
    assert asked == []


def test_what_cannot_be_removed_now_remains_until_the_next_deployment(tmp_path: Path) -> None:
    said, asked = deploy(tmp_path, labels={"former": "1"}, errors={"/secrets": 1})
    assert "Unused configs and secrets of counter remain until its next deployment: " in said
    assert asked[1:] == ["/configs/c2"]
    assert "failed=0" in said


def test_what_the_engine_refuses_is_told(tmp_path: Path) -> None:
    said, _ = deploy(tmp_path, labels={}, refusal="services.app.image must be a string")
    assert "the engine refuses the stack counter: services.app.image must be a string" in said


def test_a_check_deploys_nothing(tmp_path: Path) -> None:
    said, asked = deploy(tmp_path, "--check", labels={"former": "1"})
    assert (asked, "changed=0 " in said) == ([], True)
