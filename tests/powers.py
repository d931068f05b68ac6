"""Shows which kind of ``./counter test`` finds a fault: takes back the last fixes, one at a time.

``python tests/powers.py [FIXES [PATH...]]`` takes the last commits (60) that changed both the product, or these paths
of it, and its tests. In a checkout of its own, it takes back the product's part of each, and runs the tests that the
commit added or changed. What fails there must pass again without that, or it tells nothing.
Each result is a line of ``reports/powers-COMMIT.jsonl``, so an interrupted run goes on. It prints a table of them.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PRODUCT = (
    *("app/counter", "backup", "bench", "counter", "launcher"),
    *("playbooks", "plugins", "redis_node", "roles", "templates"),
)
TESTS = ("tests", "app/tests")  # the second until they moved
TIMEOUT_SECONDS = 900
NO_TESTS = 5  # the exit code of pytest
FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+?\.py)(::)?", re.MULTILINE)


class Changed(NamedTuple):
    """The tests that a fix changed: their files, and their names."""

    files: list[str]
    names: list[str]


def git(*arguments: str, directory: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run git; the caller looks at how it ended."""
    return subprocess.run(["git", *arguments], cwd=directory, capture_output=True, text=True, check=False)


def fixes(number: int, product: Iterable[str]) -> list[str]:
    """Return the last commits that changed these paths and the tests, the newest first."""
    both = [set(git("log", "--no-merges", "--format=%H", "--", *paths).stdout.split()) for paths in (product, TESTS)]
    commits = git("log", "--no-merges", "--format=%H").stdout.split()
    return [commit for commit in commits if all(commit in found for found in both)][:number]


def changed_by(diff: str) -> Changed:
    """Return the tests that a diff without context lines changes."""
    files = re.findall(r"^\+\+\+ b/(\S*/test_\S+\.py)$", diff, re.MULTILINE)
    files = [file.replace("app/tests/", "tests/app/") for file in files]
    # Conventions of the roles were among the tests of the roles.
    files = [file if (ROOT / file).exists() else file.replace("tests/roles/", "tests/lint/") for file in files]
    names = re.findall(r"^(?:@@ .* @@ |\+)def (test_\w+)", diff, re.MULTILINE)
    return Changed([file for file in dict.fromkeys(files) if (ROOT / file).exists()], list(dict.fromkeys(names)))


def starting() -> set[str]:
    """Return the files that ``quick`` leaves out."""
    program = "source tests/run; printf '%s\\n' ${STARTING[@]}"
    listed = subprocess.run(["bash", "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(listed.stdout.split())


def failed(tests: Changed, checkout: Path, *options: str) -> list[tuple[str, str]] | None:
    """Run the tests; return file and, but for one that cannot be imported, ``::`` of each failure.

    None, if the options select no test.
    """
    command = ["python", "-m", "pytest", "-n", "2", "-q", "-k", " or ".join(tests.names), *options, *tests.files]
    try:
        done = subprocess.run(
            command, cwd=checkout, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired:
        return [(file, "::") for file in tests.files]
    return None if done.returncode == NO_TESTS else FAILED.findall(done.stdout)


def take_back(commit: str, checkout: Path) -> bool:
    """Take back the product's part of a commit; tell whether that was possible, and anything was left of it."""
    git("revert", "--no-commit", commit, directory=checkout)
    others = [f":!{path}" for path in PRODUCT]
    git("checkout", "HEAD", "--", ".", *others, directory=checkout)
    conflicts = git("diff", "--name-only", "--diff-filter=U", "--", *PRODUCT, directory=checkout).stdout
    return not conflicts and bool(git("diff", "--name-only", "HEAD", "--", *PRODUCT, directory=checkout).stdout)


def restore(checkout: Path) -> None:
    """Undo ``take_back``."""
    git("reset", "--hard", "--quiet", directory=checkout)
    git("clean", "-qfd", directory=checkout)


def found_by(commit: str, checkout: Path, left_out: set[str]) -> str:
    """Return the first kind of test that finds what the commit mended, or why nothing could be seen."""
    tests = changed_by(git("diff", "-U0", f"{commit}^", commit, "--", *TESTS).stdout)
    if not tests.files or not tests.names:
        return "tests are gone"
    ran = False
    for markers in ("not slow and not live", "slow or live"):
        possible = take_back(commit, checkout)
        failures = failed(tests, checkout, "--cache-clear", "-m", markers) if possible else None
        restore(checkout)
        if not possible:
            return "changed since"
        ran |= failures is not None
        if not failures:
            continue
        if not all(separator for _, separator in failures):
            return "other interface"
        if failed(tests, checkout, "--last-failed", "-m", markers):
            return "fails without it too"
        kind = "default" if left_out.issuperset(file for file, _ in failures) else "quick"
        return "slow" if markers.startswith("slow") else kind
    return "none" if ran else "tests are gone"


def table(results: Iterable[dict[str, str]]) -> str:
    """Return what each kind found, and the subjects of what only ``slow`` found, or none."""
    rows = list(results)
    lines = [f"{number:5d}  {kind}" for kind, number in Counter(row["found"] for row in rows).most_common()]
    late = [f"{row['found']}: {row['commit'][:8]} {row['subject']}" for row in rows if row["found"] in {"slow", "none"}]
    return "\n".join([*lines, *late])


def main(number: int, product: Iterable[str]) -> None:
    """Judge the fixes, and print the table."""
    head = git("rev-parse", "--short=8", "HEAD").stdout.strip()
    noted = ROOT / "reports" / f"powers-{head}.jsonl"
    noted.parent.mkdir(exist_ok=True)
    noted.touch()
    results = {row["commit"]: row for row in map(json.loads, noted.read_text(encoding="utf-8").splitlines())}
    left_out = starting()
    with tempfile.TemporaryDirectory() as directory:
        checkout = Path(directory) / "checkout"
        git("worktree", "add", "--detach", str(checkout), head)
        (checkout / ".venv").symlink_to(ROOT / ".venv")
        try:
            wanted = fixes(number, product)
            for commit in (commit for commit in wanted if commit not in results):
                subject = git("log", "-1", "--format=%s", commit).stdout.strip()
                results[commit] = {
                    "commit": commit,
                    "subject": subject,
                    "found": found_by(commit, checkout, left_out),
                }
                print(f"{results[commit]['found']:22}  {commit[:8]} {subject}", flush=True)
                with noted.open("a", encoding="utf-8") as file:
                    print(json.dumps(results[commit]), file=file)
        finally:
            git("worktree", "remove", "--force", str(checkout))
    print(table(results[commit] for commit in wanted))


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 60, sys.argv[2:] or PRODUCT)
