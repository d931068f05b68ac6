#!/usr/bin/python
"""Ansible module: remove images that no container of the node needs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: images_removed
short_description: Remove images that no container of the node needs
description:
  - An image that a container uses stays, whether the container runs or not. Ended containers of Swarm do not count,
    since Swarm keeps some of each service and never starts them again.
options:
  names: {type: list, elements: str, required: true, description: Names of the images with their tags.}
attributes:
  check_mode: {support: full}
"""

RETURN = r"""
removed: {type: list, returned: always, description: Names of the removed images.}
"""

from collections.abc import Sequence

from ansible.module_utils.basic import AnsibleModule

try:
    import docker
    from docker.errors import DockerException
    from requests import RequestException

    MISSING = ""
except ImportError as error:
    MISSING = str(error)

TASK = "com.docker.swarm.task.id"
ENDED = ("exited", "dead")


def unused_images(client: docker.APIClient, names: Sequence[str]) -> list[str]:
    """Return those of the images that are here and that no container needs."""
    used = {
        container["ImageID"]
        for container in client.containers(all=True)
        if TASK not in container["Labels"] or container["State"] not in ENDED
    }
    there = {name: image["Id"] for image in client.images() for name in image["RepoTags"] or []}
    return [name for name in names if name in there and there[name] not in used]


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"names": {"type": "list", "elements": "str", "required": True}}, supports_check_mode=True
    )
    if MISSING:
        module.fail_json(msg=f"{MISSING}: install python3-docker on this host")
    try:
        client = docker.from_env(version="auto").api
        unused = unused_images(client, module.params["names"])
        for name in [] if module.check_mode else unused:
            # Ended containers of Swarm would prevent it otherwise.
            client.remove_image(name, force=True)
    except (DockerException, RequestException) as error:
        module.fail_json(msg=f"the engine cannot remove images: {error}")
    module.exit_json(changed=bool(unused), removed=unused)


if __name__ == "__main__":
    main()
