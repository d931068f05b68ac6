"""What the wall of a host lets through, with real sockets in network namespaces."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.ansible import PLAYBOOKS, load, results_by_host

host_state = load("roles/docker_host/library/host_state.py")

STRANGER, NEIGHBOUR, SERVER = "192.0.2.9", "192.0.2.12", "192.0.2.1"
STRANGER6, SERVER6 = "2001:db8::9", "2001:db8::1"
CONTAINER, CONTAINER6 = "172.18.0.2", "fd00:18::2"
USUAL = {
    "ansible_port": 22,
    "firewall": "nftables",
    "http_port": 8080,
    "docker_host_state": {"address": SERVER, "files": {}},
    "__wall_connection": {"stdout": f"{STRANGER} 50000 {SERVER} 2222"},
    "__wall_sshd": {"stdout": "port 2222\naddressfamily any\n"},
}


def walls(site: Path, **hosts: dict[str, Any]) -> dict[str, Any]:
    """Return for each host, a stack of its own, whether it wants the wall, its rules, and what is shown of them."""
    inventory = {"all": {"vars": USUAL}, "managers": {"hosts": hosts}}
    (site / "hosts.yml").write_text(yaml.safe_dump(inventory))
    found = results_by_host(PLAYBOOKS / "wall.yml", site / "hosts.yml")
    return {name: result["msg"] for name, result in found.items()}


# Listens at the TCP and the UDP ports of its arguments, answers datagrams with their bytes, and takes connections.
LISTENER = """
import select, socket, sys
tcp, udp = ([int(port) for port in ports.split(",")] for ports in sys.argv[1:])
sockets = []
for kind, ports in ((socket.SOCK_STREAM, tcp), (socket.SOCK_DGRAM, udp)):
    for port in ports:
        one = socket.socket(socket.AF_INET6, kind)
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        one.bind(("::", port))
        if kind == socket.SOCK_STREAM:
            one.listen()
        sockets.append(one)
print("listening", flush=True)
kept = []
while True:
    for one in select.select(sockets, [], [])[0]:
        if one.type == socket.SOCK_STREAM:
            kept.append(one.accept()[0])
        else:
            data, source = one.recvfrom(100)
            one.sendto(data, source)
"""
# Tries at once what its argument lists as [kind, source, target, port], and prints which answered. An echo has no port.
SCANNER = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM, "echo": socket.SOCK_RAW}
def answers(one):
    kind, source, target, port = one
    six = ":" in target
    family = socket.AF_INET6 if six else socket.AF_INET
    protocol = 0 if kind != "echo" else socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP
    try:
        with socket.socket(family, KINDS[kind], protocol) as probe:
            probe.settimeout(2)
            probe.bind((source, 0))
            probe.connect((target, port))
            if kind == "udp":
                probe.send(b"x")
                probe.recv(1)
            if kind == "echo":
                probe.send(bytes([128, 0, 0, 0, 0, 0, 0, 0] if six else [8, 0, 0xf7, 0xff, 0, 0, 0, 0]))
                # The kernel gives the header of IPv4 too.
                while not (probe.recv(100)[0 if six else 20 :] or b"x").startswith(b"\\x81" if six else b"\\0"):
                    pass
            return True
    except OSError:
        return False
wanted = json.loads(sys.argv[1])
with ThreadPoolExecutor(len(wanted)) as pool:
    print(json.dumps(list(pool.map(answers, wanted))))
"""
# Docker's own way: what arrives at a published port gets the address of the container.
PUBLISHED = f"""
table ip nat {{
  chain PREROUTING {{ type nat hook prerouting priority dstnat;
  fib daddr type local tcp dport {{ 8080, 9000 }} dnat to {CONTAINER}:8000
}}
}}
table ip6 nat {{
  chain PREROUTING {{ type nat hook prerouting priority dstnat;
  fib daddr type local tcp dport {{ 8080, 9000 }} dnat to [{CONTAINER6}]:8000
}}
}}
"""
TCP, UDP = "22,2222,2377,5000,7000,7946,9100", "123,4789,7946,51820"


class Hosts:
    """A server with a container behind a bridge, and a machine with the addresses of a stranger and of a neighbour."""

    def __init__(self, stack: ExitStack) -> None:
        """Make the network namespaces, which end with the stack."""
        self._names = {name: f"wall-{os.getpid()}-{name}" for name in ("server", "outside", "container")}
        for name in self._names.values():
            subprocess.run(["ip", "netns", "add", name], check=True)
            stack.callback(subprocess.run, ["ip", "netns", "delete", name], check=True)
        self._stack = stack
        self._link("server", "eth0", "outside", "eth0")
        self._link("server", "veth0", "container", "eth0")
        server = f"""
            link add docker_gwbridge type bridge; link set veth0 master docker_gwbridge; link set docker_gwbridge up;
            address add {SERVER}/24 dev eth0; address add {SERVER6}/64 dev eth0 nodad;
            address add 172.18.0.1/16 dev docker_gwbridge; address add fd00:18::1/64 dev docker_gwbridge nodad"""
        outside = f"""
            address add {STRANGER}/24 dev eth0; address add {NEIGHBOUR}/24 dev eth0;
            address add {STRANGER6}/64 dev eth0 nodad;
            route add 172.18.0.0/16 via {SERVER}; route add fd00:18::/64 via {SERVER6}"""
        container = f"""
            address add {CONTAINER}/16 dev eth0; address add {CONTAINER6}/64 dev eth0 nodad;
            route add default via 172.18.0.1; route add default via fd00:18::1"""
        for name, lines in (("server", server), ("outside", outside), ("container", container)):
            for line in lines.split(";"):
                self.run(name, "ip", *line.split())
        self.run("server", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        self.rules(PUBLISHED)
        self._listen("server", TCP, UDP)
        self._listen("container", "8000", "8000")

    def _link(self, first: str, device: str, second: str, other: str) -> None:
        here, there = self._names[first], self._names[second]
        words = ["ip", "link", "add", device, "netns", here, "type", "veth", "peer", "name", other, "netns", there]
        subprocess.run(words, check=True)
        for name, one in ((first, device), (second, other)):
            self.run(name, "ip", "link", "set", one, "up")
            self.run(name, "ip", "link", "set", "lo", "up")

    def _listen(self, name: str, tcp: str, udp: str) -> None:
        words = ["ip", "netns", "exec", self._names[name], sys.executable, "-c", LISTENER, tcp, udp]
        process = self._stack.enter_context(subprocess.Popen(words, stdout=subprocess.PIPE, text=True))
        self._stack.callback(process.kill)
        assert process.stdout
        assert process.stdout.readline() == "listening\n"

    def run(self, name: str, *words: str, given: str = "") -> str:
        """Return what a command prints in a network namespace."""
        command = ["ip", "netns", "exec", self._names[name], *words]
        return subprocess.run(command, input=given, check=True, capture_output=True, text=True).stdout

    def rules(self, text: str) -> None:
        """Give rules to the kernel of the server."""
        self.run("server", "nft", "--file", "-", given=text)

    def reached(self, *tried: tuple[str, str, str, int], at: str = "outside") -> set[tuple[str, str, str, int]]:
        """Return which of these answer: protocol, source, target and port."""
        found = json.loads(self.run(at, sys.executable, "-c", SCANNER, json.dumps(tried)))
        return {one for one, answers in zip(tried, found, strict=True) if answers}


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    if os.geteuid() or not shutil.which("nft", path=f"{os.environ['PATH']}:/usr/sbin"):
        pytest.skip("network namespaces need root, and the wall needs nft")
    tried = subprocess.run(["unshare", "--net", "nft", "list", "ruleset"], check=False, capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"this kernel has no nf_tables: {tried.stderr}")
    with ExitStack() as stack:
        yield Hosts(stack)


OPEN = {
    ("echo", STRANGER, SERVER, 0),
    ("echo", STRANGER6, SERVER6, 0),
    *(("tcp", STRANGER, SERVER, port) for port in (22, 2222, 7000, 8080)),
    *(("tcp", STRANGER6, SERVER6, port) for port in (22, 2222, 7000, 8080)),
    ("udp", STRANGER, SERVER, 51820),
    ("udp", STRANGER6, SERVER6, 51820),
    *(("tcp", NEIGHBOUR, SERVER, port) for port in (22, 2377, 5000, 7946, 8080)),
    *(("udp", NEIGHBOUR, SERVER, port) for port in (4789, 7946)),
}
CLOSED = {
    # A program of the host, a published port, the swarm's ports, and the container itself.
    *(("tcp", STRANGER, SERVER, port) for port in (9100, 9000, 2377, 5000, 7946)),
    *(("tcp", STRANGER6, SERVER6, port) for port in (9100, 9000, 2377, 5000, 7946)),
    *(("udp", STRANGER, SERVER, port) for port in (123, 4789, 7946)),
    *(("udp", STRANGER6, SERVER6, port) for port in (123, 4789, 7946)),
    *(("tcp", NEIGHBOUR, SERVER, port) for port in (9100, 9000)),
    ("udp", NEIGHBOUR, SERVER, 123),
    ("tcp", STRANGER, CONTAINER, 8000),
    ("tcp", STRANGER6, CONTAINER6, 8000),
    ("udp", STRANGER, CONTAINER, 8000),
}


def test_only_what_should_be_open_answers(tmp_path: Path, hosts: Hosts) -> None:
    neighbour = {"docker_host_state": {"address": NEIGHBOUR, "files": {}}}
    more = {"image_distribution": "registry", "firewall_open": ["7000/tcp", "51820/udp"]}
    wall = walls(tmp_path, server=more, neighbour=neighbour | more)["server"]
    assert hosts.reached(*OPEN, *CLOSED) == OPEN | CLOSED
    # Twice, since a changed wall replaces the former one.
    hosts.rules(wall["rules"])
    hosts.rules(wall["rules"])
    assert hosts.reached(*OPEN, *CLOSED) == OPEN
    # A container and its host reach each other.
    inside = {("tcp", CONTAINER, "172.18.0.1", 9100), ("tcp", CONTAINER6, "fd00:18::1", 9100)}
    assert hosts.reached(*inside, at="container") == inside
    itself = {("tcp", "127.0.0.1", "127.0.0.1", 9100), ("tcp", "172.18.0.1", CONTAINER, 8000)}
    assert hosts.reached(*itself, at="server") == itself
    hosts.run("server", "nft", "delete", "table", "inet", "counter_wall")
    assert hosts.reached(*OPEN, *CLOSED) == OPEN | CLOSED


def test_the_wall_opens_what_all_stacks_of_the_hosts_serve(tmp_path: Path) -> None:
    records = {
        "other": {"http_port": 81, "edge_tls": "own", "https_port": 444, "firewall": "none", "firewall_open": []},
        "earlier": {"http_port": 82},
        # This stack still serves at the port that it had.
        "counter": {"http_port": 83, "edge_tls": "none", "https_port": 443, "firewall": "none"},
    }
    wanted = {"other": {"http_port": 81, "edge_tls": "none", "firewall": "nftables", "firewall_open": ["9/udp"]}}
    local = {"__wall_connection": {"rc": 1, "stdout": ""}, "__wall_sshd": {"msg": "no such file"}}
    found = walls(tmp_path, several={"deployed_others": records})["several"]
    assert "tcp dport { 22, 81, 82, 83, 444, 2222, 8080 } accept" in found["rules"]
    assert found["shown"].splitlines()[1].split() == ["tcp", "22,2222", "everybody", "SSH"]
    asked = walls(tmp_path, first=local | {"firewall": "none", "deployed_others": wanted})["first"]
    assert "tcp dport { 22, 81, 8080 } accept\n    udp dport { 9 } accept" in asked["rules"]
    own = {"firewall": "none", "deployed_others": {"counter": wanted["other"]}}
    assert walls(tmp_path, first=own)["first"]["wanted"] is False


@pytest.mark.parametrize(("text", "active"), [(None, False), ("ENABLED=no\n", False), ("# ufw\nENABLED=yes\n", True)])
def test_ufw_is_active_if_its_settings_say_so(tmp_path: Path, text: str | None, *, active: bool) -> None:
    if text is not None:
        (tmp_path / "ufw.conf").write_text(text)
    assert host_state.has_ufw(tmp_path / "ufw.conf") is active
