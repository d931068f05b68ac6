#!/usr/bin/python
"""Ansible module: write the configuration of the edge on this host, and let the running HAProxy load it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: edge_configuration
short_description: Write the configuration of the edge, and let the running HAProxy load it
description:
  - Each version has a directory of its own, named by its content. The link C(current) leads to the one in use.
  - HAProxy checks a new version before the link is changed, and loads it in a new worker process. Connections of
    the old worker end with their next answer, and no port is closed.
options:
  directory: {type: path, required: true, description: The directory that is mounted into the containers.}
  labels:
    type: list
    elements: str
    required: true
    description: The containers with all these labels (NAME=VALUE) load a new version.
  files: {type: dict, description: Content of each file by its name. Without it, nothing is changed.}
  secrets:
    type: dict
    description: The same for files whose content is not shown. Without it, those of the current version stay.
  image: {type: str, description: The image of HAProxy, in which a new version is checked.}
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
"""

RETURN = r"""
version: {type: str, returned: always, description: The version that C(current) leads to; empty if there is none.}
loaded: {type: dict, returned: always, description:
  "The version that each container with these labels has loaded, by the container's name."}
"""

import json
import os
import shutil
import time
from hashlib import sha256
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

MOUNTED = "/etc/edge"
"""Where the containers have the directory."""
VERSION = "version.cfg"
"""HAProxy reads it with the other files, and reports the version in `show info`."""
OWNER = 10003
"""User of the edge's image."""
BOUNDED = ("timeout", "45")
"""Ends a command of an engine that does not answer."""
CHECK_SECONDS = 300
LATE = 124
"""Exit status of ``timeout`` if it ends the command."""
START_SECONDS = 10.0
"""How long a container that has just started may take to answer."""
# The master process answers here; its command `reload` says whether the new worker loaded its configuration.
ASK = "exec 3<>/dev/tcp/127.0.0.1/8405 && printf '%s\\nquit\\n' \"$0\" >&3 && timeout 30 cat <&3"
# A new worker takes the replicas' addresses from this file, since it would refuse requests until it resolves them.
SAVE_SERVERS = "cat >/run/edge/servers.new && mv /run/edge/servers.new /run/edge/servers"
BACKEND, OPERATIONAL_STATE, RUNNING = 1, 5, "2"
PLACE = slice(2, 4)
"""Id and name of a server. All are columns of ``show servers state`` (HAProxy, Management Guide)."""


def compact(state: str) -> str:
    """Return a state of servers in which the replicas that run have the first places, and all others are free.

    A new worker gives the addresses that Docker's DNS names to its servers in their order, unless a server has one of
    them. The place of a replica that an update has replaced would take the address that a later place has.
    """
    rows = [line.split(" ") for line in state.splitlines()]
    head = [row for row in rows if len(row) == 1 or row[0] == "#"]
    servers = [row for row in rows if row not in head and row[BACKEND] == "app"]
    places = [row[PLACE] for row in servers]
    running = [row for row in servers if row[OPERATIONAL_STATE] == RUNNING]
    for row, place in zip(running, places, strict=False):
        row[PLACE] = place
    return "".join(f"{' '.join(row)}\n" for row in head + running)


class Edge:
    """The containers of the edge on this host, and the versions of their configuration."""

    def __init__(self, module: AnsibleModule) -> None:
        """Use the parameters of the module."""
        self.module = module
        self.top = Path(module.params["directory"])
        self.link = self.top / "current"

    def version(self) -> str:
        """Return the version in use."""
        return self.link.readlink().name if self.link.is_symlink() else ""

    def texts(self, version: str) -> dict[str, str]:
        """Return the content of each file of a version; empty if it does not exist."""
        directory = self.top / version
        files = sorted(path for path in directory.rglob("*") if path.is_file()) if version else []
        return {str(path.relative_to(directory)): path.read_text(encoding="utf-8") for path in files}

    def write(self, version: str, texts: dict[str, str]) -> None:
        """Write a version that HAProxy accepts, and change the link to it; ends the module otherwise."""
        # There may be private keys.
        os.umask(0o077)
        new = self.top / f"{version}.new"
        shutil.rmtree(new, ignore_errors=True)
        for name, text in texts.items():
            path = new / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                # Otherwise a power failure could leave an empty file.
                os.fsync(file.fileno())
        for path in (self.top, new, *new.rglob("*")):
            shutil.chown(path, OWNER, OWNER)
            path.chmod(0o500 if path.is_dir() else 0o400)
        self.top.chmod(0o700)
        self.check(new)
        shutil.rmtree(self.top / version, ignore_errors=True)
        new.rename(self.top / version)
        link = self.top / "current.new"
        link.unlink(missing_ok=True)
        link.symlink_to(version)
        link.rename(self.link)

    def check(self, directory: Path) -> None:
        """Let HAProxy read a version; ends the module if it refuses it."""
        mount = f"type=bind,source={directory},target={MOUNTED},readonly"
        image, command = self.module.params["image"], ["haproxy", "-c", "-f", MOUNTED]
        run = ["timeout", str(CHECK_SECONDS), "docker", "run", "--rm", "--network", "none", "--mount", mount, image]
        words = [*run, *command]
        status, out, err = self.module.run_command(words)
        if status:
            shutil.rmtree(directory)
            if status == LATE:
                self.module.fail_json(msg=f"the engine did not run HAProxy in {CHECK_SECONDS} s; nothing was changed")
            self.module.fail_json(msg=f"HAProxy refuses its new configuration; nothing was changed.\n{err or out}")

    def containers(self) -> list[str]:
        """Return the names of the running containers with the labels."""
        filters = [f"--filter=label={label}" for label in self.module.params["labels"]]
        words = [*BOUNDED, "docker", "ps", *filters, "--format", "{{.Names}}"]
        _, out, _ = self.module.run_command(words, check_rc=True)
        return out.split()

    def loaded(self, container: str) -> str:
        """Return the version that a container has loaded; empty if it does not answer."""
        lines = self.tell(container, ASK, "@1 show info").splitlines()
        return next((line.removeprefix("description: ") for line in lines if line.startswith("description: ")), "")

    def load(self, container: str, version: str) -> str:
        """Let a container load the version in use; return what it has loaded. Ends the module if it fails."""
        deadline = time.monotonic() + START_SECONDS
        while not (loaded := self.loaded(container)) and time.monotonic() < deadline:
            time.sleep(0.5)
        if loaded != version:
            servers = compact(self.tell(container, ASK, "@1 show servers state"))
            saved = self.tell(container, SAVE_SERVERS, data=servers)
            answer = saved + self.tell(container, ASK, "reload")
            loaded = self.loaded(container)
            if loaded != version:
                self.module.fail_json(
                    msg=f"{container} did not load its configuration {version}; it has {loaded or 'none'}:\n{answer}"
                    f"\nIts log: docker logs --tail 30 {container}"
                )
        return loaded

    def tell(self, container: str, script: str, command: str = "", data: str | None = None) -> str:
        """Run a script in a container, with a command of HAProxy's or data; return its output, and errors."""
        words = [*BOUNDED, "docker", "exec", "--interactive", container, "bash", "-c", script, command]
        _, out, err = self.module.run_command(words, data=data or "")
        return str(out + err)

    def remove_others(self, *versions: str) -> None:
        """Remove all but these versions."""
        for path in self.top.iterdir():
            if path.is_dir() and not path.is_symlink() and path.name not in versions:
                shutil.rmtree(path)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "labels": {"type": "list", "elements": "str", "required": True},
            "files": {"type": "dict"},
            "secrets": {"type": "dict", "no_log": True},
            "image": {"type": "str"},
        },
        required_by={"files": "image"},
        supports_check_mode=True,
    )
    edge = Edge(module)
    before = version = edge.version()
    public = module.params["files"]
    if public is None:
        module.exit_json(changed=False, version=version, loaded={name: edge.loaded(name) for name in edge.containers()})
    found = edge.texts(before)
    secrets = module.params["secrets"]
    if secrets is None:
        secrets = {name: text for name, text in found.items() if name not in (*public, VERSION)}
    texts = public | secrets
    version = sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()[:12]
    texts[VERSION] = f"global\n    description {version}\n"
    changed = before != version or found != texts
    shown = [name for name in public if found.get(name) != texts[name]]
    diff = [
        {"before_header": name, "after_header": name, "before": found.get(name, ""), "after": texts[name]}
        for name in shown
    ]
    if module.check_mode:
        module.exit_json(changed=changed, version=version, loaded={}, diff=diff)
    if changed:
        edge.write(version, texts)
    loaded = {name: edge.load(name, version) for name in edge.containers()}
    if changed:
        edge.remove_others(version, before)
    module.exit_json(changed=changed, version=version, loaded=loaded, diff=diff)


if __name__ == "__main__":
    main()
