"""The OpenAPI document against the running app: schemathesis sends what it allows, and what it forbids."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

from support.processes import Gunicorn, RedisServer, running

from counter.application import create_app
from counter.badge import COLORS, STYLES
from counter.names import NAME_PATTERN

EXAMPLES = os.environ.get("COUNTER_SEARCH_EXAMPLES", "20")
# Not whether each wrong value is refused: with `callback`, the status of a refusal is in the answer.
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,unsupported_method"
)
INTERNAL = {"/", "/metrics", "/drainz", "/c"}
"""Paths that are no interface: pages, and what only the stack asks."""


def test_no_answer_is_missing_from_the_document(tmp_path: Path, redis_server: RedisServer) -> None:
    # The many names are no strangers' names here.
    server = Gunicorn(tmp_path, REDIS_NODES=redis_server.address, NEW_COUNTERS_PER_MINUTE="100000")
    with running(server):
        url = f"{server.up().url}/openapi.json"
        command = ["st", "run", url, "--checks", CHECKS, "--max-examples", EXAMPLES, "--seed", "1", "--no-color"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=1000)
        assert done.returncode == 0, done.stdout + done.stderr
        assert re.search(r"Selected: (\d+)/\1\s+Tested: \1\b", done.stdout), done.stdout


def test_the_document_has_every_path_and_no_other() -> None:
    document = json.loads((Path(__file__).parents[2] / "app/counter/assets/openapi.json").read_text(encoding="utf-8"))
    routes = {
        (re.sub(r"<counter:(\w+)>", r"{\1}", rule.rule), method)
        for rule in create_app().url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule not in INTERNAL
    }
    assert {(path, method.upper()) for path, operations in document["paths"].items() for method in operations} == routes


def test_the_document_has_the_rules_of_the_app() -> None:
    document = json.loads((Path(__file__).parents[2] / "app/counter/assets/openapi.json").read_text(encoding="utf-8"))
    parameters, color = document["components"]["parameters"], document["components"]["schemas"]["Color"]["pattern"]
    assert parameters["Name"]["schema"]["pattern"] == f"^{NAME_PATTERN}$"
    assert parameters["Style"]["schema"]["enum"] == list(STYLES)
    assert [name for name in COLORS if not re.search(color, name)] == []
