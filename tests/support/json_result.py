"""What ./counter VERB --json prints, checked against its schema."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import jsonschema

from support.ansible import ROOT

SCHEMA: dict[str, Any] = json.loads((ROOT / "docs/json/run.schema.json").read_text(encoding="utf-8"))


def json_result(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the document on standard output, which must be nothing else, and as the schema says."""
    document: dict[str, Any] = json.loads(done.stdout)
    jsonschema.validate(document, SCHEMA, cls=jsonschema.Draft202012Validator)
    return document
