"""Ansible as users run it, for tests of what it renders, refuses and lists."""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOKS = ROOT / "tests/roles/playbooks"

MANAGERS = "{{ 'managers' | string }}"
"""The hosts of a play. With a filter in it, Ansible loads all filters once, instead of in the process of each task."""

TIMEOUT_SECONDS = 900
"""Ends only a run that hangs: the slowest one took 147 s beside three others, and machines can be 2.6 times slower."""


def project_environment(**more: str) -> dict[str, str]:
    """Return the environment without settings of Ansible's but the project's own."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    clean["PATH"] = f"{Path(sys.executable).parent}:{clean['PATH']}"
    own = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    return clean | own | more


def run(*command: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, in the root of the project; the caller looks at how it ended."""
    with _noted():
        return subprocess.run(
            [str(part) for part in command],
            cwd=ROOT,
            env=project_environment(**environ),
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_SECONDS,
        )


def fake(directory: Path, program: str) -> None:
    """Put a file of ``tests/support/fakes`` in a directory of programs, in the place of the machine's."""
    shutil.copy(ROOT / "tests/support/fakes" / program, directory)


class Ansible:
    """An inventory in a directory of its own, and runs of Ansible with it, as users start them."""

    def __init__(self, site: Path) -> None:
        """Take the directory."""
        self.inventory = site / "hosts.yml"

    def hosts(self, managers: Mapping[str, Any], **every: Any) -> None:
        """Write the inventory, of this machine under several names: host -> its variables; ``every``: those of all."""
        everywhere = {"ansible_connection": "local"} | every
        groups = {"vars": everywhere, "children": {"managers": {"hosts": {**managers}}}}
        self.inventory.write_text(yaml.safe_dump({"all": groups}))

    def run(self, playbook: Path | str, *options: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a playbook."""
        return run("ansible-playbook", "-i", self.inventory, playbook, *options, **environ)

    def results(self, playbook: Path | str, *options: str) -> dict[str, dict[str, Any]]:
        """Run a playbook; return the result of its last task for each host."""
        return results_by_host(Path(playbook), self.inventory, *options)


def run_alone(
    site: Path, role: str, inventory: Path, *options: str, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run a role in a play without another one, without the project's plugins, as in a project of somebody else's."""
    (site / "roles").mkdir()
    (site / "roles" / role).symlink_to(ROOT / "roles" / role)
    (site / "ansible.cfg").write_text("")
    (site / "alone.yml").write_text(f"- hosts: all\n  roles: [{role}]\n")
    environ |= {"ANSIBLE_CONFIG": str(site / "ansible.cfg"), "ANSIBLE_ROLES_PATH": str(site / "roles")}
    return run("ansible-playbook", "-i", inventory, site / "alone.yml", *options, **environ)


@contextmanager
def _noted() -> Iterator[None]:
    """Write the processor time of a run and the test to the file that ``tests/run`` names."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    yield
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if runs := os.environ.get("ANSIBLE_RUNS"):
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        with Path(runs).open("a", encoding="utf-8") as file:
            print(f"{seconds:.2f} {os.environ.get('PYTEST_CURRENT_TEST')}", file=file)


def load(path: str) -> Any:
    """Return a file of the project that Ansible loads as a module of Python."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def play(*tasks: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a playbook whose tasks know the settings of the managers."""
    settings = {"ansible.builtin.import_role": {"name": "preflight", "tasks_from": "settings"}}
    return [{"hosts": MANAGERS, "roles": ["settings"], "tasks": [settings, *tasks]}]


def results_by_host(playbook: Path, inventory: Path, *options: str, **environ: str) -> dict[str, dict[str, Any]]:
    """Run a playbook; return the result of its last task for each host."""
    environ |= {"ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"}
    done = run("ansible-playbook", "-i", inventory, *options, playbook, **environ)
    assert done.returncode == 0, done.stdout + done.stderr
    return last_task(done)


def last_task(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    """Return the result of the last task for each host, of a run with the callback ``ansible.posix.json``."""
    document = json.loads(done.stdout[done.stdout.index("{\n") :])
    hosts: dict[str, dict[str, Any]] = document["plays"][-1]["tasks"][-1]["hosts"]
    return hosts


def render(site: Path, combinations: dict[str, dict[str, Any]], *wanted: str) -> dict[str, dict[str, str]]:
    """Return, for each combination of settings, the texts of the wanted templates, or of all, by name.

    ``site`` is a directory. The hosts have Debian 13's engine unless a combination has another.
    """
    ansible = Ansible(site)
    ansible.hosts(combinations, docker_host_engine={"host_info": {"ServerVersion": "26.1.5"}})
    return {
        host: {Path(item["item"]).stem: item["msg"] for item in result["results"]}
        for host, result in ansible.results(PLAYBOOKS / "render.yml", "-e", json.dumps({"wanted": wanted})).items()
    }


STAND_IN = """
import json, os, sys
from ansible.module_utils.basic import AnsibleModule
with open(os.environ["CALLS"], "a") as calls:
    print("{name}", file=calls)
if "{name}" == os.environ["BROKEN"]:
    sys.exit("broken off")
print(json.dumps({answer!r}))
sys.exit(0)
"""


def stand_in_for_the_engine(site: Path, **answers: dict[str, Any]) -> dict[str, str]:
    """Put modules in the place of community.docker's, each with its answer; return the environment that finds them.

    Each writes its name into ``CALLS``; that in ``BROKEN`` ends as if the run was broken off there.
    """
    modules = site / "collections/ansible_collections/community/docker/plugins/modules"
    modules.mkdir(parents=True)
    for name, answer in answers.items():
        (modules / f"{name}.py").write_text(STAND_IN.format(name=name, answer={"changed": False} | answer))
    return {
        "ANSIBLE_COLLECTIONS_PATH": str(site / "collections"),
        "DOCKER_HOST": "tcp://127.0.0.1:1",  # the machine's own engine is never asked
        "CALLS": str(site / "calls"),
        "BROKEN": "",
    }
