"""Whether commits do wait for standbys, or only will. Owns the proof of it, for the pulse.

A backend waits only while a flag in shared memory says that there is anybody to wait for
(PostgreSQL's SyncRepWaitForLSN), and on a reload the checkpointer alone sets that flag, when it
comes to it: not while it flushes files, hurries, or is behind its schedule. What a new connection
shows of synchronous_standby_names does not tell, nor do the walsenders. It is known to be set

- as long as the names were never empty since PostgreSQL started: the checkpointer sets it first;
- else once two checkpoints, one after the other, have ended that a session asked for which began
  after the names had been seen: the postmaster tells the checkpointer of a reload before it starts
  another session, and the checkpointer reads it before it takes up the second checkpoint. The
  first may have been taken up a moment before.

A thread of its own asks, since a checkpoint may take minutes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from pgha.postgres.sql import SqlError

PROVE_WITHIN = 600.0  # seconds for both checkpoints


@dataclass
class Waiting:
    """`checkpoints`: two of them, by a new session that first sees these names; False if it does
    not. `always`: were the names never empty since PostgreSQL started?"""

    checkpoints: Callable[[str, float], bool]
    always: Callable[[], bool | None]
    wake: Callable[[], None]
    log: Callable[..., None]
    on: bool = False
    _told_to_end: bool = False  # and nothing else since: older names are no sign
    _lapses: int = 0  # how often the waiting may have ended; a proof is of the last time
    _asking: int = -1  # since which of them there is a thread
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> None:
        """A primary was made: what was known is of another time."""
        self.ended()
        self.on = self.always() is True

    def told(self, names: str) -> None:
        """synchronous_standby_names was changed to this; a new connection may show it later."""
        if self._told_to_end or not names:
            self.ended()
        self._told_to_end = not names

    def ended(self) -> None:
        """Nobody is waited for."""
        with self._lock:
            self._lapses += 1
            self.on = False

    def prove(self, names: str) -> None:
        """Begin to prove it. `names` were seen by a connection begun after they were told."""
        with self._lock:
            if self.on or self._told_to_end or self._asking == self._lapses:
                return
            self._asking = since = self._lapses
        threading.Thread(
            target=self._prove, args=(names, since), name="waiting", daemon=True
        ).start()

    def _prove(self, names: str, since: int) -> None:
        done, why = False, "a new connection shows other names"
        try:
            done = self.checkpoints(names, PROVE_WITHIN)
        except SqlError as e:
            why = str(e)
        with self._lock:
            if self._asking == since:
                self._asking = -1
            if done and self._lapses == since:
                self.on = True
        if done:
            self.wake()
        else:
            self.log("waiting-not-proven", names=names, why=why)
