"""A disk that hangs: a loop-mounted file system which the parent process freezes when asked.

Inside an image nobody is root, so the asking goes by files in a folder that both see.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.postgres.inside import USER
from tests.integration.postgres.nodes import eventually

DISK, SIGNS = Path("/disk"), Path("/signs")
LONGEST = 30.0  # seconds that a disk is ever frozen


@contextmanager
def frozen() -> Iterator[None]:
    """Inside: nothing can be written to /disk meanwhile."""
    (SIGNS / "freeze").touch()
    eventually("it is frozen", (SIGNS / "frozen").exists)
    try:
        yield
    finally:
        (SIGNS / "freeze").unlink()
        eventually("it is thawed", lambda: not (SIGNS / "frozen").exists())


@contextmanager
def disk(folder: Path) -> Iterator[dict[str, Path]]:
    """Outside: makes the disk; gives what has to be shown inside."""
    image, mounted, signs = (folder / name for name in ("image", "disk", "signs"))
    for made in (mounted, signs):
        made.mkdir()
        os.chown(made, USER, USER)
    with open(image, "wb") as file:
        file.truncate(320 << 20)
    subprocess.run(["mkfs.xfs", "-q", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, mounted], check=True)
    os.chown(mounted, USER, USER)
    over = threading.Event()
    freezing = threading.Thread(target=_obey, args=(mounted, signs, over))
    freezing.start()
    try:
        yield {str(DISK): mounted, str(SIGNS): signs}
    finally:
        over.set()
        freezing.join()
        subprocess.run(["umount", "--lazy", mounted], check=True)


def _obey(mounted: Path, signs: Path, over: threading.Event) -> None:
    while not over.wait(0.01):
        if (signs / "freeze").exists():
            subprocess.run(["fsfreeze", "-f", mounted], check=True)
            try:
                (signs / "frozen").touch()
                for _ in range(int(LONGEST / 0.01)):
                    if over.wait(0.01) or not (signs / "freeze").exists():
                        break
            finally:
                subprocess.run(["fsfreeze", "-u", mounted], check=True)
                (signs / "frozen").unlink()
