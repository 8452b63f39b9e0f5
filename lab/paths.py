"""Owns the layout of the cache folder: where each part of the lab keeps its files.

Only names paths; creating and deleting is the business of the part that owns a folder.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def cache_from_environment() -> Path:
    """The cache folder that PGHA_CACHE names, else ~/.cache/pgha."""
    named = os.environ.get("PGHA_CACHE")
    return Path(named).absolute() if named else Path.home() / ".cache" / "pgha"


@dataclass(frozen=True)
class Cache:
    """The folders below the cache that outlive a cluster."""

    root: Path

    @property
    def venv(self) -> Path:
        return self.root / "venv"

    @property
    def bin(self) -> Path:
        return self.root / "bin"

    @property
    def images(self) -> Path:
        return self.root / "images"

    @property
    def pulumi(self) -> Path:
        return self.root / "pulumi"

    def run(self, lab_name: str) -> Path:
        """The run state of the cluster of that name; `down` removes it whole."""
        return self.root / lab_name
