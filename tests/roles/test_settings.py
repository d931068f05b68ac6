"""Settings are read from wherever Ansible users write them, and a name that nothing reads is never ignored."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.ansible import ROOT, run

from plugins.filter.settings import chosen_by, nearest, refused, settings_defaults, typed

DEFAULTS: dict[str, Any] = yaml.safe_load((ROOT / "roles/settings/defaults/main.yml").read_text(encoding="utf-8"))


def test_defaults_are_as_the_table_says() -> None:
    fixed = {name: value for name, value in DEFAULTS.items() if "{{" not in str(value)}
    assert refused(fixed, str(ROOT)) == []


def test_a_restore_leaves_alone_what_the_command_line_decides() -> None:
    """With another topology, its number of nodes is not that of the backup either."""
    assert chosen_by(settings_defaults(str(ROOT)), ["http_port"]) == ["http_port"]
    assert chosen_by(settings_defaults(str(ROOT)), []) == []
    chosen = chosen_by(settings_defaults(str(ROOT)), ["redis_topology"])
    assert chosen == ["redis_topology", "redis_replicas", "write_concern"]


# -- Values


def test_values_are_converted_to_their_type() -> None:
    given = {"replicas": "4", "redis_tls": "yes", "image_revision": 2, "app_cpus": "0.5", "app_environment": "A=b"}
    assert typed(given, str(ROOT)) == {
        "replicas": 4,
        "redis_tls": True,
        "image_revision": "2",
        "app_cpus": 0.5,
        "app_environment": {"A": "b"},
    }
    assert refused(given, str(ROOT)) == []
    assert typed({"replicas": "many"}, str(ROOT)) == {"replicas": "many"}


READS_HOSTS = yaml.safe_load((ROOT / "roles/preflight/tasks/host.yml").read_text(encoding="utf-8"))[0]["name"]


def deploy(*options: str, inventory: Path | None = None) -> str:
    """Run deploy.yml, which must be refused before any host is asked; return what it prints, in one line."""
    place = ["-i", str(inventory)] if inventory else []
    done = run("ansible-playbook", "deploy.yml", "--tags", "always", *place, *options)
    output = re.sub(r"\s+", " ", done.stdout + done.stderr)
    assert done.returncode != 0, output
    assert set(re.findall(r"changed=(\d+)", output)) == {"0"}, output
    assert READS_HOSTS not in output
    return output


def hosts(site: Path, *others: str, **variables: Any) -> Path:
    """Write an inventory of this machine, outside the project; variables are in it as in the example of a cluster."""
    inventory = site / "infra/hosts.yml"
    inventory.parent.mkdir()
    managers = {"hosts": {"one": {"ansible_connection": "local"}, **dict.fromkeys(others)}}
    inventory.write_text(yaml.safe_dump({"all": {"vars": variables, "children": {"managers": managers}}}))
    return inventory


def test_values_are_read_wherever_users_write_them(tmp_path: Path) -> None:
    inventory = hosts(tmp_path, redis_topology="in-file", app_threads="in-file", edge_max_requests="in-file")
    for path, variables in {
        "group_vars/all.yml": {"replicas": "of-all", "app_threads": "of-all", "edge_max_requests": "of-all"},
        "group_vars/managers/more.yml": {"http_port": "of-managers", "edge_max_requests": "of-managers"},
        "host_vars/one.yml": {"app_memory": "of-one"},
    }.items():
        (file := inventory.parent / path).parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(variables))
    output = deploy("-e", "edge_max_requests=typed", inventory=inventory)
    for said in (
        "redis_topology=in-file: must be",
        "replicas=of-all: must be",
        "app_threads=of-all: must be",
        "http_port=of-managers: must be",
        "app_memory=of-one: must be",
        "edge_max_requests=typed: must be",
    ):
        assert said in output
    # The others are those of the role: nothing else is refused.
    assert output.partition("fatal: [one]")[2].count(": must be") == 6


def test_what_earlier_versions_let_pass_is_refused_before_any_change() -> None:
    output = deploy("-e", "image_revision=", "-e", "image_registry='bad registry'", "-e", "overlay_encrypted=maybe")
    assert "image_revision=: must be 1 to 64 letters, digits" in output
    assert "image_registry=bad registry: must be a host" in output
    assert "overlay_encrypted=maybe: must be true or false" in output


# -- Names


def test_an_extra_variable_that_nothing_reads_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "more.yml").write_text("http_prot: 80\n")
    pass_ = [f"{platform}_own=1" for platform in ("ansible", "awx", "tower")]
    output = deploy("-e", "Replicas=3 xyzzy=1", "-e", f"@{tmp_path / 'more.yml'}", "-e", " ".join(pass_))
    assert "Nothing was changed, since nothing reads these variables" in output
    assert "Replicas: did you mean replicas?" in output
    assert "http_prot: did you mean http_port?" in output
    assert "xyzzy: no setting has a similar name." in output
    assert "_own" not in output


def test_finer_variables_of_single_roles_are_known() -> None:
    output = deploy(
        *("-e", "swarm_heartbeat_seconds=5", "-e", "counter_timeout=60", "-e", "bench_users=5", "-e", "replicas=0"),
        *("-e", "bench_min_efficiency="),
    )
    assert "replicas=0: must be" in output
    assert "nothing reads" not in output


def test_a_word_that_is_no_variable_is_refused() -> None:
    assert "Nothing was changed, since `replicas 4` is not NAME=VALUE" in deploy("-e", "replicas 4")


def test_a_retired_name_is_refused_with_the_one_in_use(tmp_path: Path) -> None:
    assert "counter_replicas (use replicas)" in deploy("-e", "counter_replicas=2")
    inventory = hosts(tmp_path, "two", "three", counter_threads=7)
    (inventory.parent / "host_vars").mkdir()
    (inventory.parent / "host_vars/three.yml").write_text("counter_memory: 1G\n")
    output = deploy(inventory=inventory)
    assert "counter_threads (use app_threads)" in output
    assert "counter_memory (use app_memory)" in output


def test_a_variable_of_the_inventory_that_nearly_is_a_setting_is_warned_about(tmp_path: Path) -> None:
    inventory = hosts(tmp_path, replcias=3, ansible_user="me", backup_directory="/srv", replicas=0)
    output = deploy(inventory=inventory)
    assert "WARNING: nothing reads replcias of the inventory. Did you mean replicas?" in output
    assert output.count("nothing reads") == output.count("nothing reads replcias")


@pytest.mark.parametrize(("name", "found"), [("Replicas", "replicas"), ("redis_toplogy", "redis_topology"), ("x", "")])
def test_the_nearest_name(name: str, found: str) -> None:
    assert nearest(name, DEFAULTS, 0.5) == found
