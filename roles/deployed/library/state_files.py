#!/usr/bin/python
"""Ansible module: read all files below a directory at once, since a module run costs more than reading a small file."""

from __future__ import annotations

DOCUMENTATION = r"""
module: state_files
short_description: Read all text files below a directory
options:
  path: {type: path, required: true, description: The directory; if it does not exist, the result is empty.}
  beside: {type: str, required: true, description: Name of a file to read also in the directories beside this one.}
attributes:
  check_mode: {support: full}
"""

RETURN = r"""
files: {type: dict, returned: always, description:
  "Content and mtime (seconds since the epoch) of each file, by its path below the directory."}
beside: {type: dict, returned: always, description:
  "Content of the file in the directories beside this one, by the name of the directory."}
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"path": {"type": "path", "required": True}, "beside": {"type": "str", "required": True}},
        supports_check_mode=True,
    )
    top, name = Path(module.params["path"]), module.params["beside"]
    others = [path for path in top.parent.glob(f"*/{name}") if path.parent != top]
    beside = {path.parent.name: path.read_text(encoding="utf-8", errors="replace") for path in others}
    files = {}
    for path in sorted(path for path in top.rglob("*") if path.is_file()):
        # The project writes text files only, so replaced bytes belong to other files.
        content = path.read_bytes().decode(errors="replace")
        files[str(path.relative_to(top))] = {"content": content, "mtime": path.stat().st_mtime}
    module.exit_json(changed=False, files=files, beside=beside)


if __name__ == "__main__":
    main()
