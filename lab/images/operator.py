"""Owns the operator image: the folder /pgha that an init container copies into a pod.

Two layers: `base` (interpreter, libraries, wheels; made in a bare Debian root, kept in the cache)
and `sources` (the pgha package of the checkout, remade within a second or two). What is in the
folder is `operator/bundle.py`'s business.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.images.archive import Settings, write_archive, write_layer
from lab.images.debian import Root, mmdebstrap, options_of
from lab.images.stamps import Stamp, digest_inputs, read_stamp, write_stamp
from lab.paths import REPOSITORY
from lab.requirements import LabError

TAG = "docker.io/pgha/operator:dev"
FOLDER = REPOSITORY / "operator"
BUNDLE = FOLDER / "bundle.py"
REQUIREMENTS = FOLDER / "requirements.txt"
PACKAGE = FOLDER / "pgha"

PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
PYTHON_ROOT = Root(
    suite="bookworm",
    packages=("python3.11", "libstdc++6", "busybox-static"),
    variant="extract",
)
# The programs that `sh` scripts and a person looking around in the image may want.
APPLETS = ("sh", "cat", "ls", "env")
SETTINGS = Settings(
    environment={"PATH": "/pgha/bin:/bin", "LANG": "C.UTF-8"},
    user="999:999",
    entrypoint=("/pgha/bin/pgha",),
)


def base_inputs() -> str:
    """Digest of what the base layer is made from."""
    return digest_inputs([*options_of(PYTHON_ROOT), repr(APPLETS)], [BUNDLE, REQUIREMENTS])


def inputs() -> str:
    """Digest of what the whole image is made from."""
    files = [
        file
        for file in PACKAGE.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    ]
    return digest_inputs([base_inputs(), repr(SETTINGS)], files, PACKAGE)


def make(layers: Path, work: Path, target: Path) -> list[str]:
    """Build the archive, reusing the base layer when its inputs are the same; returns the tags."""
    layers.mkdir(parents=True, exist_ok=True)
    base = layers / "operator-base.tar"
    stamp = read_stamp(base)
    if stamp is None or stamp.inputs != base_inputs():
        unfinished = work / "base.tar"
        make_base_layer(work, unfinished)
        unfinished.replace(base)
        write_stamp(base, Stamp(base_inputs(), []))
    sources = work / "sources.tar"
    make_sources_layer(work, sources)
    write_archive(target, [base, sources], [TAG], SETTINGS)
    return [TAG]


def make_base_layer(work: Path, target: Path) -> None:
    """Interpreter, libraries and wheels, and a shell to start them with."""
    root = work / "root"
    mmdebstrap(PYTHON_ROOT, root)
    # The archive's address has no business in an image.
    (root / "etc/apt/sources.list").unlink(missing_ok=True)
    wheels = root / "wheels"
    _run(
        "the wheels of operator/requirements.txt",
        [
            *(sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check"),
            *("--only-binary", ":all:", "--python-version", "3.11", "--implementation", "cp"),
            *(option for name in PLATFORMS for option in ("--platform", name)),
            *("-d", str(wheels), "-r", str(REQUIREMENTS)),
        ],
    )
    (root / "bundle.py").write_bytes(BUNDLE.read_bytes())
    (root / "pgha").mkdir()
    _run(
        "the folder /pgha",
        [
            *("chroot", str(root), "/usr/bin/python3.11", "-I", "/bundle.py"),
            *("base", "/pgha", "--wheels", "/wheels"),
        ],
    )
    system = work / "system"
    for folder in ("bin", "etc", "operator", "tmp"):
        (system / folder).mkdir(parents=True)
    (system / "tmp").chmod(0o1777)
    (system / "etc/passwd").write_text("postgres:x:999:999:PostgreSQL:/tmp:/bin/sh\n")
    (system / "etc/group").write_text("postgres:x:999:\n")
    (system / "bin/busybox").write_bytes((root / "bin/busybox").read_bytes())
    (system / "bin/busybox").chmod(0o755)
    for applet in APPLETS:
        (system / "bin" / applet).symlink_to("busybox")
    folders = ("bin", "etc", "operator", "tmp")
    write_layer(target, [(root / "pgha", "pgha"), *((system / name, name) for name in folders)])


def make_sources_layer(work: Path, target: Path) -> None:
    """The pgha package of the checkout."""
    folder = work / "sources"
    _run(
        "the sources layer",
        [
            *(sys.executable, "-I", str(BUNDLE), "sources", str(folder)),
            *("--package", str(PACKAGE)),
        ],
    )
    place = "lib/python3.11/pgha"
    write_layer(
        target, [(folder / place, f"pgha/{place}"), (folder / "SOURCES", "pgha/SOURCES")]
    )


def _run(what: str, command: Sequence[str]) -> None:
    result = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if result.returncode != 0:
        raise LabError(
            f"Making {what} of the operator image failed: `{' '.join(command[:6])} ...` ended with "
            f"status {result.returncode}: {result.stdout.strip()[-1200:]}"
        )
