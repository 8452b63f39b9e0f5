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
LOOK = 0.25  # seconds between two looks at a directory that may be another's


class Ownership:
    """`alone`: no process of a former container of this pod is left. `freed` is called when the
    directory is found to be this pod's after it was not."""

    def __init__(
        self, directory: Directory, lock: DirectoryLock, identity: Identity, patience: float,
        alone: bool, freed: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self._directory, self._lock, self._freed = directory, lock, freed
        self._identity, self._patience = identity, patience
        self._stop = threading.Event()
        self._alone = alone
        self._seen: object = None
        self._seen_at = boottime()
        self.foreign = "the owner mark was not read yet"  # one sentence; empty: it is this pod's
        # UIDs of pods of this name of which nothing is left: this one's former containers, and
        # one before it that had the directory.
        self.gone = frozenset({identity.uid}) if alone else frozenset[str]()
        self.check()

    def start(self) -> None:
        threading.Thread(target=self._run, name="owner-mark", daemon=True).start()

    def end(self) -> None:
        """The pod leaves in good order: the next one need not wait."""
        self._stop.set()
        if not self.foreign:
            try:
                self._directory.write_note("owner", {})
            except OSError:
                return  # the next one waits until the mark is old, or has the lock

    def _run(self) -> None:
        while not self._stop.wait(LOOK if self.foreign else REFRESH):
            before = self.foreign
            self.check()
            if before and not self.foreign:
                self._freed()

    def check(self) -> None:
        try:
            lock = self._lock.take()
            mark = self._directory.read_note("owner") or {}
            mine = mark.get("uid") == self._identity.uid and (
                mark.get("start") == self._identity.start
            )
            if lock is Lock.TAKEN:
                # However old its mark is: a process that hangs may go on.
                uid = mark.get("uid")
                self.foreign = (
                    f"processes of another pod of this name{f' (UID {uid})' if uid else ''} still "
                    "run on this node and use the volume: if they do not end, end them there, or "
                    "restart the node"
                )
                return
            left = lock is Lock.OURS and mark.get("lock") == self._lock.place
            # Of a former container of this very pod: kubelet starts one only after the other's
            # end, and the lock that PostgreSQL inherits shows that nothing of it is left.
            own = mine or (mark.get("uid") == self._identity.uid and self._alone) or left
            if not own and mark.get("uid") is not None:
                if mark != self._seen:
                    self._seen, self._seen_at = mark, boottime()
                if self._seen_at + self._patience > boottime():
                    self.foreign = self._waited(mark)
                    return
            if left:
                self.gone |= {str(mark["uid"])} if "uid" in mark else set()
            if own:
                # Also where a full disk refuses the refresh. Another pod may then take the mark
                # for an old one, but it cannot write its own there, and opens nothing without.
                self.foreign = ""
            if own or not self._taken_by_another(mark):
                self._write(int(mark.get("counter", 0)) + 1 if mine else 1, lock)
                self.foreign = ""
        except OSError:
            return  # a disk that hangs or fails is the pulse's matter, not the mark's

    def _write(self, counter: int, lock: Lock) -> None:
        mark = {"uid": self._identity.uid, "start": self._identity.start, "counter": counter}
        # Without the lock the mark must not say that it has it: what it starts would not either.
        place = {"lock": self._lock.place} if lock is Lock.OURS else {}
        self._directory.write_note("owner", {**mark, **place})

    def _waited(self, mark: Mapping[str, Any]) -> str:
        return (
            f"the directory was marked by the pod with the UID {mark.get('uid')}: the mark has to "
            f"stay as it is for {self._patience:g} s"
        )

    def _taken_by_another(self, mark: Mapping[str, Any]) -> bool:
        """Once it was ours, another's mark means that it is taken: nothing here touches it."""
        if self.foreign or not mark:
            return False
        taken = mark.get("uid") != self._identity.uid
        if taken:
            self.foreign = self._waited(mark)
            self._seen, self._seen_at = mark, boottime()
        return taken
