"""This member's own state between two decisions: what was found out and what was begun.

Owns the mutable state that the gatherer reads and the executor writes; decides nothing.
"""

from __future__ import annotations

import subprocess
import threading
from dataclasses import dataclass, field, replace

from pgha.clock import boottime
from pgha.facts import Data, DataView, Supply
from pgha.lsn import LSN, History, Position, branch
from pgha.postgres.control import WalMissing
from pgha.postgres.directory import Directory, DirectoryError, DirectoryState
from pgha.record import Record, RecordError

STATES = {
    DirectoryState.EMPTY: Data.EMPTY,
    DirectoryState.INITIALIZING: Data.INITIALIZING,
    DirectoryState.READY: Data.READY,
    DirectoryState.DIRTY: Data.DIRTY,
    DirectoryState.OTHER_MAJOR: Data.REFUSED,
    DirectoryState.BROKEN: Data.REFUSED,
}


@dataclass
class Member:
    """One lock, `acting`, is held by whoever acts on PostgreSQL: the executor, or a vote."""

    directory: Directory
    acting: threading.Lock = field(default_factory=threading.Lock)
    data: DataView = field(default_factory=DataView)
    attached_to: str | None = None
    attached_term: int = 0
    attached_at: float = 0.0
    fruitless: int = 0
    fruitless_term: int = 0
    supply: Supply = field(default_factory=Supply)
    last_received_at: float = float("-inf")
    stopped_at: float = 0.0
    stopping_since: float | None = None
    primary_at: float = float("-inf")  # when it was a primary last
    start_failures: int = 0
    retry_at: float = float("-inf")
    promoting: int = 0
    stays_on: int = 0
    rewindable_term: int = 0
    checkpoint_term: int = 0
    slots_term: int = 0
    primary_timeline: int = 0
    looked_at: float = float("-inf")
    flushed: LSN | None = None  # of the present history: the end of WAL is searched from there on
    end_at: float = float("-inf")  # when the end of WAL was last tried to be read
    _kept: tuple[int, int] = (0, 0)  # the stamp of the record that is on the disk, or a newer one

    def look(self) -> None:
        """Read the directory anew: after a stop, a copy, a promotion.

        What cannot be read now is not known: the fencer may have killed pg_controldata too.
        """
        self.end_at = float("-inf")
        self.flushed = None
        self.looked_at = boottime()
        try:
            self._look()
        except (OSError, DirectoryError, subprocess.SubprocessError, ValueError) as e:
            self.data = DataView(Data.UNKNOWN, str(e))

    def _look(self) -> None:
        d = self.directory
        state = STATES[d.state()]
        if state is not Data.READY:
            why = d.explain()
            # No reason any more: it was another state a moment ago.
            self.data = DataView(state if why else Data.UNKNOWN, why)
            return
        control = d.control()
        timeline = control.newest_timeline
        self.data = DataView(
            Data.READY,
            "",
            d.directory_id,
            control.system_id,
            timeline,
            history=_history(d, timeline),
            clean=control.state == "shut down",
        )

    def read_end(self, timeout: float) -> None:
        """The exact end of WAL; only while no receiver writes."""
        try:
            end = self.directory.end_of_wal(timeout, self.flushed)
        except WalMissing as e:
            self.data = replace(self.data, end=None, lacks=e.needed)
            raise
        self.data = replace(self.data, newest=self.directory.newest_history(), lacks=None)
        self.set_end(end)

    def set_end(self, end: Position | None) -> None:
        if end is None:
            self.data = replace(self.data, end=None, overtaken=False)
            return
        history = self.data.history
        if end.timeline != self.data.timeline:
            history = _history(self.directory, end.timeline)
        self.data = replace(
            self.data, end=end, timeline=end.timeline, history=history,
            overtaken=self.directory.overtaken(end),
        )

    def remember(self, record: Record) -> None:
        """Keep the record on the own disk (amendment 10), unless a newer one is kept already.

        After a restart the watch may show an older record than the one that was kept; were that
        one overwritten, a completed promotion could be forgotten by everybody. Cheap where it is
        kept already, so that everybody may ask for it.
        """
        if record.init != "initialized" or record.stamp == self._kept:
            return
        kept = (self.directory.read_note("record") or {}).get("record")
        if record.outdates(kept):
            self.directory.write_note("record", {"record": record.dump()})
        self._kept = record.stamp

    def kept(self) -> Record:
        """The newest record that this member saw; an empty one where none can be read."""
        try:
            return Record.parse((self.directory.read_note("record") or {}).get("record"))
        except (OSError, RecordError):
            return Record()

    def promoted(self, timeline: int) -> None:
        """PostgreSQL is a primary on `timeline` now."""
        history = _history(self.directory, timeline)
        self.data = replace(self.data, end=None, timeline=timeline, history=history, clean=False)

    def promoted_to(self) -> int:
        """The timeline that PostgreSQL was promoted to since it was started here, by its own word
        on disk; 0 while that is not proven.

        It says `in production` last of all that ends recovery, after its start as a standby had
        said otherwise, and by then either the end-of-recovery record or a checkpoint has put the
        new timeline into the control file (xlog.c, StartupXLOG). The history file of that number is
        PostgreSQL's, since it takes one that has none: an agent's stub is never its own.
        """
        before = self.data
        if before.end is None:
            return 0
        try:
            control = self.directory.control()
            timeline = control.newest_timeline
            history = self.directory.history(timeline)
        except (OSError, DirectoryError, ValueError):
            return 0
        if control.state != "in production" or timeline <= before.timeline:
            return 0
        grew = branch(before.history, before.timeline, before.end.lsn, history, timeline)
        return timeline if grew == "behind" else 0

    def free_bytes(self) -> int | None:
        """Where the data directory is; None while that cannot be told."""
        try:
            return self.directory.free_bytes()
        except OSError:
            return None

    def stopping_for(self) -> float:
        """Seconds that PostgreSQL has been seen stopping."""
        since = self.stopping_since
        return 0.0 if since is None else boottime() - since

    def detached(self) -> None:
        self.attached_to = None


def _history(directory: Directory, timeline: int) -> History:
    return directory.history(timeline) if timeline > 1 else History()
