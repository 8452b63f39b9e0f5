"""Harm to disks: frozen, full, emptied, and a copy that is killed again and again."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from lab.requirements import LabError
from tests.chaos.harm.processes import AGENT, Harm, container
from tests.support.postgres import Cluster, Pod

VOLUME = "/var/lib/postgresql/data"
KILLS, KILL_WITHIN = 2, 40.0  # how often a copy is killed; seconds to see it begin


def volume(cluster: Cluster, pod: Pod) -> Path:
    """The pod's volume as this machine sees it."""
    agent = container(cluster, pod).processes(AGENT)[0]
    return Path(f"/proc/{agent.pid}/root{VOLUME}")


def disk(cluster: Cluster, pod: Pod) -> str:
    """Where the file system of the pod's volume is mounted on this machine.

    By its device number: a path into another mount namespace leads `findmnt` to the root disk.
    """
    agent = container(cluster, pod).processes(AGENT)[0]
    inside = {point: device for device, point in _mounts(agent.pid)}
    found = [point for device, point in _mounts() if device == inside[VOLUME]]
    below = str(cluster.lab.layout.cache.root)
    assert found and found[0].startswith(below), f"{found} is no disk that the lab made in {below}"
    return found[0]


def _mounts(pid: int | None = None) -> list[tuple[str, str]]:
    """(device number, mount point) of each mount (proc_pid_mountinfo(5))."""
    lines = Path(f"/proc/{pid or 'self'}/mountinfo").read_text().splitlines()
    return [(fields[2], fields[4]) for fields in map(str.split, lines)]


@contextlib.contextmanager
def disk_frozen(cluster: Cluster, primary: Pod) -> Iterator[None]:
    target = disk(cluster, primary)
    subprocess.run(["fsfreeze", "--freeze", target], check=True)
    try:
        yield
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", target], check=False)


@contextlib.contextmanager
def disk_full(cluster: Cluster, primary: Pod) -> Iterator[None]:
    """Not one byte is left on the primary's volume."""
    filler = volume(cluster, primary) / "filler"
    handle = os.open(filler, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        size = 0
        for piece in (1 << 26, 1 << 20, 4096):  # allocated, so that it takes no time
            with contextlib.suppress(OSError):
                while True:
                    os.posix_fallocate(handle, size, piece)
                    size += piece
        yield
    finally:
        # By its descriptor: the pod, and with it the way to the file, may be another by now.
        os.ftruncate(handle, 0)
        os.close(handle)
        with contextlib.suppress(OSError, LabError, IndexError):
            (volume(cluster, cluster.pod(primary.name)) / "filler").unlink(missing_ok=True)


def emptied(standby: bool) -> Harm:
    """Everything on a member's volume is removed beneath its running PostgreSQL."""

    @contextlib.contextmanager
    def harm(cluster: Cluster, primary: Pod) -> Iterator[None]:
        _empty(cluster, random.choice(cluster.replicas()) if standby else primary)
        yield

    return harm


def _empty(cluster: Cluster, pod: Pod) -> None:
    for path in volume(cluster, pod).iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    container(cluster, pod).signal(signal.SIGKILL, "config_file", first=True)


@contextlib.contextmanager
def copy_killed(cluster: Cluster, primary: Pod) -> Iterator[None]:
    """A standby loses its data, and its container dies in the middle of each of two clones."""
    pod = random.choice(cluster.replicas())
    _empty(cluster, pod)
    deadline, kills = time.monotonic() + KILL_WITHIN, 0
    while kills < KILLS and time.monotonic() < deadline:
        with contextlib.suppress(LabError, AssertionError):
            inside = container(cluster, cluster.pod(pod.name))
            if inside.processes("pg_basebackup"):
                kills += len(inside.signal(signal.SIGKILL, AGENT, first=True))
        time.sleep(0.02)
    assert kills, f"no clone of {pod.name} was seen in {KILL_WITHIN:.0f} s"
    yield
