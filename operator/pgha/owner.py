"""The owner mark of the data directory (amendment 11): two pods of one name on one volume.

Nothing opens, rewinds or renames a directory whose mark is another's, until that owner is certified
dead, or its mark has been unchanged for a lease duration, counted here. The lock on the directory
certifies it: docs/decisions/directory-lock.md. The mark is refreshed by a thread of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from pgha.clock import boottime
from pgha.postgres.directory import Directory
from pgha.postgres.lock import DirectoryLock, Lock
from pgha.settings import Identity

REFRESH = 3.0  # seconds
FORMER = 4  # pods that are remembered as gone: the lease may be that of one before the last


class Ownership:
    """`alone`: no process of a former container of this pod is left."""

    def __init__(
        self, directory: Directory, lock: DirectoryLock, identity: Identity, patience: float,
        alone: bool,
    ) -> None:  # fmt: skip
        self._directory, self._lock = directory, lock
        self._identity, self._patience = identity, patience
        self._stop = threading.Event()
        self._alone = alone
        self._seen: object = None
        self._seen_at = boottime()
        # Why the directory may be another pod's, in one sentence; empty: it is this pod's.
        self.foreign = "the owner mark was not read yet"
        self._former: tuple[str, ...] = ()  # UIDs of the pods before, which the lock showed gone
        self.check()

    @property
    def gone(self) -> frozenset[str]:
        """UIDs of pods of this name of which nothing is left; this one's own counts for its
        former containers."""
        return frozenset((*self._former, *((self._identity.uid,) if self._alone else ())))

    def start(self, lost: Callable[[], None]) -> None:
        """Keep the mark fresh. `lost` is called when it is another's: it stays so from then on,
        for what is known here of the directory is not true any more."""

        def run() -> None:
            while not self._stop.is_set():
                self.check()
                if self.foreign:
                    lost()
                    return
                self._stop.wait(REFRESH)

        threading.Thread(target=run, name="owner-mark", daemon=True).start()

    def end(self) -> None:
        """The pod leaves in good order: the next one need not wait."""
        self._stop.set()
        if not self.foreign:
            try:
                self._directory.write_note("owner", {"gone": self._former})
            except OSError:
                return  # the next one waits until the mark is old, or has the lock

    def check(self) -> None:
        """Look at the mark, and refresh it or make it this pod's where that is right."""
        try:
            lock = self._lock.take()
            mark = self._directory.read_note("owner") or {}
            uid, place = mark.get("uid"), mark.get("lock")
            if lock is Lock.TAKEN:
                # However old its mark is: a process that hangs may go on.
                self.foreign = (
                    f"processes of another pod of this name{f' (UID {uid})' if uid else ''} still "
                    "run on this node and use the volume: if they do not end, end them there, or "
                    "restart the node"
                )
                return
            mine = uid == self._identity.uid and mark.get("start") == self._identity.start
            left = lock is Lock.OURS and place == self._lock.place
            # Of a former container of this very pod: kubelet starts one only after the other's
            # end, and the lock that PostgreSQL inherits shows that nothing of it is left. Where
            # the mark names a lock that is not to be had here, another pod may be going by it.
            again = uid == self._identity.uid and self._alone and (lock is Lock.OURS or not place)
            own = mine or again or left
            if not own and uid is not None:
                if mark != self._seen:
                    self._seen, self._seen_at = mark, boottime()
                if not self.foreign or self._seen_at + self._patience > boottime():
                    self.foreign = (
                        f"the directory was marked by the pod with the UID {uid}: the mark has to "
                        f"stay as it is for {self._patience:g} s"
                    )
                    return
            if mark:
                shown = (str(uid),) if left and uid not in (None, self._identity.uid) else ()
                self._former = (*map(str, mark.get("gone") or ()), *shown)[-FORMER:]
            if own:
                # Also where a full disk refuses the refresh. Another pod may then take the mark
                # for an old one, but it cannot write its own there, and opens nothing without.
                self.foreign = ""
            self._write(int(mark.get("counter", 0)) + 1 if mine else 1, lock)
            self.foreign = ""
        except OSError as e:
            if self.foreign:
                self.foreign = (
                    f"the owner mark beside the data directory cannot be read or written ({e}): "
                    "make room on its volume, or mend it"
                )
            # Once it is this pod's, a disk that fails is the pulse's matter, not the mark's.

    def _write(self, counter: int, lock: Lock) -> None:
        mark: Mapping[str, Any] = {
            "uid": self._identity.uid, "start": self._identity.start, "counter": counter,
            "gone": self._former,
        }  # fmt: skip
        # Without the lock the mark must not say that it has it: what it starts would not either.
        place = {"lock": self._lock.place} if lock is Lock.OURS else {}
        self._directory.write_note("owner", {**mark, **place})
