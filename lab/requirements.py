"""Checks what the lab needs from the machine and installs the Debian packages it lacks.

Everything that cannot be mended here ends in a LabError of one clear sentence.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from lab import versions
from lab.locking import locked

# Tools 0.8 GB, images 3 GB unpacked on three nodes, Go's caches, claims.
NEEDED_GIGABYTES = 15
NEEDED_GIGABYTES_BUILT = 5


class LabError(Exception):
    """A sentence that says what is missing or broken, with the value and the remedy."""


def free_gigabytes(folder: Path) -> float:
    """Free room on the disk that holds the folder, or will hold it."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free / 1e9


def check_machine(cache: Path, tools_built: bool) -> None:
    """Refuse a machine the lab cannot run on."""
    if sys.platform != "linux":
        raise LabError(
            f"The lab needs Linux (network namespaces, cgroups, loop mounts), this is "
            f"{sys.platform}: use a Linux machine or a cluster of your own (KUBECONFIG)."
        )
    if os.geteuid() != 0:
        raise LabError(
            f"The lab needs root to make network namespaces and mounts, this is user "
            f"{os.geteuid()}: run it with sudo or use a cluster of your own (KUBECONFIG)."
        )
    needed = NEEDED_GIGABYTES_BUILT if tools_built else NEEDED_GIGABYTES
    free = free_gigabytes(cache)
    if free < needed:
        raise LabError(
            f"The disk of {cache} has {free:.1f} GB free and the lab needs {needed} GB: free some "
            "room or set PGHA_CACHE to a folder on a larger disk."
        )
    if not tools_built and shutil.which("go") is None:
        raise LabError(
            "Go is missing: the cluster's tools are compiled from Go modules, so install Go 1.26 "
            "or later and put `go` on PATH."
        )


def missing_packages(names: Iterable[str]) -> list[str]:
    """Those of the Debian packages that are not installed."""
    wanted = list(names)
    query = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\\n", *wanted],
        capture_output=True,
        text=True,
    )
    installed = {
        line.split()[0] for line in query.stdout.splitlines() if line.endswith(" installed")
    }
    return [name for name in wanted if name not in installed]


def install_packages(names: Iterable[str]) -> None:
    """Install what is missing of the Debian packages; nothing is missing: does nothing."""
    wanted = list(names)
    if shutil.which("dpkg-query") is None:
        raise LabError(
            "The lab takes containerd, runc and its other system programs from Debian packages "
            "and found no dpkg here: use Debian 12 or a cluster of your own (KUBECONFIG)."
        )
    if not missing_packages(wanted):
        return
    # Two apt-get at once end in "could not get lock", so take turns.
    with locked(Path("/run/pgha-lab-apt.lock")):
        missing = missing_packages(wanted)
        if not missing:
            return
        print(f"lab: installing Debian packages {' '.join(missing)}", file=sys.stderr, flush=True)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3"]
        for command in (
            [*apt, "update"],
            [*apt, "install", "-y", "--no-install-recommends", *missing],
        ):
            result = subprocess.run(
                command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
            )
            if result.returncode != 0:
                raise LabError(
                    f"`{' '.join(command)}` failed with status {result.returncode}, so the lab "
                    f"lacks {' '.join(missing)}: {result.stderr.strip()[-800:]}"
                )


def install_cluster_packages() -> None:
    """What `python -m lab up` needs beside the tools."""
    install_packages(versions.CLUSTER_PACKAGES)
