"""Owns the disks behind the lab's volumes: sparse files with XFS, loop-mounted below one folder.

Each volume is a folder NAME with `disk.img` and the mount point `data`. Every function may be
called again after it was cut short. Knows nothing of Kubernetes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

# XFS refuses smaller ones.
SMALLEST = 300 * 1024 * 1024


class DiskError(Exception):
    """A command that a disk needed failed; the text says which, and what it printed."""


def run(*command: str) -> str:
    """Run a command for its output."""
    result = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    if result.returncode != 0:
        raise DiskError(
            f"`{' '.join(command)}` ended with status {result.returncode}: "
            f"{result.stderr.strip()[-300:]}"
        )
    return result.stdout


def mounts_below(folder: Path) -> list[Path]:
    """Mount points below a folder, deepest and newest first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        # Spaces in a mount point are written as octal escapes.
        point = Path(line.split()[4].encode().decode("unicode_escape"))
        if folder in point.parents:
            found.append(point)
    return sorted(reversed(found), key=lambda point: -len(point.parts))


def loop_devices(below: Path) -> dict[Path, list[str]]:
    """Backing file -> loop devices, for the files below a folder, also deleted ones."""
    printed = run("losetup", "--list", "--json", "--output", "NAME,BACK-FILE")
    devices: dict[Path, list[str]] = {}
    for entry in json.loads(printed)["loopdevices"] if printed.strip() else []:
        file = Path((entry["back-file"] or "").removesuffix(" (deleted)"))
        if below in file.parents:
            devices.setdefault(file, []).append(entry["name"])
    return devices


@dataclass(frozen=True)
class Disks:
    """All disks below one folder."""

    root: Path

    def names(self) -> list[str]:
        """The volumes that have a folder, whole or not."""
        if not self.root.is_dir():
            return []
        return sorted(entry.name for entry in self.root.iterdir() if entry.is_dir())

    def file(self, name: str) -> Path:
        return self.root / name / "disk.img"

    def mount_point(self, name: str) -> Path:
        return self.root / name / "data"

    def mounted(self, name: str) -> bool:
        return self.mount_point(name) in mounts_below(self.root)

    def provide(self, name: str, size: int) -> int:
        """Make the disk if it is not there, mount it; returns its size in bytes."""
        file = self.file(name)
        point = self.mount_point(name)
        # Without its disk the mount point takes no writes, rather than the wrong disk.
        point.mkdir(parents=True, exist_ok=True, mode=0o000)
        if not file.exists():
            unfinished = file.with_name("disk.unfinished")
            with unfinished.open("wb") as handle:
                handle.truncate(max(size, SMALLEST))
            run("mkfs.xfs", "-q", "-f", str(unfinished))
            unfinished.rename(file)
        if not self.mounted(name):
            run("mount", "-t", "xfs", "-o", "loop,nodev,nosuid", str(file), str(point))
            os.chmod(point, 0o777)
        return file.stat().st_size

    def grow(self, name: str, size: int) -> int:
        """Grow the mounted disk to at least the size; returns its size in bytes."""
        file = self.file(name)
        if file.stat().st_size < size:
            os.truncate(file, size)
        for device in loop_devices(self.root).get(file, []):
            run("losetup", "--set-capacity", device)
        run("xfs_growfs", str(self.mount_point(name)))
        return file.stat().st_size

    def remove(self, name: str) -> None:
        """Unmount and delete a disk; raises DiskError while somebody uses it."""
        if self.mounted(name):
            run("umount", str(self.mount_point(name)))
        shutil.rmtree(self.root / name)

    def remove_all(self) -> None:
        """Take everything away, used or not, frozen or not."""
        for point in mounts_below(self.root):
            # A frozen file system would keep its device for ever; most are not frozen.
            subprocess.run(["fsfreeze", "--unfreeze", str(point)], capture_output=True)
            run("umount", "--lazy", str(point))
        for devices in loop_devices(self.root).values():
            for device in devices:
                # Detached by the last unmount already, or as soon as the last user is gone.
                subprocess.run(["losetup", "--detach", device], capture_output=True)
        shutil.rmtree(self.root, ignore_errors=True)
