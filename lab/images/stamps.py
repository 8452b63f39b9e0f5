"""Owns the record beside each archive: from which inputs it was made and what is inside."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Stamp:
    """What is known of an archive without opening it."""

    inputs: str
    tags: list[str]
    # PostgreSQL's major and full version, empty for the other images.
    major: str = ""
    version: str = ""


def stamp_file(archive: Path) -> Path:
    """Where an archive's stamp is kept."""
    return archive.with_suffix(".json")


def read_stamp(archive: Path) -> Stamp | None:
    """The stamp of a complete archive; None when there is none, or no archive."""
    if not archive.exists():
        return None
    try:
        return Stamp(**json.loads(stamp_file(archive).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        # Unfinished or of an older layout of this file: build again.
        return None


def write_stamp(archive: Path, stamp: Stamp) -> None:
    """Written last, so that an interrupted build is seen as stale."""
    unfinished = stamp_file(archive).with_suffix(".json.unfinished")
    unfinished.write_text(json.dumps(asdict(stamp), indent=1) + "\n")
    unfinished.replace(stamp_file(archive))


def digest_inputs(
    texts: Iterable[str], files: Iterable[Path] = (), base: Path | None = None
) -> str:
    """A digest that changes when any text, file name or file content does."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    for file in sorted(files):
        name = str(file.relative_to(base)) if base else file.name
        content = file.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()
