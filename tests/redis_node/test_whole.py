"""A configuration on a full disk."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

from redis_node.whole import write_whole


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "redis.conf"
    write_whole(path, "replicaof redis-1 6379\n")
    # With this limit, a process can create files, but writes nothing to them, as on a full disk.
    write = (
        "import sys, pathlib, redis_node.whole as w; w.write_whole(pathlib.Path(sys.argv[1]), 'replicaof redis-2 6379')"
    )
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
        write_whole(path, text)
    assert path.read_text() == "two\n"
