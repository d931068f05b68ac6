"""Filters for responses of the Docker engine's API."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any


def image_ids(images: Iterable[Mapping[str, Any]], names: Container[str]) -> dict[str, str]:
    """Return name -> id of the images (``GET /images/json``) with one of the names, sorted by name."""
    found = {tag: image["Id"] for image in images for tag in image.get("RepoTags") or [] if tag in names}
    return dict(sorted(found.items()))


class FilterModule:
    """The filters by name, for Ansible."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Return the filters by name."""
        return {"image_ids": image_ids}
