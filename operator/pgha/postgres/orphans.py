"""Ended processes that nobody waits for. Owns their exit statuses, once they have come to PID 1.

They come from everywhere: of `kubectl exec … sh -c '… &'`, COPY … PROGRAM, archive_command. Each
keeps its number, of those that the container may have, until its exit status is taken. That of a
program of the agent's own must be left: subprocess would report success in the place of a lost one.
"""

from __future__ import annotations

import gc
import os
import subprocess
import threading
from collections.abc import Iterable

from pgha.clock import boottime

PATIENCE = 60.0  # seconds: whoever waits for a child has mostly taken its exit status by then


class Orphans:
    """Remembers the dead; safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: dict[int, float] = {}  # pid -> when it was first seen dead

    def take(self, dead: Iterable[int]) -> None:
        """Take the exit statuses of those among these zombies, children of this process, that were
        seen `PATIENCE` ago as well. All that are zombies now have to be given.

        Patience is for the cost alone: a number may have become another's meanwhile.
        """
        with self._lock:
            now = boottime()
            self._since = {pid: self._since.get(pid, now) for pid in dead}
            late = [pid for pid, since in self._since.items() if now - since >= PATIENCE]
            if not late:
                return
            awaited = _awaited()
            for pid in late:
                if awaited is None or pid in awaited:
                    self._since[pid] = now
                else:
                    del self._since[pid]
                    reap(pid)


def reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def _awaited() -> frozenset[int | None] | None:
    """The numbers of all children whose exit status subprocess has not got; None while one is just
    being started and has no number yet.

    By asking the garbage collector for every Popen there is: none can have been forgotten, be it
    in another thread or a library. A child that is dead already is among them, for its Popen was
    made before it.
    """
    found = frozenset(
        getattr(one, "pid", None)
        for one in gc.get_objects()
        if issubclass(type(one), subprocess.Popen) and getattr(one, "returncode", None) is None
    )
    return None if None in found else found
