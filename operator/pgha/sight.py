"""The Lease as it is known here: what was last read or written, since when, and what that allows.

Owns the judgement of a claim and of what may replace what is known: an answer that lags behind
does not, and no record gives up a newer one (amendment 10). Not thread-safe: the keeper has the
lock. Age counts from the moment a change was observed, by the local clock (law, point 1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pgha.facts import Claim, LeaseView
from pgha.kube.leases import RawLease
from pgha.record import Record, RecordError
from pgha.settings import Identity, Times, pod_of

RECORD = "pgha.dev/record"
Clock = Callable[[], float]


class Sight:
    """`unsettled`: changes that were sent and may have landed, or still may (amendment 9)."""

    def __init__(self, identity: Identity, times: Times, clock: Clock) -> None:
        self._identity, self._times, self._clock = identity, times, clock
        self._changed_at: float | None = None
        self._why = "the Lease was not read yet"
        self.raw: RawLease | None = None
        self.missing = False
        self.record = Record()
        self.unsettled: list[Record] = []
        self._told: tuple[str, Record, float] | None = None

    def shown(self, raw: RawLease, after: RawLease | None = None) -> bool:
        """A watch or a read showed it; False if that lags behind what is known. `after`: what was
        known before a consistent read was sent. If that still is what is known, an older version is
        no answer that lags behind: etcd was restored."""
        old = self.raw
        if old is not None and old.uid == raw.uid and _older(raw, old) and after != old:
            return False
        if old is None or self.missing or _essence(old) != _essence(raw):
            self._changed_at = self._clock()
        if old is None or old.resource_version != raw.resource_version:
            self.unsettled = []
        self.raw, self.missing = raw, False
        try:
            record, self._why = Record.parse(raw.annotations.get(RECORD)), ""
            self.record = self.record if _goes_back(record, self.record) else record
        except RecordError as e:
            self._why = str(e)
        return True

    def gone(self) -> None:
        """There is no Lease."""
        if not self.missing:
            self.missing, self._changed_at = True, self._clock()
        self._why = ""

    def recall(self, kept: Record) -> None:
        """The record on the own disk, unless the Lease shows a newer one, or none."""
        if self.raw is None or _goes_back(self.record, kept):
            self.record = kept

    def accept(self, written: RawLease, record: Record) -> None:
        """An own write has landed, with this record."""
        if self.raw is None or self.raw.uid != written.uid or not _older(written, self.raw):
            self.raw, self.record, self._why = written, record, ""
            self.missing, self.unsettled = False, []
            self._changed_at = self._clock()

    def doubt(self, record: Record) -> None:
        """An own write of this record has no answer."""
        if record not in self.unsettled:
            self.unsettled.append(record)

    @property
    def may_stand(self) -> list[Record]:
        """The records that may be on the Lease, as far as is known."""
        return [self.record, *self.unsettled]

    def told(self, version: str, record: Record) -> None:
        """A holder said that it gave the lease back at this version, and could not write it."""
        self._told = version, record, self._clock()

    def _given_back(self, holder: str) -> tuple[Record, float] | None:
        """The record with the release that this holder told of, and when; None: it told of none of
        the Lease as it stands. Any newer version undoes it, as it would have failed its write
        (docs/decisions/told-release.md). The rest of the record is what stands on the Lease."""
        if self._told is None:
            return None
        version, told, at = self._told
        mark, record = told.release, self.record
        if version != self.version or mark is None:
            return None
        if (mark.by, mark.term) != (holder, record.term):
            return None
        return replace(record, release=mark, end=told.end, switched=told.switched), at

    def names(self, incarnation: str) -> bool:
        """Is it the holder, as far as is known?"""
        return self.raw is not None and not self.missing and self.raw.holder == incarnation

    @property
    def version(self) -> str:
        """What a claim was judged by."""
        return "" if self.raw is None or self.missing else (
            f"{self.raw.uid}/{self.raw.resource_version}"
        )

    def view(self, holds: bool, dead: Callable[[str], bool], gone: frozenset[str]) -> LeaseView:
        """What the Lease allows now. `holds`: this container does, by what it wrote itself. `dead`:
        is this incarnation certified dead? `gone`: UIDs of pods of this name of which nothing is
        left (amendments 11 and 21)."""
        raw, now = self.raw, self._clock()
        if self._changed_at is None or self._why:
            return LeaseView(Claim.UNKNOWN, why=self._why)
        age = now - self._changed_at
        recorded = float(raw.duration or 0) if raw is not None else 0.0
        expired = age >= max(self._times.lease_duration, recorded)  # amendment 17
        if self.missing:
            # A Lease that was deleted may still be held by somebody (amendment 10).
            claim = Claim.EXPIRED if expired else Claim.VACANT
            # What this member remembers may be old by now: the record is rebuilt from what all
            # members kept (rule record-lost), unless the holder makes its Lease again.
            known = self.record if holds else Record()
            return LeaseView(claim, None, age, known, version=self.version)
        assert raw is not None
        record = self.record
        if raw.holder is None:
            mark = record.release
            marked = mark is not None and mark.term == record.term
            claim = Claim.RELEASED if marked else Claim.EXPIRED if expired else Claim.VACANT
        elif raw.holder == self._identity.incarnation:
            # Not held though it names this very container: a tenure that ended, or an
            # acquisition whose answer was lost. Only a new compare-and-swap settles it.
            claim = Claim.HELD if holds else Claim.OWN_DEAD
        elif pod_of(raw.holder) == self._identity.pod and _uid_of(raw.holder) in gone:
            claim = Claim.OWN_DEAD
        elif given_back := self._given_back(raw.holder):
            record, at = given_back
            return LeaseView(Claim.RELEASED, None, now - at, record, version=self.version)
        elif dead(raw.holder):
            claim = Claim.DEAD
        else:
            claim = Claim.EXPIRED if expired else Claim.HELD
        return LeaseView(
            claim, raw.holder, age, record, version=self.version, unsettled=bool(self.unsettled)
        )


def _older(a: RawLease, b: RawLease) -> bool:
    try:
        return int(a.resource_version) < int(b.resource_version)
    except ValueError:
        return False


def _essence(raw: RawLease) -> tuple[object, ...]:
    """A change of these is a sign of life or a new state of the record."""
    return (
        raw.uid, raw.holder, raw.renew_time, raw.transitions, raw.duration,
        raw.annotations.get(RECORD),
    )


def _goes_back(shown: Record, known: Record) -> bool:
    """None gives up a newer record (amendment 10); a lost or a foreign one is another matter."""
    same = shown.init == known.init == "initialized" and shown.system_id == known.system_id
    return same and shown.stamp < known.stamp


def _uid_of(holder: str) -> str | None:
    parts = holder.split("/")
    return parts[1] if len(parts) > 1 else None
