"""The primary's pulse: is it alive, and who follows it. Owns all SQL that is asked regularly.

A thread of its own, so that a disk or a backend that hangs stops neither the renewals nor the
decisions: it only lets this pulse grow old (law, point 3). Silence, PANIC and I/O errors are
illness; an SQL error, too many clients or a full disk are not (amendment 15).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from pgha import quorum
from pgha.clock import boottime
from pgha.facts import Barrier, Replication, Sender
from pgha.lsn import LSN, Position
from pgha.postgres.sql import Alive, Sql, SqlError
from pgha.postgres.sql import Sender as Listed

EAGER = 0.25  # seconds between looks while something is pending
CALM = 2.0  # seconds between looks otherwise
TWO_REPLIES = 2.5  # seconds in which each standby has sent two replies


@dataclass
class _Seen:
    """A walsender since it was first seen: which process, when, and the directory behind it."""

    pid: int
    since: float


@dataclass
class Pulse:
    """Thread-safe by replacing whole values. `is_primary` says whether there is a pulse to take."""

    sql: Sql
    is_primary: Callable[[], bool]
    timeline: Callable[[], int]
    directory_of: Callable[[str, float], str | None]
    wanted: Callable[[], tuple[int, frozenset[str]]]  # W and S of the record
    wake: Callable[[], None]
    replication: Replication = field(default_factory=Replication)
    barrier: Barrier = field(default_factory=Barrier)
    flushed: Position | None = None
    eager: bool = False
    _taken_at: float = float("-inf")
    _alive_at: float = float("-inf")
    _ill: str = ""
    _senders: dict[str, _Seen] = field(default_factory=dict)
    _last_flush: LSN | None = None
    _active_since: tuple[str, LSN, float] | None = None
    _complete_at: float | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _now: threading.Event = field(default_factory=threading.Event)

    def begin(self) -> None:
        """A primary was made: what was seen before is of another time."""
        self.replication, self.barrier, self.flushed = Replication(), Barrier(), None
        self._senders, self._last_flush, self._active_since = {}, None, None
        self._taken_at = float("-inf")
        self._alive_at, self._ill, self._complete_at = boottime(), "", None
        self._now.set()

    def look_now(self) -> None:
        self._now.set()

    def ill(self, patience: float) -> str | None:
        """Why the primary cannot write, or None. `patience`: seconds of silence allowed."""
        if self._ill:
            return self._ill
        silent = boottime() - self._alive_at
        if self.is_primary() and silent > patience:
            return f"PostgreSQL has not answered a new connection for {silent:.0f} s"
        return None

    def seen(self) -> Replication:
        """The last look, with what the members have said of their directories since."""
        known = self._senders
        senders = tuple(
            replace(s, directory_id=self.directory_of(s.name, known[s.name].since))
            if s.streaming and s.directory_id is None and s.name in known else s
            for s in self.replication.senders
        )
        return replace(self.replication, age=boottime() - self._taken_at, senders=senders)

    def run(self) -> None:
        """The pulse's thread."""
        while not self._stop.is_set():
            self._now.wait(EAGER if self.eager else CALM)
            self._now.clear()
            if self._stop.is_set():
                return
            if self.is_primary():
                self._take()

    def stop(self) -> None:
        self._stop.set()
        self._now.set()

    def _take(self) -> None:
        alive = self.sql.alive(timeout=2.0)
        if alive in (Alive.ALIVE, Alive.BUSY_OR_REFUSING):
            self._alive_at, self._ill = boottime(), ""
        elif alive is Alive.IO_ERROR:
            self._ill = "PostgreSQL reports an I/O error on its write path"
            self.wake()
        if alive is not Alive.ALIVE:
            return
        try:
            self._read()
        except SqlError:
            return  # the pulse grows old; the probe above says whether that is illness
        self.wake()

    def _read(self) -> None:
        now = boottime()
        names = self.sql.sync_names()
        flush = self.sql.flush_lsn()  # after the setting was seen, for the barrier
        listed = self.sql.replication()
        slots = self.sql.slots()
        self._end_doubles(listed)
        senders, present = [], set()
        for s in listed:
            streaming = s.state == "streaming"
            known = self._senders.get(s.name)
            if known is None or known.pid != s.pid:
                known = self._senders[s.name] = _Seen(s.pid, now)
            if streaming:
                present.add(s.name)
            reached = self._last_flush is not None and s.flush is not None and (
                s.flush >= self._last_flush
            )
            senders.append(Sender(
                s.name, s.flush, streaming,
                self.directory_of(s.name, known.since) if streaming else None,
                caught_up=streaming and reached,
            ))
        for gone in set(self._senders) - {s.name for s in listed}:
            del self._senders[gone]
        need, standbys = self.wanted()
        if len(present & standbys) >= need or self._complete_at is None:
            self._complete_at = now
        self.barrier = self._barrier(names, flush, standbys, listed)
        self.flushed = Position(self.timeline(), flush)
        self._last_flush = flush
        self.replication = Replication(
            0.0, tuple(senders), flush, names, {n: not s.lost for n, s in slots.items()},
            now - self._complete_at,
        )
        self._taken_at = boottime()

    def _end_doubles(self, listed: Sequence[Listed]) -> None:
        """Two receivers of one name count twice in ANY n (amendment 6): both have to come anew."""
        for sender in listed:
            if sum(other.name == sender.name for other in listed) > 1 and (
                sender.name in self.wanted()[1]
            ):
                self.sql.terminate(sender.pid)

    def _barrier(
        self, names: str, flush: LSN, standbys: frozenset[str], listed: Sequence[Listed]
    ) -> Barrier:
        """Seen active, then a position, then W members of S past it.

        A walsender reads a changed setting when it handles a reply, so each has to have handled
        two since (amendment 3): standbys reply each second (wal_receiver_status_interval).
        """
        now = boottime()
        if self._active_since is None or self._active_since[0] != names:
            self._active_since = (names, flush, now)
            return Barrier(names, False)
        if self.barrier.names == names and self.barrier.passed:
            return self.barrier
        _, at, since = self._active_since
        followers = [s for s in listed if s.state == "streaming" and s.name in standbys]
        if now - since < TWO_REPLIES or any(
            s.reply_age is None or s.reply_age > TWO_REPLIES for s in followers
        ):
            return Barrier(names, False)
        past = [s for s in followers if s.flush is not None and s.flush >= at]
        return Barrier(names, len(past) >= max(1, quorum.quorum_of(names)))
