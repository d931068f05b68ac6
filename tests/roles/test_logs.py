"""Log lines of several nodes: their order, their level, and which are shown."""

from __future__ import annotations

import importlib.util
import sys

import pytest
from support.ansible import ROOT

_SPEC = importlib.util.spec_from_file_location("log_lines", ROOT / "roles/logs/module_utils/log_lines.py")
assert _SPEC
assert _SPEC.loader
log_lines = importlib.util.module_from_spec(_SPEC)
sys.modules["log_lines"] = log_lines
_SPEC.loader.exec_module(log_lines)


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ('{"time": "2026-11-26T07:20:31.120Z", "level": "info", "logger": "counter", "event": "starts"}', "info"),
        ('{"time": "2026-11-26T07:20:31.120Z", "level": "critical", "logger": "counter", "event": "ends"}', "error"),
        ("1:M 26 Nov 2026 07:20:31.120 * Ready to accept connections tcp", "info"),
        ("13:S 26 Nov 2026 07:20:31.120 # Connection with master lost.", "error"),
        ("1:X 26 Nov 2026 07:20:31.120 - Accepted 10.0.0.2:4711", "debug"),
        ("[WARNING]  (1) : Failed to connect to the old process socket", "warning"),
        ("[NOTICE]   (1) : Loading success.", "info"),
        ("[ALERT]    (8) : Binding [/etc/haproxy.cfg:42] for frontend public: cannot bind", "error"),
        ("Server app/app2 is going DOWN for maintenance (No IP for server ). 3 active servers left.", "warning"),
        ("Server app/app1 ('app') is UP/READY (resolves again).", "info"),
        ("backend app has no server available!", "error"),
        ("RuntimeError: broken on purpose", ""),
    ],
)
def test_level(text: str, level: str) -> None:
    assert log_lines.level_of(text) == level


def test_lines_of_all_tasks_are_in_the_order_of_time() -> None:
    """The engine leaves out zeros at the end of a time."""
    first = log_lines.parse("2026-11-26T07:20:31.5Z b\n2026-11-26T07:20:32Z d\n", "app.1@one")
    second = log_lines.parse(
        "2026-11-26T07:20:31.499999999Z a\nerror from daemon\n2026-11-26T07:20:31.51Z c", "edge.two@two"
    )
    assert log_lines.last_lines([*first, *second], "all", 10) == [
        "2026-11-26T07:20:31.499Z edge.two@two a",
        "2026-11-26T07:20:31.500Z app.1@one b",
        "2026-11-26T07:20:31.510Z edge.two@two c",
        "2026-11-26T07:20:32.000Z app.1@one d",
    ]


def test_the_last_lines_of_a_level_are_shown_and_those_without_one() -> None:
    texts = ['{"level": "info"}', '{"level": "error"}', "Traceback", '{"level": "warning"}']
    lines = list(log_lines.parse("".join(f"2026-11-26T07:20:3{n}Z {text}\n" for n, text in enumerate(texts)), "app.1"))
    shown = {level: [line.split(" ", 2)[2] for line in log_lines.last_lines(lines, level, 3)] for level in
             ("all", "warning", "error")}  # fmt: skip
    assert shown == {"all": texts[1:], "warning": texts[1:], "error": texts[1:3]}
    assert log_lines.last_lines(lines, "debug", 1) == ['2026-11-26T07:20:33.000Z app.1 {"level": "warning"}']


def test_a_task_is_named_by_its_number_or_its_node() -> None:
    service = {"Spec": {"Name": "counter-redis_redis-1"}}
    assert log_lines.task_names("counter-redis", service, {"Slot": 1, "NodeID": "n"}, {}) == ("redis-1", "redis-1.1")
    edge = {"Spec": {"Name": "counter_edge"}}
    assert log_lines.task_names("counter", edge, {"NodeID": "n"}, {"n": "node-1"}) == ("edge", "edge.node-1")
    assert log_lines.task_names("counter", edge, {"NodeID": "gone"}, {}) == ("edge", "edge.gone")
