"""Where things are: the repository, the recorded runs."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
RECORDED = Path(__file__).parent / "recorded"
