"""The first manager of a stack, in a directory: what deploy records there, and what the other verbs use of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import yaml
from support.ansible import PLAYBOOKS, ROOT, last_task, run
from support.workers import made_once


class Manager:
    """The first manager, in a directory."""

    def __init__(self, site: Path, state: Path | None = None) -> None:
        """Take an empty directory, and a state directory to copy."""
        self.site, self.state = site, site / "state"
        for stub in ("docker_host/tasks/look.yml", "stack/tasks/deploy.yml", "stack/tasks/gone.yml"):
            path = site / "roles" / stub
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("[]\n")
        # Every replica counted.
        smoke = site / "roles/smoke/tasks/main.yml"
        smoke.parent.mkdir(parents=True)
        smoke.write_text("[{ansible.builtin.set_fact: {smoke_passed: true}}]\n")
        if state:
            shutil.copytree(state, self.state)
        else:
            self.state.mkdir()
        host = {
            "ansible_connection": "local",
            # Without a newer engine's own check of stack files.
            "docker_host_engine": {
                "host_info": {
                    "ServerVersion": "20.10.24",
                    "Swarm": {"NodeAddr": "192.0.2.11", "Cluster": {"ID": "ours"}},
                }
            },
            "redis_credentials_passwords": {"app": ["secret"], "internal": ["internal"]},
            "redis_credentials_certificates": {"ca": "authority", "ends": "20310101000000Z"},
            "swarm_address": "192.0.2.11",
        }
        (site / "hosts.yml").write_text(yaml.safe_dump({"managers": {"hosts": {"host": host}}}))

    def play(
        self, playbook: str, options: dict[str, Any], state: Path | None = None, verb: str = "deploy"
    ) -> CompletedProcess[str]:
        record = {"verb": verb, "who": "me@here", "revision": "0123456789abcdef", "dirty": False}
        place = {"state_dir": str(state or self.state)}
        return run(
            *("ansible-playbook", "-i", self.site / "hosts.yml", PLAYBOOKS / f"{playbook}.yml"),
            *("-e", json.dumps(options | place)),
            ANSIBLE_ROLES_PATH=f"{self.site / 'roles'}:{ROOT / 'roles'}",
            ANSIBLE_STDOUT_CALLBACK="ansible.posix.json",
            COUNTER_DEPLOY_RUN=json.dumps(record),
        )

    def scale(self, state: Path | None = None, **options: Any) -> dict[str, Any]:
        """Scale; return from what the stack was rendered."""
        done = self.play("recall", options, state)
        assert done.returncode == 0, done.stdout + done.stderr
        found: dict[str, Any] = last_task(done)["host"]["msg"]
        return found

    def files(self) -> dict[str, str]:
        """Return what is stored, by path."""
        return {str(path.relative_to(self.state)): path.read_text() for path in self.state.rglob("*") if path.is_file()}


def recorded(factory: pytest.TempPathFactory, name: str, *deployed: dict[str, Any]) -> Path:
    """Return the state directory after deployments with these settings, made once for this name."""

    def make(site: Path) -> str:
        manager = Manager(site)
        for options in deployed:
            done = manager.play("record", options)
            assert done.returncode == 0, done.stdout + done.stderr
        return str(manager.state)

    return Path(made_once(factory, f"recorded-{name}", make))
