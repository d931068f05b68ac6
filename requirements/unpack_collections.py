"""Unpack the collections of collections.yml from the wheel of ``ansible`` into the environment that runs this.

Usage: ``python unpack_collections.py WHEEL``. What is there already of these collections is replaced.
"""

from __future__ import annotations

import shutil
import sys
import sysconfig
from pathlib import Path
from zipfile import ZipFile

import yaml


def main() -> None:
    """Unpack; exit with a message when the wheel lacks a collection."""
    names = yaml.safe_load(Path(__file__).with_name("collections.yml").read_text())["collections"]
    site = Path(sysconfig.get_path("purelib"))
    with ZipFile(sys.argv[1]) as wheel:
        for name in names:
            directory = "ansible_collections/" + name.replace(".", "/") + "/"
            files = [file for file in wheel.namelist() if file.startswith(directory)]
            if not files:
                sys.exit(f"{sys.argv[1]} has no collection {name}")
            shutil.rmtree(site / directory, ignore_errors=True)
            wheel.extractall(site, files)


if __name__ == "__main__":
    main()
