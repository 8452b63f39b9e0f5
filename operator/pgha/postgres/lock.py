"""The lock on the volume of the data directory: who gets it knows that nobody else works there.

flock(2) on a file beside the notes. Every program that writes in the directory inherits it, so that
it is free only once all of them are gone, those of a former pod of this name too. It speaks for the
processes of one kernel, and only where one kernel alone may have the file system mounted: anywhere
else there is no lock, and the owner mark has to grow old (amendment 11).
"""

from __future__ import annotations

import enum
import fcntl
import os
from pathlib import Path

from pgha.clock import boot_id

NAME = ".lock"
# Their block device is this kernel's own. Network file systems, FUSE and what virtual machines
# share with their host may give the same lock to two kernels, or keep that of a dead one for ever.
LOCAL = frozenset({"ext3", "ext4", "xfs", "f2fs"})
MOUNTS = Path("/proc/self/mountinfo")


class Lock(enum.Enum):
    OURS = "ours"
    TAKEN = "taken"  # a process of this kernel that is not ours works in the directory
    NONE = "none"  # it says nothing here


class DirectoryLock:
    """One for the whole life of the agent: what is inherited is this very open file (open(2)).

    `place`: which file of which kernel it is, for the owner mark. Whoever has the lock at the same
    place knows that the mark's owner, who had it before, is gone.
    """

    def __init__(self, folder: Path, mounts: Path = MOUNTS) -> None:
        """`folder` holds the notes. No error: without a lock the mark alone decides."""
        self.fd: int | None = None
        self.place: str | None = None
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            fd = os.open(folder / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        if place := _place(fd, mounts):
            self.fd, self.place = fd, place
        else:
            os.close(fd)

    def take(self) -> Lock:
        """Get it, or have it already."""
        if self.fd is None:
            return Lock.NONE
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return Lock.TAKEN
        except OSError:
            return Lock.NONE
        return Lock.OURS


def _place(fd: int, mounts: Path) -> str | None:
    """None where two kernels may have the file, or that cannot be told."""
    try:
        found = os.fstat(fd)
        if file_system(mounts.read_text(errors="surrogateescape"), found.st_dev) in LOCAL:
            return f"{boot_id()} {found.st_dev} {found.st_ino}"
    except OSError:
        pass
    return None


def file_system(mounts: str, device: int) -> str | None:
    """The type of the file system on that device, as mountinfo tells (proc(5)); None: not told."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts.splitlines():
        head, _, tail = line.partition(" - ")
        fields, kind = head.split(), tail.split()
        if len(fields) > 2 and fields[2] == wanted and kind:
            return kind[0]
    return None
