"""The primary's pulse: is it alive, and who follows it. Owns all SQL that is asked regularly.

A thread of its own, so that a disk or a backend that hangs stops neither the renewals nor the
decisions: it only lets this pulse grow old (law, point 3). Silence, PANIC and I/O errors are
illness; an SQL error, too many clients or a full disk are not (amendment 15). After a silence only
a probe that was carried out is life: backends that hang take all places, and too many clients then
only tells of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from pgha import quorum
from pgha.clock import boottime
from pgha.facts import Barrier, Replication, Sender
from pgha.lsn import LSN, Position
from pgha.postgres.sql import Alive, Look, Sql, SqlError
from pgha.postgres.sql import Sender as Listed
from pgha.waiting import Waiting

EAGER = 0.5  # seconds between looks while something is pending
CALM = 2.0  # seconds between looks otherwise
# A standby that streams replies each second (wal_receiver_status_interval), also when it has
# nothing to tell: without a new reply between two calm looks it is cut off, or has stopped.
# PostgreSQL gives it up only after wal_sender_timeout, and commits wait all the while.
SILENT_AFTER = 1.9  # seconds
UNWATCHED_AFTER = 5.0  # seconds between two looks: what was between them is not known


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
    always_waited: Callable[[], bool | None] = lambda: False  # since PostgreSQL started
    log: Callable[..., None] = lambda *_, **__: None
    stopping_for: Callable[[], float] = lambda: 0.0  # seconds
    waiting: Waiting = field(init=False)
    replication: Replication = field(default_factory=Replication)
    barrier: Barrier = field(default_factory=Barrier)
    flushed: Position | None = None
    eager: bool = False
    _taken_at: float = float("-inf")
    _alive_at: float = float("-inf")
    _ill: str = ""
    _silent: bool = False  # the last probe that got in, or got no answer, was silent
    _senders: dict[str, _Seen] = field(default_factory=dict)
    _last_flush: LSN | None = None
    _told: int = 0  # how often synchronous_standby_names was changed
    _active_since: tuple[str, LSN, dict[int, int]] | None = None
    _complete_at: float | None = None
    _looked_at: float = float("-inf")
    _news: object = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _now: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.waiting = Waiting(
            lambda names, within: self.sql.checkpoints(names, within),
            self.always_waited, self.look_now, self.log,
        )

    def begin(self) -> None:
        """A primary was made: what was seen before is of another time."""
        self.waiting.begin()
        self.replication, self.barrier, self.flushed = Replication(), Barrier(), None
        self._senders, self._last_flush, self._active_since = {}, None, None
        self._taken_at = float("-inf")
        self._alive_at, self._ill, self._complete_at = boottime(), "", None
        self._silent = False
        self._now.set()

    def told(self, names: str) -> None:
        """synchronous_standby_names was changed: what was proven of it is of before."""
        self._told += 1
        self.waiting.told(names)
        self.barrier, self._active_since = Barrier(), None
        self._now.set()

    def look_now(self) -> None:
        self._now.set()

    def ill(self, patience: float) -> str | None:
        """Why the primary cannot write, or None. `patience`: seconds of silence allowed."""
        if self._ill:
            return self._ill
        if (stopping := self.stopping_for()) > patience:
            return f"PostgreSQL has been stopping for {stopping:.0f} s and does not end"
        silent = boottime() - self._alive_at
        if self.is_primary() and silent > patience:
            return f"PostgreSQL has not answered a new connection for {silent:.0f} s"
        return None

    def mended(self) -> bool:
        """This standby has flushed WAL that it received since: an I/O error here has passed. True
        if there was one to forget. A mere restart proves nothing: the lease would come straight
        back, to a disk that may fail again."""
        was, self._ill = self._ill, ""
        return was != ""

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
        told, waits = self._told, self.waiting.on
        look = self.sql.look(timeout=2.0)
        answered = look.alive is Alive.ALIVE or look.connected
        self._silent = look.alive is Alive.SILENT or self._silent and not answered
        if look.alive in (Alive.ALIVE, Alive.BUSY_OR_REFUSING) and not self._silent:
            self._alive_at, self._ill = boottime(), ""
        elif look.alive is Alive.IO_ERROR:
            self._ill = "PostgreSQL reports an I/O error on its write path"
            self.wake()
        if look.alive is not Alive.ALIVE or look.flush is None:
            return  # the pulse grows old; the probe above says whether that is illness
        try:
            self._read(look, look.flush, waits)
        except SqlError:
            return
        if told != self._told:  # meanwhile; the active value may be the former one still
            self.barrier, self._active_since = Barrier(), None
        elif not look.sync_names:
            self.waiting.ended()
        elif not waits:
            self.waiting.prove(look.sync_names)
        # What only counts on (positions) is no news; nobody is woken for it.
        news = (
            look.sync_names, self.barrier, sorted(look.slots),
            [(s.name, s.streaming, s.directory_id, s.caught_up) for s in self.replication.senders],
        )
        if news != self._news or self.replication.missing_for > 0:
            self._news = news
            self.wake()

    def _read(self, look: Look, flush: LSN, waits: bool) -> None:
        now, names, listed = boottime(), look.sync_names, look.senders
        self._end_doubles(listed)
        senders, present = [], set()
        for s in listed:
            streaming = s.state == "streaming"
            known = self._senders.get(s.name)
            if known is None or known.pid != s.pid:
                known = self._senders[s.name] = _Seen(s.pid, now)
            silent = now - known.since if s.reply_age is None else s.reply_age
            heard = streaming and silent <= SILENT_AFTER
            if heard:
                present.add(s.name)
            reached = self._last_flush is not None and s.flush is not None and (
                s.flush >= self._last_flush
            )
            senders.append(Sender(
                s.name, s.flush, streaming,
                self.directory_of(s.name, known.since) if streaming else None,
                caught_up=heard and reached,
            ))
        for gone in set(self._senders) - {s.name for s in listed}:
            del self._senders[gone]
        need, standbys = self.wanted()
        unwatched = now - self._looked_at > UNWATCHED_AFTER
        if len(present & standbys) >= need or self._complete_at is None or unwatched:
            self._complete_at = now
        self._looked_at = now
        self.barrier = self._barrier(names, flush, standbys, listed, waits)
        self.flushed = Position(self.timeline(), flush)
        self._last_flush = flush
        self.replication = Replication(
            0.0, tuple(senders), flush, names,
            {n: not s.lost for n, s in look.slots.items()},
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
        self, names: str, flush: LSN, standbys: frozenset[str], listed: Sequence[Listed],
        waits: bool,
    ) -> Barrier:
        """Seen active, and commits wait (`waits`); then a position, then W members of S past it.

        A walsender reads a changed setting when it handles a reply, so each has to have handled
        two since, or to be a newer one (amendment 3). Standbys reply each second at least
        (wal_receiver_status_interval).
        """
        if names and not waits:
            self._active_since = None
            return Barrier(names, False)
        if self._active_since is None or self._active_since[0] != names:
            self._active_since = (names, flush, {s.pid: s.replies for s in listed})
            return Barrier(names, False)
        if self.barrier.names == names and self.barrier.passed:
            return self.barrier
        _, at, before = self._active_since
        followers = [s for s in listed if s.state == "streaming" and s.name in standbys]
        if any(s.pid in before and s.replies < before[s.pid] + 2 for s in followers):
            return Barrier(names, False)
        past = [s for s in followers if s.flush is not None and s.flush >= at]
        return Barrier(names, len(past) >= max(1, quorum.quorum_of(names)))
