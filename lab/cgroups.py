"""Owns the cgroup of each node: makes it, finds a container in it, freezes, removes it.

Works with cgroup v1 hierarchies and with the unified one; only touches the lab's own names.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from lab.processes import Process, find, kill_all, wait_until

ROOT = Path("/sys/fs/cgroup")
REMOVE_SECONDS = 15.0


def unified() -> bool:
    """Whether this machine has cgroup v2 alone."""
    return (ROOT / "cgroup.controllers").exists()


def hierarchies() -> list[Path]:
    """The mount points of all cgroup hierarchies."""
    points = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.split()[0] in ("cgroup", "cgroup2"):
            points.append(Path(before.split()[4]))
    return points


def make(name: str) -> None:
    """Make the node's cgroup in every hierarchy that kubelet looks at."""
    if unified():
        controllers = " ".join(f"+{c}" for c in (ROOT / "cgroup.controllers").read_text().split())
        (ROOT / "cgroup.subtree_control").write_text(controllers)
        (ROOT / name).mkdir(exist_ok=True)
        (ROOT / name / "cgroup.subtree_control").write_text(controllers)
        return
    for hierarchy in hierarchies():
        folder = hierarchy / name
        if not os.access(hierarchy, os.W_OK):
            continue
        folder.mkdir(exist_ok=True)
        for file in ("cpuset.cpus", "cpuset.mems"):
            # A new cpuset is empty, and a process cannot enter an empty one.
            if (folder / file).exists() and not (folder / file).read_text().strip():
                (folder / file).write_text((hierarchy / file).read_text())


def processes(name: str) -> list[Process]:
    """Every process inside the node's cgroup: the node's containers."""

    def inside(folder: Path) -> bool:
        lines = (folder / "cgroup").read_text().splitlines()
        return any(line.split(":", 2)[2].startswith(f"/{name}/") for line in lines)

    return find(inside)


def kill(name: str) -> None:
    """Thaw and SIGKILL everything inside the node's cgroup."""
    thaw_all(name)
    # A container's first process may start others until it is dead itself.
    deadline_rounds = 5
    for _ in range(deadline_rounds):
        if not (found := processes(name)):
            return
        kill_all(found)


def remove(name: str) -> None:
    """Remove the node's cgroup from every hierarchy."""

    def gone() -> bool:
        for hierarchy in hierarchies():
            for folder, _, _ in os.walk(hierarchy / name, topdown=False):
                # The kernel counts a dead process as a member for some moments more.
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
        return not any((hierarchy / name).exists() for hierarchy in hierarchies())

    wait_until(gone, REMOVE_SECONDS, lambda: f"cgroup {name} is still in use")


def container(name: str, container_id: str) -> Path | None:
    """The folder of a container, where its processes are listed and frozen."""
    root = ROOT / name if unified() else ROOT / "freezer" / name
    for folder, children, _ in os.walk(root):
        for child in children:
            if container_id in child:
                return Path(folder) / child
    return None


def members(folder: Path) -> list[Process]:
    """The processes of a container, its first one first; none of one that has ended."""
    try:
        text = (folder / "cgroup.procs").read_text()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV):  # it went, perhaps while it was read
            return []
        raise
    found = (Process.of(int(line)) for line in text.split())
    return sorted((process for process in found if process), key=lambda process: process.start)


def freeze(folder: Path) -> None:
    """Stop every process of a container at once; returns when all stand still."""
    if unified():
        (folder / "cgroup.freeze").write_text("1")
        events = folder / "cgroup.events"
        wait_until(
            lambda: "frozen 1" in events.read_text(), 10, lambda: f"{folder} does not freeze", 0.005
        )
        return
    state = folder / "freezer.state"
    state.write_text("FROZEN")
    wait_until(
        lambda: state.read_text().strip() == "FROZEN",
        10,
        lambda: f"{folder} does not freeze",
        0.005,
    )


def thaw(folder: Path) -> None:
    """Let a frozen container go on."""
    if unified():
        (folder / "cgroup.freeze").write_text("0")
    else:
        (folder / "freezer.state").write_text("THAWED")


def thaw_all(name: str) -> None:
    """Let everything on the node go on."""
    root = ROOT / name if unified() else ROOT / "freezer" / name
    file = "cgroup.freeze" if unified() else "freezer.state"
    for folder, _, files in os.walk(root):
        if file in files:
            with contextlib.suppress(OSError):
                thaw(Path(folder))
