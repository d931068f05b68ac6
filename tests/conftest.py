"""What tests of several directories ask for by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.ansible import Ansible


@pytest.fixture
def ansible(tmp_path: Path) -> Ansible:
    return Ansible(tmp_path)
