"""Filters for the history of releases: what a deployment adds to it, what it keeps, and how it is shown.

A release is a dictionary: the document that ``deployed.json`` stores (``version``, ``settings``, ``endpoint``,
``images``, ``addresses``, ``edge``), ``replicas``, ``ids`` (id of each image by its name), and what is told of it:
``verb``, ``rollback_to`` (of a rollback, and of a scale while it runs; otherwise 0), ``verdict``, ``time`` (UTC),
``seconds``, ``who``, and ``revision`` and ``dirty`` of the checkout that the app is from.

A history is a list of releases, the oldest first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

Release = Mapping[str, Any]

SERVING = "serving"
RUNNING = (SERVING, "unproven")
"""Verdicts of releases whose tasks run: every replica counted, or the check of this failed. After others (``rolled
back``, ``failed``) the release before them runs."""

HISTORY = 100
"""Releases that a history has at most."""

SHORT_ID = len("sha256:") + 12

CONTENT = ("version", "settings", "endpoint", "images", "addresses", "replicas", "edge")
"""The parts that distinguish one release from another."""


def with_release(history: list[Release], document: Mapping[str, Any], *, anew: bool = False) -> list[Release]:
    """Return the history with the deployment that ``document`` describes, unless it changed nothing.

    The first successful run after a failed check (verdict ``unproven``) only corrects the verdict. ``anew``: nothing
    was deployed before, whatever the history says.
    """
    document = json.loads(json.dumps(document))
    running = running_release(history)
    if running and not anew and _content(running) == _content(document):
        if running == history[-1] and document["verdict"] == SERVING != running["verdict"]:
            return [*history[:-1], {**running, "verdict": SERVING}]
        return history
    known = {name: each for release in history for name, each in release["ids"].items()}
    ids = {name: each for name, each in (known | document["ids"]).items() if name in document["images"].values()}
    number = history[-1]["number"] + 1 if history else 1
    releases = [*history, {"number": number, **document, **_source(history, document), "ids": ids}]
    # The running one stays, however many deployments have failed since.
    dropped = [release for release in releases[:-HISTORY] if release is running_release(releases)]
    return dropped + releases[-HISTORY + len(dropped) :]


def with_edge(history: Iterable[Release], version: str) -> list[Release]:
    """Return the history in which the running release has this version of the edge's configuration.

    The edge loads a new one for a renewed certificate of an authority and for a maintenance too, which are no releases.
    """
    releases = list(history)
    running = running_release(releases)
    return [{**release, "edge": version} if release is running else release for release in releases]


def running_release(history: Iterable[Release]) -> Release:
    """Return the release that runs; empty if none does."""
    return next((release for release in reversed(list(history)) if release["verdict"] in RUNNING), {})


def age_of_packages(history: Iterable[Release], revision: str, now: float) -> int:
    """Return how many days ago a release was the first with images of this ``image_revision``; 0 without one.

    ``now``: seconds since the epoch.
    """
    times = [release["time"] for release in history if release["settings"].get("image_revision") == revision]
    return int((now - datetime.fromisoformat(min(times)).timestamp()) // 86400) if times else 0


def earlier_release(history: list[Release], restored: list[str]) -> Release:
    """Return the last release that served something else than the running one does; empty if there is none.

    A rollback whose check failed is repeated.

    ``restored``: names of the settings that a rollback restores. A release that differs in others only, or in the
    number of replicas, is not what a rollback looks for.
    """
    running = running_release(history)
    if running and running["verb"] == "rollback" and running["verdict"] != SERVING:
        return next((found for found in _served(history) if found["number"] == running["rollback_to"]), {})
    runs = _restorable(running, restored) if running else []
    return next((found for found in _served(history) if _restorable(found, restored) != runs), {})


def kept_releases(history: list[Release], restored: list[str]) -> list[Release]:
    """Return the releases whose images stay on the nodes: as many as ``keep_releases`` of the running one says.

    Releases that a rollback would not tell apart count once.
    """
    keep = int(running_release(history).get("settings", {}).get("keep_releases", 0))
    different: list[Any] = []
    for release in _served(history):
        if (content := _restorable(release, restored)) not in different:
            different.append(content)
    return [release for release in _served(history) if _restorable(release, restored) in different[:keep]]


def unneeded_images(
    history: list[Release], others: Iterable[list[Release]], used: Iterable[str], restored: list[str]
) -> list[str]:
    """Return the images of the history that neither it, nor a history of ``others``, nor a service (``used``) needs."""
    needed = {name.partition("@")[0] for name in used}
    for each in [history, *others]:
        needed |= set(running_release(each).get("images", {}).values())
        needed |= {release["images"]["app"] for release in kept_releases(each, restored)}
    return sorted({name for release in history for name in release["images"].values()} - needed)


def release_parts(release: Release) -> dict[str, str]:
    """Return all that a release consists of, as text by name."""
    images, ids = sorted(release["images"].items()), release["ids"]
    secrets = release["endpoint"].get("secrets", {})
    return {
        "version": release["version"],
        "replicas": str(release["replicas"]),
        "addresses": ", ".join(release["addresses"]),
        **{f"image {target}": f"{image} {ids.get(image, '')[:SHORT_ID]}".strip() for target, image in images},
        **{f"setting {name}": _text(value) for name, value in sorted(release["settings"].items())},
        **{f"hash of {name}": digest for name, digest in sorted(secrets.items())},
    }


def changed_settings(given: Mapping[str, Any], running: Mapping[str, Any], restored: Iterable[str]) -> list[str]:
    """Return ``NAME=VALUE (now OTHER)`` for each of the restored settings that is given with another value."""
    changed = [name for name in restored if name in running and given[name] != running[name]]
    return [f"{name}={_text(given[name])} (now {_text(running[name])})" for name in changed]


def _source(history: list[Release], document: Release) -> dict[str, Any]:
    """Return ``revision`` and ``dirty`` of the app: only a deployment takes it from the checkout."""
    same = [release for release in history if release["images"]["app"] == document["images"]["app"]]
    source = document if document["verb"] == "deploy" or not same else same[-1]
    return {name: source[name] for name in ("revision", "dirty")}


def _served(history: Iterable[Release]) -> Iterator[Release]:
    return (release for release in reversed(list(history)) if release["verdict"] == SERVING)


def _content(release: Release) -> dict[str, Any]:
    return {name: release.get(name) for name in CONTENT}


def _restorable(release: Release, restored: Iterable[str]) -> list[Any]:
    return [release["images"]["app"], *(release["settings"].get(name) for name in restored)]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


class FilterModule:
    """The filters by name, for Ansible."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Return the filters by name."""
        return {
            "with_edge": with_edge,
            "with_release": with_release,
            "running_release": running_release,
            "age_of_packages": age_of_packages,
            "earlier_release": earlier_release,
            "kept_releases": kept_releases,
            "unneeded_images": unneeded_images,
            "release_parts": release_parts,
            "changed_settings": changed_settings,
        }
