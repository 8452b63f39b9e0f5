"""Unpacked images, kept in the cache from run to run: one folder for each PostgreSQL version."""

from __future__ import annotations

import fcntl
import json
import shutil
from pathlib import Path

from lab.paths import cache_from_environment
from tests.integration.image_root import archive_of, unpack

MAJORS = ("13", "15", "17", "18")


def image_root(major: str) -> tuple[Path, dict[str, str]]:
    """The folder and the environment of a version's image."""
    archive = archive_of(f"postgres-{major}")
    inputs = json.loads(archive.with_suffix(".json").read_text())["inputs"]
    folder = cache_from_environment() / "roots"
    folder.mkdir(exist_ok=True)
    with open(folder / f"{major}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        root = folder / f"{major}-{inputs[:16]}"
        if not root.exists():
            for old in folder.glob(f"{major}-*"):
                shutil.rmtree(old)
            new = folder / f"new-{major}"
            shutil.rmtree(new, ignore_errors=True)
            image = unpack(archive, new / "root")
            (new / "environment.json").write_text(
                json.dumps(dict(x.split("=", 1) for x in image.config["Env"]))
            )
            new.rename(root)
        return root / "root", json.loads((root / "environment.json").read_text())
