"""An engine reads its settings when it starts: whatever ended the run that wrote them, the next one sees to it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from conftest import run

pytestmark = [
    pytest.mark.skipif(os.getuid() != 0, reason="only root can put directories into the place of others"),
    pytest.mark.skipif(not Path("/etc/docker").is_dir(), reason="there is no directory of the engine's settings here"),
]
ENTER = 'mount --bind "$1" /etc/docker && mount --bind "$2" /run && shift 2 && exec "$@"'
WANTED = '{"debug": true}'
GIVEN = f'{{"docker_host_daemon_settings": {WANTED}, "docker_host_sysctls": {{}}}}'


@pytest.mark.parametrize(
    ("settings", "started_after", "state"),
    [
        (WANTED, 1, "started"),
        (WANTED, -1, "restarted"),
        (WANTED, None, "started"),
        ("{}", 1, "restarted"),
    ],
    ids=["read", "not read", "no engine runs", "others"],
)
def test_an_engine_is_restarted_until_it_has_read_its_settings(
    tmp_path: Path, settings: str, started_after: int | None, state: str
) -> None:
    for name in ("docker", "run"):
        (tmp_path / name).mkdir()
    file = tmp_path / "docker/daemon.json"
    file.write_text(settings)
    if started_after is not None:
        pid = tmp_path / "run/docker.pid"
        pid.write_text("1")
        os.utime(pid, times=(0, file.stat().st_mtime + started_after))
    enter: list[str | Path] = ["unshare", "--mount", "sh", "-c", ENTER, "sh", tmp_path / "docker", tmp_path / "run"]
    done = run(*enter, "ansible-playbook", "--check", "-e", GIVEN, Path(__file__).with_name("engine_state.yml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"msg: (\w+)", done.stdout) == [state]
