"""Owns nothing; removes the mounts that daemons leave below a folder of the lab."""

from __future__ import annotations

import subprocess
from pathlib import Path

from lab.requirements import LabError


def below(folder: Path) -> list[Path]:
    """The mount points at or below the folder, innermost first."""
    points = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        # Blanks and the like are written in octal.
        text = line.split()[4].encode().decode("unicode_escape")
        point = Path(text)
        if point == folder or folder in point.parents:
            points.append(point)
    return list(reversed(points))


def unmount_below(folder: Path) -> None:
    """Unmount all of them; a busy one is detached, since its users are dead or dying."""
    for point in below(folder):
        answer = subprocess.run(["umount", str(point)], capture_output=True, text=True)
        if answer.returncode != 0:
            subprocess.run(["umount", "--lazy", str(point)], capture_output=True)
    if left := below(folder):
        raise LabError(f"Cannot unmount {', '.join(map(str, left))}: find who uses it with fuser.")
