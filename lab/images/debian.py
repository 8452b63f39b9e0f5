"""Owns the making of Debian root file systems with mmdebstrap, from the machine's own archive.

The archive's address is read from the machine's apt configuration each time and kept nowhere.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.requirements import LabError

MAIN_LABEL = "Debian"
SECURITY_LABEL = "Debian-Security"

# Nothing of this is needed to run a server in a container.
EXCLUDED = (
    "/usr/share/doc/*",
    "/usr/share/info/*",
    "/usr/share/lintian/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
)


@dataclass(frozen=True)
class Root:
    """One root file system to be made; every field is an input of the build."""

    suite: str
    packages: Sequence[str]
    security: bool = True
    variant: str = "minbase"
    excluded: Sequence[str] = EXCLUDED
    essential_hooks: Sequence[str] = ()
    customize_hooks: Sequence[str] = ()


def archive_addresses(printed: str) -> dict[str, str]:
    """Label of a Debian archive -> its address, from the lines `label|address` that apt printed."""
    addresses: dict[str, str] = {}
    for line in printed.splitlines():
        label, _, address = line.partition("|")
        if address:
            addresses.setdefault(label, address)
    return addresses


def machine_archives() -> dict[str, str]:
    """The Debian archives this machine's apt is configured with, by label."""
    named = os.environ.get("PGHA_DEBIAN_MIRROR")
    if named:
        return {MAIN_LABEL: named}
    result = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(LABEL)|$(SITE)", "Created-By: Packages"],
        capture_output=True,
        text=True,
    )
    addresses = archive_addresses(result.stdout)
    if MAIN_LABEL not in addresses:
        raise LabError(
            "No Debian archive is known to this machine's apt, so no image can be built: run "
            "`apt-get update` on a Debian machine or set PGHA_DEBIAN_MIRROR to an archive's address"
            f" ({result.stderr.strip()[-200:] or 'apt listed ' + (result.stdout or 'nothing')})."
        )
    return addresses


def source_lines(root: Root, archives: Mapping[str, str]) -> list[str]:
    """The lines of sources.list for a suite."""
    lines = [f"deb {archives[MAIN_LABEL]} {root.suite} main"]
    if root.security and SECURITY_LABEL in archives:
        lines.append(f"deb {archives[SECURITY_LABEL]} {root.suite}-security main")
    return lines


def options_of(root: Root) -> list[str]:
    """The options of mmdebstrap for a root; with the suite, all that decides what it makes."""
    options = ["--mode=root", f"--variant={root.variant}", "--skip=output/dev,cleanup/run"]
    options += [f"--include={','.join(root.packages)}"]
    # An image may be made from an archive's snapshot; forky's own index ages quickly.
    options += ['--aptopt=Acquire::Check-Valid-Until "false"']
    options += ['--aptopt=Apt::Install-Recommends "false"']
    options += ['--aptopt=Acquire::Languages "none"', '--aptopt=Acquire::Retries "3"']
    options += ["--dpkgopt=force-confold"]
    options += [f"--dpkgopt=path-exclude={pattern}" for pattern in root.excluded]
    options += [f"--essential-hook={hook}" for hook in root.essential_hooks]
    options += [f"--customize-hook={hook}" for hook in root.customize_hooks]
    return options


def mmdebstrap(root: Root, target: Path) -> None:
    """Make the root file system as a folder or, when the target ends in .tar, as a tar."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    sources = "\n".join(source_lines(root, machine_archives())) + "\n"
    command = ["mmdebstrap", *options_of(root), root.suite, str(target), "-"]
    with tempfile.TemporaryFile("w+") as log:
        result = subprocess.run(
            ["nice", "-n", "10", *command],
            input=sources,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if result.returncode != 0:
            log.seek(0)
            raise LabError(
                f"mmdebstrap of {root.suite} with {', '.join(root.packages)} ended with status "
                f"{result.returncode}; if the archive was out of reach, try again: "
                f"{log.read().strip()[-1500:]}"
            )
