"""What a new image_revision takes anew, what is left as it is without one, and what an image holds of a checkout."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.ansible import ROOT, play, project_environment, results_by_host, run, stand_in_for_the_engine

from plugins.filter.images import image_names

BASE = "debian:trixie-slim"
PLAY = play(
    {"ansible.builtin.include_role": {"name": "images", "tasks_from": "base", "public": True}},
    {"ansible.builtin.debug": {"msg": "{{ images_base_used }}"}},
)


def choose(site: Path, there: list[str], **options: Any) -> tuple[str, list[str]]:
    """Choose a base where these images are there; return its name, and what was asked of the engine."""
    engine = stand_in_for_the_engine(site, docker_image_pull={"image": {"Id": "sha256:1"}})
    docker = site / "bin/docker"
    docker.parent.mkdir()
    docker.write_text('#!/bin/sh\necho "$*: $(cat)" >> "$CALLS"\n')
    docker.chmod(0o755)
    # What the engine was asked for before.
    images = [{"Id": f"sha256:{number}", "RepoTags": [name]} for number, name in enumerate(there)]
    host = {"ansible_connection": "local", "docker_host_engine": {"images": images}}
    (site / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": {"host": host}}}))
    (site / "play.yml").write_text(yaml.safe_dump(PLAY))
    environ = engine | {
        "ANSIBLE_ROLES_PATH": str(ROOT / "roles"),
        "PATH": f"{docker.parent}:{project_environment()['PATH']}",
    }
    found = results_by_host(site / "play.yml", site / "hosts.yml", "-e", json.dumps(options), **environ)
    name = found["host"]["msg"]
    calls = site / "calls"
    return name, calls.read_text().splitlines() if calls.exists() else []


def test_the_first_revision_takes_the_base_that_is_there(tmp_path: Path) -> None:
    assert choose(tmp_path, [BASE]) == (BASE, [])


def test_another_revision_takes_the_base_anew_and_once(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    name, calls = choose(first, [BASE], image_revision=2)
    assert re.fullmatch(r"counter-base:[0-9a-f]{12}-2", name)
    build = f"build --quiet --label counter-deploy=base --tag {name} -: FROM {BASE}"
    assert calls == ["docker_image_pull", build]
    assert choose(second, [BASE, name], image_revision=2) == (name, [])


@pytest.mark.parametrize("pinned", [f"{BASE}@sha256:{'0' * 64}", f"docker.io/library/{BASE}"])
def test_a_base_that_the_engine_lists_by_another_name_is_pulled_once(tmp_path: Path, pinned: str) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    name, calls = choose(first, [], base_image_name=pinned)
    assert calls == ["docker_image_pull", f"build --quiet --label counter-deploy=base --tag {name} -: FROM {pinned}"]
    assert choose(second, [name], base_image_name=pinned) == (name, [])


TARGETS = yaml.safe_load((ROOT / "roles/images/vars/main/images.yml").read_text())["__images_targets"]
"""What each image is made of."""
STAGES: list[tuple[str, str, str]] = re.findall(
    r"^FROM (\S+) AS (\S+)\n(.*?)(?=^FROM |\Z)", (ROOT / "Dockerfile").read_text(), re.DOTALL | re.MULTILINE
)
"""Source, name and text of each stage of the Dockerfile."""


def test_what_a_stage_copies_is_part_of_the_names_of_its_images() -> None:
    stages = {name: text for _, name, text in STAGES}
    for image, target in TARGETS.items():
        copied = re.findall(
            r"^COPY (?:--chmod\S+ )?(?!--)(\S+)", "".join(stages[name] for name in target["stages"]), re.MULTILINE
        )
        named = {path for path in copied for name in target["copy"] if f"{path}/".startswith(f"{name}/")}
        assert set(copied) == named, image


@pytest.mark.parametrize(
    ("path", "added", "renamed"),
    [
        ("app/counter/__pycache__/views.cpython-313.pyc", "compiled anew", set()),
        ("app/hotpath/compare.py", "# not in an image\n", set()),
        ("app/counter/views.py", "# changed\n", {"app", "backup"}),
        ("app/counter/static/icon.png", "changed", {"app", "backup"}),
        ("app/requirements.txt", "# changed\n", {"app", "backup"}),
        ("redis_node/added.py", "# new\n", {"redis-node"}),
        ("redis_node/hold-volume", "# changed\n", {"redis", "redis-node"}),
        ("backup/requirements.txt", "# changed\n", {"backup"}),
        ("keeper/requirements.txt", "# changed\n", {"keeper"}),
        ("Dockerfile", "# the end of the last stage\n", {"registry"}),
    ],
)
def test_what_an_image_is_made_of_renames_it(tmp_path: Path, path: str, added: str, renamed: set[str]) -> None:
    ignored = shutil.ignore_patterns("*_cache")
    for name in ("app", "backup", "keeper", "redis_node"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    shutil.copy(ROOT / "Dockerfile", tmp_path)

    def names(*arguments: object) -> dict[str, str]:
        return image_names(TARGETS, TARGETS, str(tmp_path), arguments, "registry/counter-")

    before = names(BASE, 1)
    assert re.fullmatch(r"registry/counter-app:[0-9a-f]{12}", before["app"])
    file = tmp_path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab") as end:
        end.write(added.encode() + b"\xff" * (file.suffix in (".pyc", ".png")))
    assert {image for image, name in names(BASE, 1).items() if name != before[image]} == renamed
    # Everything is installed anew.
    assert not set(names(BASE, 2).values()) & set(before.values())


@pytest.mark.parametrize(
    ("old", "new", "renamed"),
    [
        ("FROM ${BASE} AS edge", "FROM debian:bookworm-slim AS edge", {"edge"}),
        ("ARG BASE=debian:trixie-slim", "ARG BASE=debian:bookworm-slim", {*TARGETS}),
        ("# The images of the project", "# All images of the project", set()),
    ],
)
def test_what_a_stage_is_made_from_renames_its_images(tmp_path: Path, old: str, new: str, renamed: set[str]) -> None:
    targets = {image: target | {"copy": []} for image, target in TARGETS.items()}
    text = (ROOT / "Dockerfile").read_text()
    assert old in text

    def names(dockerfile: str) -> dict[str, str]:
        (tmp_path / "Dockerfile").write_text(dockerfile)
        return image_names(targets, targets, str(tmp_path), [], "counter-")

    before = names(text)
    assert {image for image, name in names(text.replace(old, new)).items() if name != before[image]} == renamed


def test_a_directory_for_the_archive_keeps_what_others_may_do_there(tmp_path: Path) -> None:
    shared, private, new = (tmp_path / name for name in ("shared", "private", "new"))
    shared.mkdir()
    shared.chmod(0o1777)
    private.mkdir(0o700)
    [create, *_] = yaml.safe_load((ROOT / "roles/images/tasks/load.yml").read_text())
    hosts = {
        path.name: {"ansible_connection": "local", "images_transit_dir": str(path)} for path in (shared, private, new)
    }
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": hosts}}))
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "managers", "tasks": [create]}]))
    results_by_host(tmp_path / "play.yml", tmp_path / "hosts.yml")
    assert oct(shared.stat().st_mode & 0o7777) == "0o1777"
    # The login user reads the archive.
    assert oct(private.stat().st_mode & 0o7777) == "0o711"
    assert new.stat().st_mode & 0o011 == 0o011


def test_an_archive_that_did_not_fit_on_the_disk_does_not_stay_there(tmp_path: Path) -> None:
    engine = stand_in_for_the_engine(tmp_path, docker_image_export={}, docker_image_load={})
    host = {"ansible_connection": "local", "images_transit_dir": str(tmp_path), "images": {}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": {"host": host}}}))
    load = {"ansible.builtin.import_role": {"name": "images", "tasks_from": "load"}}
    control = {"ansible.builtin.add_host": {"name": "control_machine", "ansible_connection": "local"}}
    (tmp_path / "play.yml").write_text(yaml.safe_dump(play(control, load)))
    (tmp_path / "counter.tar").write_text("as much as there was room for")
    engine |= {"BROKEN": "docker_image_export", "ANSIBLE_ROLES_PATH": str(ROOT / "roles")}
    done = run("ansible-playbook", "-i", tmp_path / "hosts.yml", tmp_path / "play.yml", **engine)
    assert "broken off" in done.stdout
    assert not (tmp_path / "counter.tar").exists()


@pytest.mark.skipif(not shutil.which("gpg"), reason="no gpg here")
def test_the_keys_of_debian_are_those_with_the_fingerprints_that_are_documented() -> None:
    told = (ROOT / "roles/images/tasks/base_start.yml").read_text()
    keyring = str(ROOT / "roles/images/files/trixie.gpg")
    done = subprocess.run(["gpg", "--show-keys", "--with-colons", keyring], capture_output=True, text=True, check=True)
    keys = re.findall(r"^pub:.*?^fpr:+(\w+):", done.stdout, re.DOTALL | re.MULTILINE)
    assert keys == re.findall(r"\b[0-9A-F]{40}\b", told)


def test_every_package_is_installed_after_the_revision_is_known() -> None:
    on_the_base = [text for source, _, text in STAGES if source == "${BASE}"]
    assert len(on_the_base) == 3
    for text in on_the_base:
        assert "ARG REVISION" in text.partition("RUN")[0]


def test_only_the_images_that_read_the_state_directory_run_as_root() -> None:
    users: dict[str, str] = {}
    for source, stage, lines in STAGES:
        users[stage] = [users.get(source, "root"), *re.findall(r"^USER (\S+)", lines, re.MULTILINE)][-1]
    assert {target for target in TARGETS if users[target] == "root"} == {"backup", "keeper"}


def test_the_users_of_the_images_can_read_what_only_its_owner_can_read_in_the_checkout(tmp_path: Path) -> None:
    text = (ROOT / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (app/counter|redis_node) (\S+)\n(?:#.*\n)*RUN ((?:.*\\\n)*.*)$", text, re.MULTILINE)
    assert [source for source, *_ in copied] == ["app/counter", "redis_node"]
    for source, destination, command in copied:
        image = tmp_path / source
        shutil.copytree(ROOT / source, (place := image / destination[1:]), ignore=shutil.ignore_patterns("__pycache__"))
        for path in [place, *place.rglob("*")]:
            path.chmod(0o700 if path.is_dir() else 0o600)
        subprocess.run(["sh", "-c", command.replace("/opt", f"{image}/opt")], check=True)
        for path in [place, *place.rglob("*")]:
            needed = 0o055 if path.is_dir() else 0o044
            assert path.stat().st_mode & needed == needed, path
        assert list(place.rglob("*.pyc"))


def test_what_images_copy_is_in_the_context_of_their_builds() -> None:
    _, *allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = {path for target in TARGETS.values() for path in target["copy"]}
    assert [path for path in sorted(copied) if not path.startswith(tuple(one[1:] for one in allowed))] == []
