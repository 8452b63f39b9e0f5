"""What the agent takes from and leaves in its own container: a lock, its last words, the image's
PostgreSQL."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path

TERMINATION_LOG = Path("/dev/termination-log")


def take_lock(path: Path) -> int | None:
    """An exclusive lock that PostgreSQL inherits: got only when every former process is gone."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.set_inheritable(fd, True)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    return fd


def say_who_dies(incarnation: str) -> None:
    """Make kubelet's report of this container's end name the incarnation (amendment 12)."""
    try:
        TERMINATION_LOG.write_text(incarnation)
    except OSError as e:
        print(f"no termination log: {e}", file=sys.stderr)


def postgres_bin() -> Path:
    """The folder of the image's PostgreSQL programs, from PATH."""
    for folder in os.environ.get("PATH", "").split(":"):
        if folder and (Path(folder) / "initdb").exists():
            return Path(folder).resolve()
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        raise SystemExit(
            "this image has no PostgreSQL (no initdb on PATH or under /usr/lib/postgresql): "
            "set `version` or `image` to an official postgres image"
        )
    return found[-1].parent
