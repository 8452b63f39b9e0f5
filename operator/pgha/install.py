"""Owns the copy of the operator's folder into a pod (`pgha install TARGET`) and how to start it.

The init container runs this: it copies the folder the program runs from into an emptyDir that the
postgres container mounts at /pgha. Relies on the layout that `operator/bundle.py` makes; touches
nothing but the target.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

LOADER = "lib/ld-linux-x86-64.so.2"
PARTS = ("bin", "lib")
# Digests of what is in the parts; written last, so that they vouch for a complete copy.
MARKS = ("BASE", "SOURCES")
INCOMING = ".incoming"


class InstallError(Exception):
    """One sentence that says why the folder was not copied, with the remedy."""


def bundle_folder() -> Path | None:
    """The self-contained folder this program runs from; None when it runs from a checkout."""
    folder = Path(sys.prefix)
    return folder if (folder / LOADER).exists() else None


def marks_of(folder: Path) -> tuple[str, ...] | None:
    """What a complete folder says of its contents; None when it is empty or half copied."""
    try:
        return tuple((folder / mark).read_text() for mark in MARKS)
    except FileNotFoundError:
        return None


def install(target: Path, source: Path | None = None) -> None:
    """Copy the folder into the target, an existing folder; a complete copy is left alone.

    A copy cut short is seen as such by the next run and made anew, so a restarted init container
    is harmless. The two renames are not one step, but the marks come after them.
    """
    source = source or bundle_folder()
    if source is None:
        raise InstallError(
            f"`pgha install {target}` copies the self-contained folder it runs from and this is "
            f"{sys.prefix}, not one: run it from the operator image."
        )
    wanted = marks_of(source)
    if wanted is None:
        raise InstallError(
            f"The folder {source} lacks {' or '.join(MARKS)}, so it is no complete operator: build "
            "the operator image again."
        )
    if not os.access(target, os.W_OK):
        raise InstallError(
            f"The folder {target} does not exist or user {os.geteuid()} may not write to it: mount "
            "an emptyDir there and set fsGroup to the pod's group."
        )
    if marks_of(target) == wanted:
        return
    for mark in MARKS:
        (target / mark).unlink(missing_ok=True)
    incoming = target / INCOMING
    shutil.rmtree(incoming, ignore_errors=True)
    incoming.mkdir()
    for part in PARTS:
        shutil.copytree(source / part, incoming / part, symlinks=True)
    for part in PARTS:
        shutil.rmtree(target / part, ignore_errors=True)
        (incoming / part).rename(target / part)
    incoming.rmdir()
    for mark in MARKS:
        shutil.copy2(source / mark, target / mark)
