"""The documentation: its tables, links, pictures and error messages are those of the project."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from support.ansible import ROOT, load

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "app/README.md")),
    *sorted(ROOT.glob("roles/*/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
# What prints messages, without comments.
SOURCES = [
    re.sub(r"\s+", " ", re.sub(r"^\s*#.*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE))
    for pattern in (
        "playbooks/*.yml",
        "roles/**/*.yml",
        "roles/**/*.py",
        "roles/**/*.j2",
        "plugins/**/*.py",
        "app/counter/**/*.py",
        "redis_node/**/*.py",
        "redis_node/hold-volume",
        "counter",
    )
    for path in sorted(ROOT.glob(pattern))
]
# The directories whose files may name pages.
PARTS = "app backup hooks inventory launcher molecule playbooks plugins redis_node roles templates tests".split()
# What differs from one message to the next.
VARIES = re.compile(r"\.\.\.|\b(?:\w+=)?[A-Z]{4,}\b|\b[NM]\b")


def generate(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, root / "docs/generate.py", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def copy_sources(target: Path) -> None:
    """Copy what the tables are made from, and the pages."""
    for part in ("app", "docs", "keeper", "launcher", "roles", "molecule"):
        shutil.copytree(ROOT / part, target / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "README.md", target)


def test_the_tables_are_those_of_the_roles() -> None:
    done = generate(ROOT, "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_scenario_shows_a_feature() -> None:
    features = yaml.safe_load((ROOT / "molecule/features.yml").read_text(encoding="utf-8"))
    shown = {scenario for scenarios in features["features"].values() for scenario in scenarios}
    assert shown == {path.parent.name for path in ROOT.glob("molecule/*/molecule.yml")}
    assert not [page for page in features["untested"] if not (ROOT / "docs" / page).exists()]


def test_the_map_of_failures_shows_what_was_measured_and_nothing_else(tmp_path: Path) -> None:
    copy_sources(tmp_path)
    page, measured = tmp_path / "docs/topologies.md", tmp_path / "docs/measured.md"
    text = measured.read_text(encoding="utf-8")
    measured.write_text(text.replace("| a primary frozen for 10 s | 10.7 |", "| a primary frozen for 10 s | 99.8 |"))
    done = generate(tmp_path)
    assert done.returncode == 0, done.stderr
    frozen = next(line for line in page.read_text(encoding="utf-8").splitlines() if "frozen" in line)
    assert "goes on after a failover: 3.0 s | counters of that pair wait: 99.8 s |" in frozen
    assert "| waits (not measured) |" in frozen
    measured.write_text(text.replace("| a primary frozen for 10 s | 10.7 |", "| a primary frozen | 10.7 |"))
    done = generate(tmp_path)
    assert done.returncode != 0
    assert "'`cluster` > a primary frozen for 10 s' names 0 rows with a gap of cluster, not one" in done.stderr


def test_a_changed_default_is_noticed_and_written(tmp_path: Path) -> None:
    copy_sources(tmp_path)
    defaults = tmp_path / "roles/settings/defaults/main.yml"
    defaults.write_text(
        defaults.read_text(encoding="utf-8").replace("\nreplicas: 4\n", "\nreplicas: 5\n"), encoding="utf-8"
    )
    page = tmp_path / "docs/settings.md"
    before = page.read_text(encoding="utf-8")
    done = generate(tmp_path, "--check")
    assert done.returncode == 1
    assert "+Number of app replicas. Default: `5`." in done.stdout
    assert page.read_text(encoding="utf-8") == before
    assert generate(tmp_path).returncode == 0
    assert generate(tmp_path, "--check").returncode == 0
    assert "Default: `5`. Allowed: 1 to 64." in page.read_text(encoding="utf-8")


def test_a_setting_without_a_sentence_is_refused(tmp_path: Path) -> None:
    copy_sources(tmp_path)
    with (tmp_path / "roles/settings/defaults/main.yml").open("a", encoding="utf-8") as defaults:
        defaults.write("\nsilent: 1\n")
    done = generate(tmp_path, "--check")
    assert done.returncode != 0
    assert "no comment describes silent" in done.stderr


def anchors(page: Path) -> set[str]:
    """Return the names of the headings of a page, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def in_all_pages(pattern: str) -> list[tuple[Path, str]]:
    """Return what is found in the pages, each with its page."""
    return [(page, found) for page in PAGES for found in re.findall(pattern, page.read_text(encoding="utf-8"))]


def leads_somewhere(page: Path, target: str) -> bool:
    path, _, anchor = target.partition("#")
    found = (page.parent / path).resolve() if path else page
    return found.exists() and (not anchor or anchor in anchors(found))


def test_links_lead_somewhere() -> None:
    found = in_all_pages(r"\]\(([^)\s]+)\)") + in_all_pages(r' (?:src|srcset)="([^"]+)"')
    links = [(page, target) for page, target in found if "://" not in target]
    assert len(links) > 100
    assert [link for link in links if not leads_somewhere(*link)] == []


def test_paths_exist() -> None:
    tops = "|".join(re.escape(path.name) for path in ROOT.iterdir() if path.is_dir() and path.name != "reports")
    named = {path for _, path in in_all_pages(rf"`((?:{tops})/[\w./-]+)`")} - {"inventory/hosts.yml"}
    # In the name of a file that the reader makes, capitals stand for what the reader chooses.
    assert [path for path in named if not re.search(r"[A-Z]{4}", path) and not (ROOT / path).exists()] == []


def test_every_page_is_reached_from_the_index() -> None:
    assert "](docs/README.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\((\w[\w-]*\.md)", (ROOT / "docs/README.md").read_text(encoding="utf-8")))
    assert linked == {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}


def test_links_of_the_program_lead_somewhere() -> None:
    """The files that print messages or explain themselves name pages, and their headings, from the project's root."""
    found = [
        (str(path.relative_to(ROOT)), target)
        for folder in PARTS
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in (".py", ".yml", ".j2", ".example", "")
        if path.is_file() and "/." not in str(path.relative_to(ROOT))
        for target in re.findall(r"\bdocs/[\w-]+\.md(?:#[\w-]+)?", path.read_text(encoding="utf-8", errors="ignore"))
    ]
    assert len(found) > 20
    assert [(name, target) for name, target in found if not leads_somewhere(ROOT / "README.md", target)] == []


def test_drawings_are_those_of_their_texts() -> None:
    drawn = load("docs/pictures.py").drawings()
    assert drawn
    stored = {name: (ROOT / "docs/pictures" / name).read_text(encoding="utf-8") for name in drawn}
    older = [name for name in drawn if drawn[name] != stored[name]]
    assert not older, "docs/pictures.py draws them"


def test_the_drawn_ports_are_those_of_the_requirements() -> None:
    """Those without TCP or UDP are reached only within the stack's own networks."""
    drawing = (ROOT / "docs/pictures/three-servers.svg").read_text(encoding="utf-8")
    drawn = {
        port
        for text in re.findall(r'class="port[^>]*>([^<]*(?:TCP|UDP)[^<]*)', drawing)
        for port in re.findall(r"\d+", text)
    }
    rows = (ROOT / "docs/requirements.md").read_text(encoding="utf-8").partition("## Ports")[2].partition("\n\n")[2]
    always = re.findall(r"^\| .* \| (?:always|with HTTPS|with several \w+) \|$", rows, re.MULTILINE)
    assert drawn == {port for row in always for port in re.findall(r"\d+", row)}


def test_pictures_are_small() -> None:
    for picture in (ROOT / "docs/pictures").iterdir():
        # A recording is an SVG with a copy of the screen for each frame.
        assert picture.stat().st_size < (300_000 if picture.suffix == ".svg" else 200_000), picture.name


def test_a_recording_has_no_long_pauses_and_ends_in_time() -> None:
    def moments(*times: float) -> list[float]:
        recording = ["{}", *(json.dumps([time, "o", "x"]) for time in times)]
        return [
            json.loads(line)[0] for line in load("docs/recording.py").shortened("\n".join(recording)).splitlines()[1:]
        ]

    assert moments(1, 2, 60) == [1, 2, 4]
    assert moments(*range(1, 91)) == [each / 2 for each in range(1, 91)]


def test_the_readme_names_the_supported_distributions() -> None:
    table = yaml.safe_load((ROOT / "roles/docker_host/vars/main/platforms.yml").read_text(encoding="utf-8"))
    needs = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Quick start")[0]
    requirements = (ROOT / "docs/requirements.md").read_text(encoding="utf-8")
    for platform in table["docker_host_platforms"]:
        name, _, number = platform.partition(" ")
        assert name in needs
        assert number in needs
        assert platform in requirements


def quoted_messages() -> list[str]:
    """Return the messages that docs/troubleshooting.md explains: in a list, or at the beginning of a paragraph."""
    page = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    named = re.findall(r"^(?:- )?(`[^`]+`):|(?:says|logs) (`[^`]+`(?:\s+or\s+`[^`]+`)?)", page, re.MULTILINE)
    return [" ".join(message.split()) for each in named for message in re.findall(r"`([^`]+)`", "".join(each))]


def is_printed(message: str) -> bool:
    """Return if one file has all of a message that does not vary."""
    fixed = [piece for part in VARIES.split(message) if len(piece := part.strip(" :()")) > 3]
    return bool(fixed) and any(all(piece in source for piece in fixed) for source in SOURCES)


def test_messages_are_those_that_the_project_prints() -> None:
    assert len(quoted_messages()) > 40
    assert [message for message in quoted_messages() if not is_printed(message)] == []
