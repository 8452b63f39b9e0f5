"""Holds the lease: acquires, renews, changes the record, gives back. Owns the tenure.

What it does not guarantee: that nobody else believes to hold. It guarantees that this container
stops believing so in time: validity counts from just before a renewal was sent, on CLOCK_BOOTTIME
(law, point 1), the fencer knows the same moment, and a write whose outcome is unknown is settled
only by a later successful compare-and-swap (amendment 9).

The renewal touches no disk and no SQL (law, point 3): it is a thread of its own, and what it asks
before renewing are values in memory.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pgha import quorum
from pgha.clock import boottime
from pgha.facts import LeaseView, Tenure
from pgha.kube.errors import ApiError, Conflict, NotFound
from pgha.kube.leases import LeaseApi, RawLease, micro_time
from pgha.lsn import Position
from pgha.record import Record, Release
from pgha.settings import Identity, Times
from pgha.sight import RECORD, Clock, Sight


@dataclass
class _Held:
    """The lease as this container last wrote it."""

    term: int
    valid_from: float
    acquired_at: float
    promised_from: float = float("-inf")

    @property
    def proven_from(self) -> float:
        return max(self.valid_from, self.promised_from)


class Keeper:
    """Thread-safe. `allow` arms the fencer; `may_renew` gives the reason not to, or None.
    `promises`: who may vote by these records promises not to race or, with True, only says of a
    deleted Lease that it has not. The moment before they were asked; None if too few do."""

    def __init__(
        self,
        api: LeaseApi,
        identity: Identity,
        times: Times,
        *,
        allow: Callable[[float | None], None],
        may_renew: Callable[[], str | None],
        flushed: Callable[[], Position | None],
        wake: Callable[[], None],
        promises: Callable[[Sequence[Record], bool], float | None],
        clock: Clock = boottime,
    ) -> None:
        self._api, self._identity, self._times = api, identity, times
        self._tell_fencer, self._may_renew, self._flushed = allow, may_renew, flushed
        self._wake, self._promises, self._clock = wake, promises, clock
        self._writing = threading.RLock()  # one write of the Lease at a time
        self._state = threading.Lock()
        self._sight = Sight(identity, times, clock)
        self._held: _Held | None = None
        self._armed = False
        self._stop = threading.Event()
        self._soon = threading.Event()
        self.lost_because = ""
        self.promising = False
        self.unwritten: tuple[str, Record] | None = None  # a release, and the version it is of

    # -- observing ------------------------------------------------------------------------------

    def observe(self, raw: RawLease | None, after: RawLease | None = None) -> None:
        """The Lease as a watch or a read showed it; None: there is none. `after`: see Sight."""
        with self._state:
            if raw is None:
                if self._sight.missing:
                    return  # nothing is new, and nobody is woken to look at it again
                self._sight.gone()
            elif not self._sight.shown(raw, after):
                return
            elif self._held is not None and raw.holder != self._identity.incarnation:
                self._lose(f"the Lease names {raw.holder or 'nobody'}")
            else:
                self._outdated(self.record.term, "the record shows")
        self._wake()

    def hear(self, term: int) -> None:
        """A member told of this term. A higher one than the own stood on the Lease: that is loss
        (amendment 1), whichever channel tells it. Members ask and tell only of terms that did."""
        with self._state:
            self._outdated(term, "a member told of")

    def _outdated(self, term: int, source: str) -> None:
        """Caller has the state lock."""
        if self._held is not None and term > self._held.term:
            self._lose(f"{source} term {term}")

    def told(self, version: str, record: Record) -> None:
        """Its holder has given the lease back at this version, and could not write it."""
        with self._state:
            self._sight.told(version, record)
        self._wake()

    def recall(self, kept: Record) -> None:
        """The record on the own disk, unless the Lease shows a newer one, or none."""
        with self._state:
            self._sight.recall(kept)

    @property
    def record(self) -> Record:
        """The newest that was read or written."""
        return self._sight.record

    @property
    def raw(self) -> RawLease | None:
        return self._sight.raw

    def last_holder(self) -> tuple[str | None, int]:
        """Whom the Lease named when it was there last, and the newest term that is known. Who has
        not seen it knows of the last promotion that was completed."""
        with self._state:
            raw, p = self._sight.raw, self.record.promotion
            promoter = p.promoter if p is not None and p.done else None
            return raw.holder if raw is not None else promoter, self.record.term

    @property
    def version(self) -> str:
        """What a claim is judged by."""
        with self._state:
            return self._sight.version

    def view(self, dead: Callable[[str], bool], gone: frozenset[str]) -> LeaseView:
        """What the Lease allows now. `dead`: is this incarnation certified dead? `gone`: UIDs of
        pods of this name of which nothing is left."""
        with self._state:
            return self._sight.view(self._held is not None, dead, gone)

    def tenure(self) -> Tenure | None:
        with self._state:
            held, now = self._held, self._clock()
            if held is None:
                return None
            left = held.proven_from + self._times.renew_deadline - now
            if left <= 0:
                self._lose("no renewal succeeded within renewDeadlineSeconds")
                return None
            return Tenure(held.term, left, now - held.acquired_at)

    def _lose(self, why: str) -> None:
        """Caller has the state lock. The fencer stays armed: it is disarmed by `settled`."""
        self._held = None
        self.lost_because = why
        self._wake()

    def settled(self) -> None:
        """PostgreSQL is stopped or read-only: there is nothing to fence."""
        with self._state:
            if self._held is None and self._armed:
                self._allow(None)

    def _allow(self, deadline: float | None) -> None:
        """Caller has the state lock."""
        self._armed = deadline is not None
        self._tell_fencer(deadline)

    # -- writing --------------------------------------------------------------------------------

    def acquire(self, record: Record, judged: str) -> str | None:
        """Take the lease, or take the own lease into a new term. The reason when it failed.

        `judged`: the version that the claim was judged by. The watch may have delivered a newer
        one since, another member's acquisition even, and a compare-and-swap against that would
        take a lease that is held.
        """
        with self._writing:
            with self._state:
                raw, missing = self._sight.raw, self._sight.missing
                held = self._held
                if judged != self._sight.version:
                    return "the Lease changed since it was judged"
            if missing and held is not None:
                if (why := self._perhaps_replaced(held)) is not None:
                    return why
            sent = self._clock()
            record = replace(record, release=None, revision=record.revision + 1)
            fresh = RawLease(resource_version="", uid="")
            base = raw if raw is not None else fresh
            wanted = self._filled(base, record, acquired=True)
            try:
                if missing or raw is None:
                    written = self._api.create(wanted, timeout=self._times.retry_period)
                else:
                    written = self._api.write(wanted, timeout=self._times.retry_period)
            except ApiError as e:
                self.reread()
                return e.message
            with self._state:
                self._held = _Held(record.term, sent, sent)
                self._sight.accept(written, record)
                self._allow(sent + self._times.fence_after)
                self.lost_because = ""
            self._soon.set()
            self._wake()
            return None

    def write(self, record: Record) -> str | None:
        """Change the record under the held lease; counts as a renewal. The reason if it failed."""
        return self._put(replace(record, revision=record.revision + 1))

    def release(self, record: Record, successor: str | None) -> str | None:
        """Give the lease back. Whatever the answer, nothing is written again in this tenure.

        The reason when it was not written: `unwritten` then is what to tell the other members, who
        wait for it, and after that a `reread` shows whether it has landed all the same.
        """
        with self._writing:
            with self._state:
                held, raw, stood = self._held, self._sight.raw, self.record.stamp
                self._held, self.unwritten = None, None
                if held is None or raw is None:
                    return "it is not held"
                self.lost_because = "given back"
            mark = Release(self._identity.incarnation, held.term, successor)
            record = replace(
                record, term=held.term, release=mark, revision=record.revision + 1
            )
            wanted = replace(
                self._filled(raw, record, acquired=False), holder=None, renew_time=micro_time()
            )
            try:
                written = self._api.write(wanted, timeout=self._times.retry_period)
            except ApiError as e:
                if isinstance(e, Conflict):
                    self.reread()
                with self._state:
                    if self._sight.names(self._identity.incarnation) and self.record.stamp == stood:
                        self.unwritten = self._sight.version, record
                return e.message
            with self._state:
                self._sight.accept(written, record)
            self._wake()
            return None

    def _filled(self, raw: RawLease, record: Record, *, acquired: bool) -> RawLease:
        notes = {**raw.annotations, RECORD: record.dump()}
        now = micro_time()
        return replace(
            raw,
            holder=self._identity.incarnation,
            duration=round(self._times.lease_duration),
            renew_time=now,
            acquire_time=now if acquired else raw.acquire_time,
            transitions=raw.transitions + 1 if acquired else raw.transitions,
            annotations=notes,
        )

    def _put(self, record: Record | None, again: bool = True) -> str | None:
        """One compare-and-swap of the held lease: a renewal, with a changed record or without."""
        with self._writing:
            with self._state:
                held, raw = self._held, self._sight.raw
                if held is None or raw is None:
                    return "it is not held"
                current = record or self.record
                missing = self._sight.missing
            if current.term != held.term:
                return f"the record is of term {current.term}, the tenure of {held.term}"
            if missing and (why := self._perhaps_replaced(held)) is not None:
                return why
            current = current.flushed_to(self._flushed(), held.term)
            wanted = self._filled(raw, current, acquired=False)
            sent = self._clock()
            try:
                if missing:
                    written = self._api.create(wanted, timeout=self._times.retry_period)
                else:
                    written = self._api.write(wanted, timeout=self._times.retry_period)
            except Conflict as e:
                self.reread()  # somebody else's annotation, or a write of ours that had landed
                if again and record is None:
                    return self._put(None, again=False)
                return e.message
            except NotFound:
                self.observe(None)
                return "the Lease is gone"
            except ApiError as e:
                with self._state:
                    if e.ambiguous and record is not None:
                        self._sight.doubt(record)
                return e.message
            with self._state:
                if self._held is not held:
                    return "it was lost meanwhile"
                held.valid_from = sent
                self._sight.accept(written, current)
                self._allow(held.proven_from + self._times.fence_after)
            if record is not None:
                self._wake()
            return None

    def _perhaps_replaced(self, held: _Held) -> str | None:
        """Why the Lease, which was deleted by hand, is not made again; None: it may be.

        Creating is no compare-and-swap, so it must not have been taken before. Since the last
        renewal nobody has seen it expired, which promises would not say. Who took it by early votes
        is known to those who gave them (amendments 10 and 20).
        """
        mine = self._identity.incarnation
        with self._state:
            asked = [r for r in self._sight.may_stand if quorum.replaceable(r, mine)]
        if asked and self._promises(asked, True) is None:
            return "the Lease is gone, and too few members say that nobody has taken it early"
        # What was seen may be older than a creation of ours that landed without an answer. Another
        # one, that is late, would undo what followed it.
        if (why := self.reread()) is not None:
            return why
        with self._state:
            if not self._sight.missing:
                return "the Lease is there again"
            if self._held is not held:
                return "it was lost meanwhile"
            if self._clock() >= held.valid_from + self._times.renew_deadline:
                return "the Lease is gone, and was not renewed within renewDeadlineSeconds before"
            return None

    def reread(self) -> str | None:
        """What the Lease is after a write that failed. The reason where it cannot be read."""
        known = self.raw
        try:
            self.observe(self._api.read(timeout=self._times.retry_period), known)
        except NotFound:
            self.observe(None)
        except ApiError as e:
            return e.message
        return None

    # -- renewing -------------------------------------------------------------------------------

    def run(self) -> None:
        """The renewal thread."""
        failed = False
        while not self._stop.is_set():
            self._soon.wait(self._times.retry_period if failed else self._times.renew_every)
            if self._stop.is_set():
                return
            if self._soon.is_set():  # just acquired: the next renewal is a full period away
                self._soon.clear()
                failed = False
                continue
            failed = False
            if self.tenure() is None:
                continue
            # What refused for a moment is asked again soon: the deadline is two periods away.
            failed = self._may_renew() is not None
            if failed:
                continue
            failed = self._put(None) is not None
            if failed:
                self._seek_promises()
            else:
                self.promising = False

    def _seek_promises(self) -> None:
        """The API does not answer: go on only with everybody's promise (law, point 14)."""
        with self._state:
            held = self._held
            if held is None or self._sight.missing:
                return
            # Whoever may vote by any record that may stand has to promise (amendment 9).
            records = self._sight.may_stand
        asked = self._clock()
        if self._promises(records, False) is None:
            return
        with self._state:
            if self._held is held:
                held.promised_from = asked
                self._allow(held.proven_from + self._times.fence_after)
                self.promising = True

    def stop(self) -> None:
        self._stop.set()
        self._soon.set()
