#!/usr/bin/python
"""Ansible module: remove the configs and secrets of a stack that no service uses."""

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_pruned
short_description: Remove the configs and secrets of a stack that no service uses
description:
  - Configs and secrets are immutable, so each version has a different name. C(docker stack deploy --prune) does not
    remove the old versions.
options:
  name: {type: str, required: true, description: Name of the stack.}
attributes:
  check_mode: {support: full}
"""

RETURN = r"""
removed:
  description: Names of the removed configs and secrets.
  type: list
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule

try:
    import docker

    MISSING = ""
except ImportError as error:
    MISSING = str(error)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={"name": {"type": "str", "required": True}}, supports_check_mode=True)
    if MISSING:
        module.fail_json(msg=f"{MISSING}: install python3-docker on this host")
    client = docker.from_env(version="auto").api
    label = {"label": f"com.docker.stack.namespace={module.params['name']}"}
    # A rollback would need the previous specification, so it counts as used.
    used: set[str] = set()
    for service in client.services(filters=label):
        for spec in (service["Spec"], service.get("PreviousSpec") or {}):
            container = spec.get("TaskTemplate", {}).get("ContainerSpec", {})
            used.update(item["ConfigID"] for item in container.get("Configs") or [])
            used.update(item["SecretID"] for item in container.get("Secrets") or [])
    unused = [
        (remove, item)
        for items, remove in (
            (client.configs(filters=label), client.remove_config),
            (client.secrets(filters=label), client.remove_secret),
        )
        for item in items
        if item["ID"] not in used
    ]
    if not module.check_mode:
        for remove, item in unused:
            remove(item["ID"])
    module.exit_json(changed=bool(unused), removed=sorted(item["Spec"]["Name"] for _, item in unused))


if __name__ == "__main__":
    main()
