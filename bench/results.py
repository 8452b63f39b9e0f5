"""Where results are kept: files of lines, each one JSON object. Owns that form, no figure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def keep(file: Path, what: Row) -> None:
    with file.open("a") as out:
        out.write(json.dumps(what) + "\n")


def read(folder: Path, name: str) -> list[Row]:
    """All rows of the files of that name below a folder, in the order they were made."""
    lines = [x for file in sorted(folder.rglob(name)) for x in file.read_text().splitlines()]
    return [json.loads(line) for line in lines]
