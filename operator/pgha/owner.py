"""The owner mark of the data directory (amendment 11): two pods of one name on one volume.

Nothing opens, rewinds or renames a directory whose mark is another's, until that mark has been
unchanged for a lease duration, counted here. The mark is refreshed by a thread of its own.
"""

from __future__ import annotations

import threading

from pgha.clock import boottime
from pgha.postgres.directory import Directory
from pgha.settings import Identity

REFRESH = 3.0  # seconds


class Ownership:
    """`foreign` is True while the directory may be somebody else's. `alone`: no process of a former
    container of this pod is left."""

    def __init__(
        self, directory: Directory, identity: Identity, patience: float, alone: bool
    ) -> None:
        self._directory, self._identity, self._patience = directory, identity, patience
        self._stop = threading.Event()
        self._alone = alone
        self._seen: object = None
        self._seen_at = boottime()
        self.foreign = True
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
                return  # the next one waits until the mark is old

    def _run(self) -> None:
        while not self._stop.wait(0.5 if self.foreign else REFRESH):
            self.check()

    def check(self) -> None:
        try:
            mark = self._directory.read_note("owner") or {}
            mine = mark.get("uid") == self._identity.uid and (
                mark.get("start") == self._identity.start
            )
            # Of a former container of this very pod: kubelet starts one only after the other's
            # end, and the lock that PostgreSQL inherits shows that nothing of it is left.
            own = mine or (mark.get("uid") == self._identity.uid and self._alone)
            if not own and mark.get("uid") is not None:
                if mark != self._seen:
                    self._seen, self._seen_at = mark, boottime()
                if self._seen_at + self._patience > boottime():
                    self.foreign = True
                    return
            if own:
                # Also where a full disk refuses the refresh. Another pod may then take the mark
                # for an old one, but it cannot write its own there, and opens nothing without.
                self.foreign = False
            if own or not self._taken_by_another(mark):
                counter = int(mark.get("counter", 0)) + 1 if mine else 1
                self._directory.write_note(
                    "owner",
                    {"uid": self._identity.uid, "start": self._identity.start,
                     "counter": counter},
                )
                self.foreign = False
        except OSError:
            return  # a disk that hangs or fails is the pulse's matter, not the mark's

    def _taken_by_another(self, mark: dict[str, object]) -> bool:
        """Once it was ours, another's mark means that it is taken: nothing here touches it."""
        if self.foreign or not mark:
            return False
        taken = mark.get("uid") != self._identity.uid
        if taken:
            self.foreign = True
            self._seen, self._seen_at = mark, boottime()
        return taken
