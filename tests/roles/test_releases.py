"""The history of releases: what makes one, what a rollback returns to, which images stay, and how it is shown."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
import yaml
from engines import engine, serve
from jinja2 import Environment
from manager import Manager, recorded
from support.ansible import MANAGERS, ROOT, run, stand_in_for_the_engine
from support.json_result import json_result
from support.ports import closed_port

from plugins.callback.run_record import revision
from plugins.filter.releases import (
    HISTORY,
    age_of_packages,
    changed_settings,
    earlier_release,
    kept_releases,
    release_parts,
    running_release,
    unneeded_images,
    with_edge,
    with_release,
)

REVISION = "0123456789abcdef0123456789abcdef01234567"
RESTORED = ["app_threads", "edge_max_requests"]


def document(
    app: str = "a", *, redis: str = "r", edge: str = "e", replicas: int = 4, verdict: str = "serving", **settings: Any
) -> Any:
    """Return what a deployment records, of an app whose image has this name."""
    images = {"app": f"counter-app:{app}", "edge": f"counter-edge:{edge}", "redis": f"counter-redis:{redis}"}
    return {
        "format": 2,
        "version": "1.0.0",
        "settings": {"app_threads": 32, "edge_max_requests": 64, "http_port": 80, "keep_releases": 2} | settings,
        "endpoint": {"secrets": {"redis_password": "0123456789ab"}},
        "images": images,
        "addresses": ["192.0.2.11"],
        "replicas": replicas,
        "ids": {name: f"sha256:{name}" for name in images.values()},
        "verb": "deploy",
        "rollback_to": 0,
        "verdict": verdict,
        "time": "2026-11-26T07:20:31Z",
        "seconds": 45,
        "who": "admin@laptop",
        "revision": REVISION,
        "dirty": False,
    }


def history(*documents: Any) -> list[Any]:
    found: list[Any] = []
    for each in documents:
        found = with_release(found, each)
    return found


def test_packages_are_as_old_as_the_first_release_with_their_revision() -> None:
    found = history(
        document(image_revision="1") | {"time": "2026-10-01T00:00:00Z"},
        document("b", image_revision="2") | {"time": "2026-10-10T00:00:00Z"},
        document("c", image_revision="2") | {"time": "2026-10-20T00:00:00Z"},
    )
    now = datetime.fromisoformat("2026-10-30T12:00:00Z").timestamp()
    assert [age_of_packages(found, revision, now) for revision in ("1", "2", "3")] == [29, 20, 0]


# -- What makes a release


def test_another_configuration_of_the_edge_may_be_no_release() -> None:
    before = history(document() | {"edge": "a"}, document("b") | {"edge": "b"})
    renewed = with_edge(before, "c")
    assert [release["edge"] for release in renewed] == ["a", "c"]
    assert with_release(renewed, document("b") | {"edge": "c"}) == renewed
    assert with_edge([], "c") == []


def test_what_changes_nothing_is_no_release() -> None:
    later = document() | {"time": "2026-11-27T00:00:00Z", "seconds": 9, "who": "ci@runner", "revision": "fedc"}
    assert history(document(), later) == history(document())


@pytest.mark.parametrize(
    "changed",
    [
        document("b"),
        document(redis="s"),
        document(replicas=6),
        document(http_port=8080),
        document() | {"version": "1.1.0"},
        document() | {"addresses": ["192.0.2.11", "192.0.2.12"]},
        document() | {"endpoint": {"secrets": {"redis_password": "ba9876543210"}}},
    ],
    ids=["image", "other image", "replicas", "setting", "version", "node", "password"],
)
def test_what_changes_something_is_one(changed: Any) -> None:
    assert [release["number"] for release in history(document(), changed)] == [1, 2]


def test_a_stack_that_was_removed_is_deployed_anew() -> None:
    assert len(with_release(history(document()), document(), anew=True)) == 2


def test_a_version_that_swarm_rolled_back_does_not_run() -> None:
    found = history(document(), document("b", verdict="rolled back"))
    assert [release["verdict"] for release in found] == ["serving", "rolled back"]
    assert running_release(found)["number"] == 1
    # Again the same: it was tried again. What ran before runs on, and deploying that is no change.
    assert len(with_release(found, document("b", verdict="rolled back"))) == 3
    assert with_release(found, document()) == found


def test_a_release_whose_check_failed_serves_when_the_next_run_says_so() -> None:
    found = history(document(), document("b", verdict="unproven"))
    assert running_release(found)["number"] == 2
    healed = with_release(found, document("b"))
    assert [(release["number"], release["verdict"]) for release in healed] == [(1, "serving"), (2, "serving")]
    # A check that fails later is no change.
    assert with_release(healed, document("b", verdict="unproven")) == healed


def test_ids_of_images_are_known_from_before() -> None:
    found = history(document(), document(replicas=6) | {"ids": {}})
    assert found[1]["ids"] == found[0]["ids"]
    rebuilt = with_release(found, document(replicas=2) | {"ids": {"counter-app:a": "sha256:new"}})
    assert rebuilt[2]["ids"]["counter-app:a"] == "sha256:new"


def test_only_a_deployment_takes_the_app_from_the_checkout() -> None:
    elsewhere = {"revision": "fedc", "dirty": True}
    found = history(document(), document("b") | elsewhere, document() | elsewhere | {"verb": "rollback"})
    assert [release["revision"][:4] for release in found] == ["0123", "fedc", "0123"]
    assert [release["dirty"] for release in found] == [False, True, False]


def test_a_history_is_bounded_and_goes_on_counting() -> None:
    found = history(*(document(str(number)) for number in range(HISTORY + 3)))
    assert (len(found), found[0]["number"], found[-1]["number"]) == (HISTORY, 4, HISTORY + 3)


def test_the_running_release_stays_in_a_history_of_failures() -> None:
    found = history(document("runs"), *(document(str(number), verdict="failed") for number in range(HISTORY + 3)))
    assert len(found) == HISTORY
    assert running_release(found) == found[0]
    assert found[0]["number"] == 1


# -- What a rollback returns to, and what stays for it


def earlier(found: list[Any]) -> int:
    return int(earlier_release(found, RESTORED).get("number", 0))


def test_a_rollback_returns_to_the_last_release_that_differs() -> None:
    assert earlier([]) == 0
    assert earlier(history(document())) == 0
    assert earlier(history(document(), document("b"))) == 1
    assert earlier(history(document(), document(app_threads=16))) == 1
    # The number of replicas, other images and other settings are not what it restores.
    assert earlier(history(document(), document(replicas=6), document(redis="s"), document(http_port=8080))) == 0
    assert earlier(history(document(), document(edge="f"))) == 0
    assert earlier(history(document(), document("b"), document("b", replicas=6))) == 1
    # Neither does it return to what never served.
    assert earlier(history(document(), document("b", verdict="rolled back"), document("c"))) == 1
    # Twice: back again.
    assert earlier(history(document(), document("b"), document())) == 2
    # Unless the first time did not end well.
    back = {"verb": "rollback", "rollback_to": 1}
    assert earlier(history(document(), document("b"), document(verdict="unproven") | back)) == 1
    assert earlier(history(document(), document("b"), document() | back)) == 2
    scaled = {"verb": "scale", "rollback_to": 1}
    assert (
        earlier(history(document(), document("b"), document(), document(replicas=6, verdict="unproven") | scaled)) == 2
    )


def test_images_stay_for_as_many_releases_as_a_rollback_can_tell_apart() -> None:
    found = history(
        document(), document("b"), document("c"), document("c", replicas=6), document("d", verdict="failed")
    )
    assert [release["number"] for release in kept_releases(found, RESTORED)] == [4, 3, 2]
    assert unneeded_images(found, [], [], RESTORED) == ["counter-app:a", "counter-app:d"]
    fewer = with_release(found, document("c", keep_releases=1))
    assert unneeded_images(fewer, [], [], RESTORED) == ["counter-app:a", "counter-app:b", "counter-app:d"]


def test_an_image_that_something_else_needs_stays() -> None:
    found = history(document(redis="old"), document("b"), document("c"), document("d"))
    assert unneeded_images(found, [], [], RESTORED) == ["counter-app:a", "counter-app:b", "counter-redis:old"]
    other = history(document(), document("x"))
    used = ["counter-app:b@sha256:0123", "nginx:latest"]
    assert unneeded_images(found, [other], used, RESTORED) == ["counter-redis:old"]


# -- How it is shown


def shown(template: str, releases: list[Any], **variables: Any) -> list[str]:
    """Return the lines of a template of the role."""
    jinja = Environment(trim_blocks=True, keep_trailing_newline=True)  # noqa: S701  # plain text
    jinja.filters |= {"kept_releases": kept_releases, "release_parts": release_parts}
    text = (ROOT / "roles/releases/templates" / template).read_text(encoding="utf-8")
    known = {"deployed": {"releases": releases}, "settings_restored": RESTORED, "stack_option": ""}
    return jinja.from_string(text).render(**known, release_running=running_release(releases), **variables).splitlines()


def table(releases: list[Any]) -> list[dict[str, str]]:
    """Return the rows of the table of releases."""
    lines = shown("releases.txt.j2", releases)
    begins = [match.start() for match in re.finditer(r"APP IMAGE|TIME \(UTC\)|\S+", lines[0])]
    rows = [
        [line[begin:end].strip() for begin, end in zip_longest(begins, begins[1:])] for line in lines[: lines.index("")]
    ]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def test_the_table_marks_what_runs_and_what_is_kept() -> None:
    back = document() | {"verb": "rollback", "rollback_to": 1}
    rows = table(history(document() | {"dirty": True}, document("b"), document("c"), back))
    assert [row["RELEASE"] for row in rows] == ["1", "2", "3", "* 4"]
    assert [row["KEPT"] for row in rows] == ["yes", "no", "yes", "yes"]
    assert rows[3] | {"RELEASE": "", "KEPT": ""} == {
        "RELEASE": "",
        "TIME (UTC)": "2026-11-26 07:20",
        "WHO": "admin@laptop",
        "VERB": "rollback to 1",
        "VERSION": "1.0.0",
        "REVISION": "0123456+",
        "APP IMAGE": "a",
        "REPLICAS": "4",
        "KEPT": "",
        "VERDICT": "serving",
    }


def test_a_release_is_kept_if_its_images_are() -> None:
    found = history(*(document(app_threads=threads) for threads in (1, 2, 3)), document(verdict="rolled back"))
    assert [row["KEPT"] for row in table(found)] == ["yes", "yes", "yes", "no"]


def test_differences_are_named() -> None:
    found = history(document(), document("b", replicas=6, app_threads=16))
    lines = shown("release.txt.j2", found, __releases_asked=found[0])
    assert [line.split() for line in lines[lines.index("Differs from release 2, which runs:") + 3 :]] == [
        [*"image app counter-app:a sha256:counter-app: counter-app:b sha256:counter-app:".split()],
        ["replicas", "4", "6"],
        ["setting", "app_threads", "32", "16"],
    ]


def test_settings_of_the_inventory_that_do_not_run_are_named() -> None:
    given = {"app_threads": 32, "edge_max_requests": 64}
    assert changed_settings(given, {"app_threads": 16, "edge_max_requests": 64}, RESTORED) == [
        "app_threads=32 (now 16)"
    ]
    assert changed_settings(given, {"edge_max_requests": 64}, RESTORED) == []


# -- The first manager


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Manager:
    """Return a manager that deployed twice the same, and then with other settings."""
    deployed = recorded(tmp_path_factory, "releases", {}, {}, {"app_threads": 16, "http_port": 8080})
    return Manager(tmp_path_factory.mktemp("site"), deployed)


def releases(state: Path) -> list[Any]:
    found: list[Any] = json.loads((state / "releases.json").read_text())["releases"]
    return found


def test_a_deployment_is_recorded_once_and_without_secrets(manager: Manager) -> None:
    first, second = releases(manager.state)
    assert (first["number"], first["verdict"], first["verb"], first["replicas"]) == (1, "serving", "deploy", 4)
    assert first["images"]["app"] == "counter-app:0123456789ab"
    assert re.fullmatch(r".+@.+", first["who"])
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", first["time"])
    assert (first["settings"]["app_threads"], second["settings"]["app_threads"]) == (32, 16)
    assert '"secret"' not in (manager.state / "releases.json").read_text()


@pytest.mark.parametrize(
    ("options", "said"), [({}, True), ({"image_max_age": 0}, False), ({"image_revision": 2}, False)]
)
def test_old_packages_of_the_images_are_reported(
    manager: Manager, tmp_path: Path, options: dict[str, Any], *, said: bool
) -> None:
    state = shutil.copytree(manager.state, tmp_path / "state")
    old = f"{datetime.now(UTC) - timedelta(days=61, hours=1):%Y-%m-%dT%H:%M:%SZ}"
    of_old = [release | {"time": old} for release in releases(state)]
    (state / "releases.json").write_text(json.dumps({"format": 1, "releases": of_old}))
    done = manager.play("record", options, state)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("NOTE: the packages in the images are 61 days old (image_max_age=60)." in done.stdout) is said


def test_deployments_and_releases_are_described_as_json(manager: Manager, tmp_path: Path) -> None:
    state = shutil.copytree(manager.state, tmp_path / "state")
    found = json_result(manager.play("record", {"json": True, "replicas": 2}, state))
    # The test playbook has no verb.
    assert (found["verb"], found["result"], found["release"], found["replicas"]) == ("", "done", 3, 2)
    assert found["address"] == "http://192.0.2.11/"
    found = json_result(manager.play("releases", {"json": True}, state))
    assert (found["verb"], found["result"], found["running"]) == ("releases", "done", 3)
    assert [release["number"] for release in found["releases"]] == [1, 2, 3]
    found = json_result(manager.play("releases", {"json": True, "release": 2}, state))
    assert [release["number"] for release in found["releases"]] == [2]


def test_a_rollback_restores_settings_of_the_app_and_leaves_the_rest(manager: Manager, tmp_path: Path) -> None:
    state = shutil.copytree(manager.state, tmp_path / "state")
    done = manager.play("rollback", {}, state, "rollback")
    assert done.returncode == 0, done.stdout + done.stderr
    last = releases(state)[-1]
    assert (last["number"], last["verb"], last["rollback_to"], last["verdict"]) == (3, "rollback", 1, "serving")
    assert (last["settings"]["app_threads"], last["settings"]["http_port"]) == (32, 8080)
    assert json.loads((state / "deployed.json").read_text())["settings"] == last["settings"]
    assert 'COUNTER_THREADS: "32"' in (state / "counter/stack.yml").read_text()
    # Only a deployment ends it.
    for verb, expected in (("scale", 1), ("deploy", 0)):
        done = manager.play("record", {"replicas": 6 + expected}, state, verb)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (releases(state)[-1]["verb"], releases(state)[-1]["rollback_to"]) == (verb, expected)


@pytest.mark.parametrize(
    ("release", "said"),
    [
        (99, "release=99: must be a release in the history of counter, which has the releases 1 to 2"),
        (2, "release=2: this release runs already; nothing was changed"),
    ],
)
def test_a_release_that_cannot_be_returned_to_is_refused(
    manager: Manager, tmp_path: Path, release: int, said: str
) -> None:
    state = shutil.copytree(manager.state, tmp_path / "state")
    done = manager.play("rollback", {"release": release}, state)
    assert done.returncode != 0
    assert said in re.sub(r"\s+", " ", done.stdout)
    assert releases(state) == releases(manager.state)


@pytest.mark.parametrize(
    ("stored", "verdict", "number"),
    [
        ("counter-app:new", "", 2),
        ("counter-app:new", "failed", 2),
        # Swarm has returned to what ran before.
        ("counter-app:new", "rolled back", 1),
        # A rollback to it was interrupted.
        ("counter-app:former", "", 1),
    ],
)
def test_a_rollback_after_an_interruption(
    manager: Manager, tmp_path: Path, stored: str, verdict: str, number: int
) -> None:
    """Release 2 is recorded as running. ``number``: the release to which it returns."""
    state = shutil.copytree(manager.state, tmp_path / "state")
    found = releases(state)
    found[0]["images"]["app"] = "counter-app:former"
    if verdict:
        found.append(found[1] | {"number": 3, "verdict": verdict, "images": found[1]["images"] | {"app": stored}})
    (state / "releases.json").write_text(json.dumps({"format": 1, "releases": found}))
    stack = state / "counter/stack.yml"
    before = stack.read_text()
    stack.write_text(before.replace(found[1]["images"]["app"], stored))
    done = manager.play("rollback", {}, state, "rollback")
    assert done.returncode == 0, done.stdout
    assert found[number - 1]["images"]["app"] in stack.read_text()
    # What is recorded as running is not recorded again.
    assert [release["rollback_to"] for release in releases(state)[len(found) :]] == ([1] if number == 1 else [])


def test_without_a_release_that_ran_there_is_none_before_it(manager: Manager, tmp_path: Path) -> None:
    """The first deployment was interrupted while every replica was to count."""
    state = shutil.copytree(manager.state, tmp_path / "state")
    (state / "releases.json").unlink()
    done = manager.play("rollback", {}, state, "rollback")
    assert done.returncode != 0
    assert "counter has no earlier release" in re.sub(r"\s+", " ", done.stdout)


def test_a_rollback_that_was_interrupted_when_it_served_is_not_undone(manager: Manager, tmp_path: Path) -> None:
    state = shutil.copytree(manager.state, tmp_path / "state")
    assert manager.play("rollback", {}, state, "rollback").returncode == 0
    served = releases(state)
    lock = {"held": True, "lock": {"verb": "rollback", "since": served[-1]["time"]}}
    done = manager.play("rollback", {"run_lock": lock}, state, "rollback")
    assert done.returncode != 0
    said = re.sub(r"\s+", " ", done.stdout)
    assert "The last ./counter rollback was interrupted after its result, release 3, had begun to serve" in said
    assert "./counter rollback -e release=2" in said
    assert releases(state) == served


# The filter decides it, and `test_without_a_release_that_ran_there_is_none_before_it` shows the refusal.
@pytest.mark.slow
def test_a_first_release_has_none_before_it(tmp_path: Path) -> None:
    manager = Manager(tmp_path)
    assert manager.play("record", {}).returncode == 0
    done = manager.play("rollback", {})
    assert done.returncode != 0
    assert "counter has no earlier release that served another image" in re.sub(r"\s+", " ", done.stdout)


# -- The nodes


def bring(site: Path, *images: str, **others: Any) -> str:
    """Bring the images of a release to the nodes, of which one has these images and one is down; return the output."""
    listed = {"/images/json": [{"Id": f"sha256:{name}", "RepoTags": [name]} for name in images]}
    with serve(site, "one", engine("one", manager=True) | listed), closed_port() as port:
        down = {"ansible_host": "127.0.0.1", "ansible_port": port}
        facts = {
            "desired": {"image_distribution": "load", "keep_releases": 5},
            "images": document()["images"],
            "releases_chosen": document() | {"number": 3} | others,
        }
        here = {"ansible_connection": "local", "ansible_python_interpreter": str(site / "one.python")}
        hosts = {"one": here | facts, "down": down | facts}
        here_too = {"hosts": {"control_machine": {"ansible_connection": "local"}}}
        (site / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": hosts}, "others": here_too}))
        read = {
            "ansible.builtin.import_role": {"name": "deployed", "tasks_from": "read"},
            "vars": {"deployed_skips_unreachable": True},
        }
        again = {"ansible.builtin.import_role": {"name": "images", "tasks_from": "again"}}
        play = {"hosts": MANAGERS, "gather_facts": False, "roles": ["settings"]}
        goes_on = {"ansible.builtin.debug": {"msg": "goes on at {{ ansible_play_hosts | join(' and ') }}"}}
        (site / "play.yml").write_text(yaml.safe_dump([play | {"tasks": [read, again, goes_on]}]))
        done = run(
            *("ansible-playbook", "-i", site / "hosts.yml", site / "play.yml"),
            ANSIBLE_ROLES_PATH=str(ROOT / "roles"),
            **stand_in_for_the_engine(site),
        )
    return re.sub(r"\s+", " ", done.stdout + done.stderr)


def test_a_rollback_goes_on_without_a_node_that_is_down(tmp_path: Path) -> None:
    said = bring(tmp_path, "counter-app:a", "counter-edge:e", "counter-redis:r")
    assert "WARNING: This run goes on without down; " in said
    assert re.search(r"down \(127.0.0.1\) cannot be reached: .*Connection refused\. Check whether", said), said
    assert "goes on at one" in said
    assert "built again" not in said


def test_an_image_that_was_built_again_is_not_called_the_same(tmp_path: Path) -> None:
    said = bring(tmp_path, "counter-app:a", "counter-edge:e", ids={"counter-app:a": "x", "counter-edge:e": "y"})
    assert "counter-app:a was built again since release 3" in said


def test_images_that_cannot_be_built_again_are_named(tmp_path: Path) -> None:
    said = bring(tmp_path, "counter-edge:e", dirty=True)
    assert "No node that answers has the images of release 3 any more (counter-app:a)" in said
    assert f"had changes that git does not have. This deploys without them: git checkout {REVISION} && " in said
    assert "goes on at" not in said


def test_images_of_a_revision_that_the_checkout_lacks_are_refused(tmp_path: Path) -> None:
    said = bring(tmp_path, "counter-edge:e")
    assert f"this checkout has no revision {REVISION}. This may fetch it: git fetch" in said
    assert "goes on at" not in said


# -- Where it comes from


def test_a_revision_is_a_commit_and_no_option_of_git(tmp_path: Path) -> None:
    """A first manager that was taken over could name any file of the control machine."""
    file = tmp_path / "precious"
    file.write_text("kept")
    said = bring(tmp_path, "counter-edge:e", revision=f"--output={file}")
    assert "the revision of their source is not known" in said
    assert file.read_text() == "kept"


def test_a_release_knows_its_revision_and_whether_the_checkout_had_changes(tmp_path: Path) -> None:
    assert revision(tmp_path) == {"revision": "", "dirty": False}
    commands = (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-q", "--allow-empty", "-m", "a"],
    )
    for command in commands:
        subprocess.run(["git", "-C", tmp_path, *command], check=True)
    clean = revision(tmp_path)
    assert re.fullmatch(r"[0-9a-f]{40}", clean["revision"])
    assert not clean["dirty"]
    # A user's own, and what a green run of a scenario writes.
    for name in ("inventory/cluster.yml", "hooks/after-deploy", "molecule/runs.json", "docs/tested.md", "tests/a.py"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    assert revision(tmp_path) == clean
    # Git cannot tell whether there are changes.
    (index := tmp_path / ".git/index").write_text("damaged")
    assert revision(tmp_path) == clean | {"dirty": True}
    index.unlink()
    assert revision(tmp_path) == clean
    (tmp_path / "new.py").touch()
    assert revision(tmp_path) == clean | {"dirty": True}
