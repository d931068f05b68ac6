"""Refuse an Ansible that cannot run these playbooks, in one line.

This is not a connection. Ansible imports every connection plugin before it reads a playbook. All later places are too
late: a collection that is missing ends the reading of the playbook, with an error that does not say what to do.
"""

import re
import sys
from importlib.util import find_spec
from pathlib import Path

import yaml
from ansible import release

REQUIREMENTS = Path(__file__).parents[2] / "requirements"


def is_installed(collection: str) -> bool:
    """Tell whether Ansible finds a collection."""
    try:
        return find_spec("ansible_collections." + collection) is not None
    except ModuleNotFoundError:  # not even its namespace is there
        return False


oldest = re.findall(r"^ansible-core~=(\d+)\.(\d+)$", (REQUIREMENTS / "control.in").read_text(), re.MULTILINE)[0]
needed = yaml.safe_load((REQUIREMENTS / "collections.yml").read_text())["collections"]
missing = [name for name in needed if not is_installed(name)]
if [int(number) for number in release.__version__.split(".")[:2]] < [int(number) for number in oldest] or missing:
    sys.exit(
        "[ERROR]: These playbooks need ansible-core >= {}.{} with {}. This is ansible-core {} of {}{}."
        " ./counter brings its own: type ./counter VERB instead of ansible-playbook VERB.yml.".format(
            *oldest,
            ", ".join(needed),
            release.__version__,
            sys.executable,
            ", without " + ", ".join(missing) if missing else "",
        )
    )


class Connection:
    """Ansible expects this class, and ignores it because it is not derived from its own."""
