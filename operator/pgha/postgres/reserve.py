"""A little of the disk, kept for the agent's notes: votes, promises, marks go on while it is full.

Without it a member on a full disk answers no vote, and a pod that was made anew cannot mark the
directory as its own. Owns one file beside the notes; who has it freed writes at once.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

NAME = ".reserve"
SIZE = 256 * 1024  # bytes: some dozens of notes of one block each
AMPLE = 64 * 1024 * 1024  # bytes that are free when it is made: a full disk is left alone
FULL = (errno.ENOSPC, errno.EDQUOT)


class Reserve:
    """`folder` holds the notes."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME

    def keep(self) -> None:
        """Make it, where it is not there and there is ample room. No error: notes go on without."""
        try:
            if self._path.exists():
                return
            room = os.statvfs(self._path.parent)
            if room.f_bavail * room.f_frsize < AMPLE:
                return
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError:
            return
        try:
            os.posix_fallocate(fd, 0, SIZE)
        except OSError:
            self._path.unlink(missing_ok=True)
        finally:
            os.close(fd)

    def give(self) -> bool:
        """Free it for what could not be written; False if it was freed before."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True
