#!/usr/bin/python
"""Ansible module: write files below a directory at once, since a module run costs more than writing a small file."""

from __future__ import annotations

DOCUMENTATION = r"""
module: state_written
short_description: Write files of a stack's state directory
description:
  - Only root can read the files and their directories. A file is replaced as a whole, and only if its content differs.
options:
  path: {type: path, required: true, description: The directory.}
  files: {type: dict, default: {}, description: Content of each file by its path below the directory.}
  secrets: {type: dict, default: {}, description: The same for files whose content is not shown. They come first.}
  validate: {type: bool, default: false, description: Whether Docker must accept the files named C(stack.yml).}
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
"""

import os
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

STACK = "stack.yml"


def write(module: AnsibleModule, path: Path, text: str) -> None:
    """Replace a file; ends the module if Docker refuses a stack."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="", dir=module.tmpdir, delete=False) as draft:
        draft.write(text)
        draft.flush()
        # Otherwise a power failure could leave an empty file.
        os.fsync(draft.fileno())
    if path.name == STACK and module.params["validate"]:
        status, _, err = module.run_command(["docker", "stack", "config", "--compose-file", draft.name])
        if status:
            module.fail_json(msg=f"Docker refuses the new {path}: {err.strip()}")
    module.atomic_move(draft.name, str(path))
    path.chmod(0o600)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "files": {"type": "dict", "default": {}},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "validate": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    os.umask(0o077)
    top, public = Path(module.params["path"]), module.params["files"]
    diff = []
    changed = False
    for name, text in {**module.params["secrets"], **public}.items():
        path = top / name
        before = path.read_bytes().decode(errors="replace") if path.is_file() else ""
        if path.is_file() and before == text:
            continue
        changed = True
        if name in public:
            diff.append({"before_header": str(path), "after_header": str(path), "before": before, "after": text})
        else:
            diff.append({"prepared": f"{path}: its content is not shown\n"})
        if not module.check_mode:
            write(module, path, text)
    module.exit_json(changed=changed, diff=diff)


if __name__ == "__main__":
    main()
