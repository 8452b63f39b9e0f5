"""The image that brings Patroni into a pod: the same technique as the operator's own image.

Owns the folder /patroni: an interpreter with its libraries and Patroni's wheels (from the locked
requirements/patroni.txt), made in the cache. An init container copies it into an emptyDir and the
stock PostgreSQL image runs it, so that both systems run the very same PostgreSQL image. Nothing of
it is kept in the repository.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lab.cluster import Lab
from lab.images.archive import Settings, write_archive, write_layer
from lab.images.debian import mmdebstrap
from lab.images.operator import APPLETS, BUNDLE, PYTHON_ROOT
from lab.images.stamps import Stamp, digest_inputs, read_stamp, write_stamp
from lab.paths import REPOSITORY
from lab.requirements import LabError

TAG = "docker.io/lab/patroni:bench"
REQUIREMENTS = REPOSITORY / "requirements" / "patroni.txt"
SCRIPT = """#!/bin/sh
here=${0%/*}
exec "$here/python3.11" -I -S -m patroni "$@"
"""
SETTINGS = Settings(environment={"PATH": "/bin"}, user="999:999")


def build(cache: Path) -> Path:
    """The archive; made only when its inputs changed."""
    target = cache / "bench" / "patroni.tar"
    target.parent.mkdir(parents=True, exist_ok=True)
    inputs = digest_inputs([SCRIPT, repr(SETTINGS)], [BUNDLE, REQUIREMENTS, Path(__file__)])
    stamp = read_stamp(target)
    if stamp is not None and stamp.inputs == inputs:
        return target
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        work = Path(folder)
        root = work / "root"
        mmdebstrap(PYTHON_ROOT, root)
        (root / "etc/apt/sources.list").unlink(missing_ok=True)
        # Wheels, not downloads: one dependency is published as source alone.
        _run(
            [*(sys.executable, "-m", "pip", "wheel", "-q", "--disable-pip-version-check"),
             *("--require-hashes", "-r", str(REQUIREMENTS), "-w", str(root / "wheels"))]
        )  # fmt: skip
        (root / "bundle.py").write_bytes(BUNDLE.read_bytes())
        (root / "patroni").mkdir()
        _run(
            [*("chroot", str(root), "/usr/bin/python3.11", "-I", "/bundle.py"),
             *("base", "/patroni", "--wheels", "/wheels")]
        )  # fmt: skip
        script = root / "patroni/bin/patroni"
        script.write_text(SCRIPT)
        script.chmod(0o755)
        (root / "patroni/bin/pgha").unlink()
        system = work / "system"
        (system / "bin").mkdir(parents=True)
        (system / "bin/busybox").write_bytes((root / "bin/busybox").read_bytes())
        (system / "bin/busybox").chmod(0o755)
        for applet in (*APPLETS, "cp"):
            (system / "bin" / applet).symlink_to("busybox")
        layer = work / "layer.tar"
        write_layer(layer, [(root / "patroni", "patroni"), (system / "bin", "bin")])
        write_archive(target, [layer], [TAG], SETTINGS)
    write_stamp(target, Stamp(inputs, [TAG]))
    return target


def load(lab: Lab) -> None:
    """Build it and import it into the nodes that do not have it."""
    archive = build(lab.layout.cache.root)
    for node in lab.nodes:
        node.import_images([archive])


def _run(command: Sequence[str]) -> None:
    result = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    if result.returncode != 0:
        raise LabError(
            f"Making the image {TAG} failed: `{' '.join(command[:6])} ...` ended with status "
            f"{result.returncode}: {result.stdout.strip()[-1200:]}"
        )
