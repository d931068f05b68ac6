"""What a run visits, and which tests a fix has."""

from __future__ import annotations

from powers import Changed, changed_by
from support.ansible import ROOT, Ansible
from walk import room, steps


def test_the_files_that_a_run_enters_are_listed_in_order(ansible: Ansible) -> None:
    ansible.hosts({"one": {}})
    done = ansible.run("deploy.yml", "-vv", "-e", "app_threads=0")
    assert "app_threads=0: must be" in done.stdout
    # It was refused before anything else.
    assert steps(done.stdout) == ["roles/preflight/tasks/settings.yml", "roles/preflight/tasks/main.yml"]
    assert room("roles/preflight/tasks/settings.yml") == "preflight"
    assert room("playbooks/tasks/serve.yml") == "playbooks"


def test_the_tests_that_a_commit_changes_are_found_where_they_are_now() -> None:
    diff = "+++ b/app/tests/test_ids.py\n@@ -1 +1 @@ def test_first() -> None:\n+def test_second() -> None:\n"
    assert (ROOT / "tests/app/test_ids.py").exists()
    assert changed_by(diff) == Changed(["tests/app/test_ids.py"], ["test_first", "test_second"])
    assert changed_by("+++ b/tests/roles/test_structure.py\n").files == ["tests/lint/test_structure.py"]
