"""One user of a volume at a time: the engine may start a node's new container while the old one still runs."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from replicated import held
from support.ansible import ROOT
from support.ports import free_port
from support.processes import Process, RedisServer, running
from support.waiting import wait_until

WAITS = "waits: another container of this node still uses the volume"


class Container(RedisServer):
    """A server on a volume, as a container of its image runs it; ``alone=False`` leaves the lock out."""

    def __init__(self, volume: Path, name: str, *options: str, alone: bool = True) -> None:
        self.port = free_port()
        server = ["redis-server", "--port", str(self.port), "--dir", str(volume), "--bind", "127.0.0.1"]
        durable = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        Process.__init__(
            self, [*(held(volume) if alone else []), *server, *durable, *options], volume.parent / f"{name}.log"
        )

    def answers(self) -> bool:
        return bool(self.client().ping())

    def waits(self) -> bool:
        return self.log.read_text() == f"{WAITS}\n"


def base_files(volume: Path) -> list[str]:
    """Return what a server that starts on the volume would read first."""
    manifest = (volume / "appendonlydir" / "appendonly.aof.manifest").read_text()
    return [line for line in manifest.splitlines() if line.endswith("type b")]


KEPT = pytest.mark.parametrize(
    ("alone", "kept"), [(True, 150), (False, 100)], ids=["held", "as a control, without the lock"]
)


@KEPT
def test_what_the_old_container_acknowledged_meanwhile_is_kept(tmp_path: Path, *, alone: bool, kept: int) -> None:
    (volume := tmp_path / "volume").mkdir()
    old, new = Container(volume, "old", alone=alone), Container(volume, "new", alone=alone)
    with running(old, new):
        old.up()
        assert [old.client().incr("value") for _ in range(100)][-1] == 100
        new.start()
        wait_until("the new one", new.waits if alone else new.answers)
        assert [old.client().incr("value") for _ in range(50)][-1] == 150
        old.signal(signal.SIGTERM)
        old.wait(10)
        wait_until("the new one", new.answers)
        assert new.client().get("value") == str(kept)
        assert new.client().incr("value") == kept + 1


@KEPT
def test_a_copy_that_was_confirmed_is_on_the_disk(tmp_path: Path, *, alone: bool, kept: int) -> None:
    """Two containers of a replica follow the primary; the newer one replaces the file that the older one appends to."""
    for name in ("primary", "volume"):
        (tmp_path / name).mkdir()
    primary = Container(tmp_path / "primary", "first")
    follows = ["--replicaof", f"127.0.0.1 {primary.port}", "--repl-diskless-sync-delay", "0"]
    old, new = (Container(tmp_path / "volume", name, *follows, alone=alone) for name in ("old", "new"))
    again = Container(tmp_path / "volume", "again")

    with running(primary, old, new, again):
        app = primary.up().client()
        old.up()
        assert app.incrby("value", 100) == 100
        wait_until("it to be confirmed", lambda: app.execute_command("WAITAOF", 1, 1, 1000) == [1, 1])
        before = base_files(tmp_path / "volume")
        new.start()
        if alone:
            wait_until("the new one to say why it waits", new.waits)
        else:
            wait_until("its copy", lambda: new.client().info("replication")["master_link_status"] == "up")
            wait_until("its files in the place of the older one's", lambda: base_files(tmp_path / "volume") != before)
            new.kill()  # so that only the older one can confirm
        assert app.incrby("value", 50) == 150
        assert app.execute_command("WAITAOF", 1, 1, 1000) == [1, 1]
        new.kill()
        old.kill()
        again.up()
        assert again.client().get("value") == str(kept)


@pytest.mark.parametrize("alone", [True, False], ids=["held", "as a control, without the lock"])
def test_no_two_servers_have_the_id_of_one_cluster_node(tmp_path: Path, *, alone: bool) -> None:
    """Redis locks the file with the id, but replaces that file."""
    (volume := tmp_path / "volume").mkdir()
    old, new = (Container(volume, name, "--cluster-enabled", "yes", alone=alone) for name in ("old", "new"))
    with running(old, new):
        old.up()
        old.client().execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 100)
        new.start()
        if alone:
            wait_until("the new one to say why it waits", new.waits)
            return
        wait_until("the new one", new.answers)
        one, other = (each.client().execute_command("CLUSTER", "MYID") for each in (old, new))
        assert one == other


def test_a_volume_that_was_emptied_is_still_held(tmp_path: Path) -> None:
    """Someone may delete everything on it."""
    (volume := tmp_path / "volume").mkdir()
    old, new = Container(volume, "old"), Container(volume, "new")
    with running(old, new):
        old.up()
        subprocess.run(["find", str(volume), "-mindepth", "1", "-delete"], check=True)
        new.start()
        wait_until("the new one to say why it waits", new.waits)
        old.kill()
        wait_until("the new one", new.answers)


def test_a_volume_is_held_until_the_last_process_has_ended(tmp_path: Path) -> None:
    """Whoever started it may be gone before."""
    subprocess.run([*held(tmp_path), "sh", "-c", "sleep 2 & echo $!"], check=True)
    began = time.monotonic()
    waiter = subprocess.run([*held(tmp_path), "echo", "runs"], check=True, capture_output=True, text=True)
    assert (waiter.stdout, waiter.stderr) == ("runs\n", f"{WAITS}\n")
    assert time.monotonic() - began > 1


def test_a_container_that_waits_ends_when_it_is_stopped(tmp_path: Path) -> None:
    holds = [*held(tmp_path), "sh", "-c", "echo holds; exec sleep 60"]
    with subprocess.Popen(holds, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "holds\n"
        waiter = subprocess.Popen([*held(tmp_path), "sleep", "60"], stderr=subprocess.PIPE, text=True)
        assert waiter.stderr
        assert waiter.stderr.readline() == f"{WAITS}\n"
        time.sleep(0.2)
        waiter.terminate()
        assert waiter.wait(5) == -signal.SIGTERM
        holder.terminate()
        assert holder.wait(5) == -signal.SIGTERM


def test_whatever_runs_in_the_images_of_nodes_holds_its_volume() -> None:
    stages = (ROOT / "Dockerfile").read_text().split("\nFROM ")
    redis, node = (text for text in stages if re.match(r"\S+ AS (redis|redis-node)\n", text))
    assert "VOLUME /data\n" in redis
    assert 'ENTRYPOINT ["hold-volume", "/data"]\n' in redis
    assert node.startswith("redis AS redis-node")
    assert "ENTRYPOINT" not in node
    for template in ROOT.glob("templates/*.stack.yml.j2"):
        assert "entrypoint:" not in template.read_text()


def test_a_volume_that_cannot_be_opened_is_not_called_in_use(tmp_path: Path) -> None:
    done = subprocess.run(
        [*held(tmp_path / "missing" / "volume"), "true"], capture_output=True, text=True, check=False, timeout=10
    )
    assert done.returncode != 0
    assert "cannot open lock file" in done.stderr
    assert WAITS not in done.stderr
