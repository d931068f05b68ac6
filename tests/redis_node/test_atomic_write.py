"""A configuration on a full disk."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

from redis_node.atomic_write import atomic_write


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "redis.conf"
    atomic_write(path, "replicaof redis-1 6379\n")
    # With this limit, a process can create files, but writes nothing to them, as on a full disk.
    write = "import sys, pathlib, redis_node.atomic_write as a; a.atomic_write(pathlib.Path(sys.argv[1]), 'replicaof')"
    done = subprocess.run(
        [sys.executable, "-c", write, str(path)],
        check=False,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
    )
    assert "File too large" in done.stderr, done.stderr
    assert path.read_text() == "replicaof redis-1 6379\n"
    assert [file.name for file in tmp_path.iterdir()] == ["redis.conf"]


def test_a_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "redis.conf"
    for text in ("one\n", "two\n"):
        atomic_write(path, text)
    assert path.read_text() == "two\n"
