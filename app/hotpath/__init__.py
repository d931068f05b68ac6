"""Benchmarks of the hot path: what a durable increment costs, against simpler ways and against another revision.

Run ``python -m hotpath`` or ``python -m hotpath.compare`` in ``app``.
"""

import sys
from pathlib import Path

APP = Path(__file__).resolve().parents[1]
sys.path += [str(APP.parent / "tests"), str(APP.parent / "tests/app")]
