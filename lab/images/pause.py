"""Owns the pause image: one static C program."""

from __future__ import annotations

import subprocess
from pathlib import Path

from lab.images.archive import Settings, write_archive, write_layer
from lab.requirements import LabError
from lab.versions import PAUSE_IMAGE

SOURCE = Path(__file__).with_name("pause.c")


def make(work: Path, target: Path) -> list[str]:
    """Compile and archive; returns the tags."""
    program = work / "pause"
    result = subprocess.run(
        ["gcc", "-Os", "-s", "-static", "-o", str(program), str(SOURCE)],
        capture_output=True,
        text=True,
    )
    if result.returncode != 0:
        raise LabError(
            f"gcc could not compile {SOURCE.name} (status {result.returncode}), install gcc and "
            f"libc6-dev: {result.stderr.strip()[-400:]}"
        )
    layer = work / "pause.tar"
    write_layer(layer, [(program, "pause")])
    write_archive(target, [layer], [PAUSE_IMAGE], Settings(entrypoint=("/pause",)))
    return [PAUSE_IMAGE]
