"""What a run visits, and which tests a fix has."""

from __future__ import annotations

from pathlib import Path

from powers import Changed, changed_by, git, restore, take_back
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


def test_the_product_s_part_of_a_commit_is_taken_back_where_it_is_still_there(tmp_path: Path) -> None:
    git("init", "-q", directory=tmp_path)
    (tmp_path / "backup").mkdir()
    for text in ("begun", "mended", "changed since"):
        for file in ("backup/a.py", "test_a.py", *(["backup/b.py"] if text == "mended" else [])):
            (tmp_path / file).write_text(text)
        git("add", ".", directory=tmp_path)
        git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", text, directory=tmp_path)
    assert take_back("HEAD", tmp_path)
    assert [(tmp_path / file).read_text() for file in ("backup/a.py", "test_a.py")] == ["mended", "changed since"]
    restore(tmp_path)
    assert not take_back("HEAD^", tmp_path)
    restore(tmp_path)
    assert (tmp_path / "backup/a.py").read_text() == "changed since"
