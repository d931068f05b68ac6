"""Filters for the images: their names, and their ids in responses of the Docker engine's API."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

_GLOBAL = re.compile(r"^ARG .*", re.MULTILINE)
_STAGE = re.compile(r"^(FROM \S+ AS (\S+)\n.*?)(?=^FROM |\Z)", re.DOTALL | re.MULTILINE)


def image_names(
    images: Iterable[str],
    targets: Mapping[str, Mapping[str, Sequence[str]]],
    source: str,
    arguments: Iterable[object],
    prefix: str,
) -> dict[str, str]:
    """Return image -> name. The tag is a digest of what the image is made of, so a changed image has another name.

    ``targets``: image -> the ``stages`` of the Dockerfile, and the files and directories that they ``copy``.
    ``source``: the directory with all of them. ``arguments``: the build's. ``prefix``: what the names begin with.
    """
    head, first, rest = Path(source, "Dockerfile").read_text(encoding="utf-8").partition("\nFROM ")
    stages = {name: text for text, name in _STAGE.findall(first + rest)}

    def content(target: Mapping[str, Sequence[str]]) -> Iterable[object]:
        yield from arguments
        yield from _GLOBAL.findall(head)
        yield from (stages[name] for name in target["stages"])
        for path in sorted(path for name in target["copy"] for path in _files(Path(source, name))):
            yield path.relative_to(source)
            yield path.read_text(encoding="utf-8", errors="surrogateescape")

    def tag(image: str) -> str:
        text = "\n".join(map(str, content(targets[image])))
        return sha256(text.encode(errors="surrogateescape")).hexdigest()[:12]

    return {image: f"{prefix}{image}:{tag(image)}" for image in images}


def _files(path: Path) -> list[Path]:
    """Return the file, or all files of the directory but those that Python compiled, which no image gets."""
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file() and file.suffix != ".pyc"]


def image_ids(images: Iterable[Mapping[str, Any]], names: Container[str]) -> dict[str, str]:
    """Return name -> id of the images (``GET /images/json``) with one of the names, sorted by name."""
    found = {tag: image["Id"] for image in images for tag in image.get("RepoTags") or [] if tag in names}
    return dict(sorted(found.items()))


def bake_definition(images: Mapping[str, str], **options: object) -> dict[str, object]:
    """Return a definition for ``docker buildx bake``.

    ``images``: target -> name. ``options``: what each target has besides, such as ``args``.
    """
    targets = {target: {"target": target, "tags": [name], **options} for target, name in images.items()}
    return {"group": {"default": {"targets": list(targets)}}, "target": targets}


class FilterModule:
    """The filters by name, for Ansible."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Return the filters by name."""
        return {"image_names": image_names, "image_ids": image_ids, "bake_definition": bake_definition}
