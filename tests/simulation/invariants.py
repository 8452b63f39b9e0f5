"""What has to hold after every step of a schedule (tests.md, I1 to I4). Owns the verdict.

An invariant that is broken is an AssertionError that names it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pgha import quorum
from pgha.record import Record
from pgha.settings import pod_of
from tests.simulation.member import Member

if TYPE_CHECKING:
    from tests.simulation.schedule import Schedule


@dataclass
class Invariants:
    """What was seen of a schedule so far, which a later step may contradict."""

    schedule: Schedule = field(repr=False)
    restored: tuple[int, int] = (0, 0)  # the record before etcd went back
    _promoted: dict[int, str] = field(default_factory=dict)
    _timeline: int = 0
    _acknowledged_on: int = 0
    _was_primary: set[tuple[str, int]] = field(default_factory=set)

    def acknowledge(self, m: Member, transaction: int) -> None:
        """I1, I3: two servers never acknowledge at the same time."""
        s, timeline = self.schedule, m.directory.timeline
        if s.fenced and timeline < self._acknowledged_on:
            raise AssertionError(
                f"I1: {m.name} acknowledged on timeline {timeline} after another had on "
                f"{self._acknowledged_on}"
            )
        self._acknowledged_on = max(self._acknowledged_on, timeline)
        s.acknowledged.add(transaction)

    def check(self) -> None:
        """After every step."""
        s = self.schedule
        writable = [m for m in s.primaries if m.paused != "all"]
        if s.early:
            self._check_former(writable)
        elif len(writable) > 1 and s.fenced:
            raise AssertionError(f"I1: {[m.name for m in writable]} accept writes")
        for m in writable:
            self._check_primary(m)
        if not s.fenced and writable and s.settings.synchronous:
            self._check_newest(writable)
        if s.world.lease is not None:
            self._check_record(s.record())

    def _check_primary(self, m: Member) -> None:
        """I2, once for each primary."""
        s = self.schedule
        key = (m.name, m.directory.timeline)
        if key in self._was_primary:
            return
        self._was_primary.add(key)
        missing = m.directory.holds(s.acknowledged)
        if not s.fenced and not s.settings.synchronous:
            missing = set()
        if missing and (s.settings.synchronous or s.gentle):
            raise AssertionError(
                f"I2: {m.name} is primary on timeline {m.directory.timeline} without "
                f"{len(missing)} acknowledged commits"
            )
        s.acknowledged -= missing  # asynchronous: lost, once

    def _check_newest(self, writable: list[Member]) -> None:
        """I2 without any fencing: the newest server, where it may be written to."""
        s = self.schedule
        newest = max(writable, key=lambda m: m.directory.timeline)
        if newest.directory.timeline < max(m.directory.timeline for m in s.members.values()):
            return
        if missing := newest.directory.holds(s.acknowledged):
            raise AssertionError(f"I2: {newest.name} lacks {len(missing)} acknowledged commits")

    def _check_record(self, record: Record) -> None:
        """I4, and the quorum (law, point 7)."""
        s = self.schedule
        if record.stamp < self.restored:
            return  # as it was restored: the members go on from what they have kept
        if record.timeline < self._timeline:
            raise AssertionError(f"I4: the timeline fell from {self._timeline} to {record}")
        self._timeline = record.timeline
        p = record.promotion
        if p is not None:
            before = self._promoted.setdefault(p.term, f"{p.promoter} {p.number}")
            if before != f"{p.promoter} {p.number}":
                raise AssertionError(f"I4: two promotions in term {p.term}: {before} and {p}")
        if s.settings.synchronous and record.init == "initialized":
            holder = s.members.get(record.primary or "")
            if holder is not None and holder.server.run == "primary" and holder.alive:
                quorum.check(record, holder.server.quorum)
                self._check_counted(record, holder)

    def _check_former(self, writable: list[Member]) -> None:
        """I1 and I3 as they read with quorumFailover: once a lease was taken early, or another
        server is promoted, no former primary can acknowledge, whichever links come back."""
        s = self.schedule
        record = s.record()
        newest = max((m.directory.timeline for m in writable), default=0)
        for m in writable:
            deposed = record.term in s.world.early and m.name != self._holder()
            deposed = deposed and record.stamp >= self.restored
            if (deposed or m.directory.timeline < newest) and m.could_acknowledge():
                raise AssertionError(
                    f"I1/I3: {m.name} could acknowledge on timeline {m.directory.timeline} in "
                    f"term {record.term} of {self._holder()}"
                )

    def _holder(self) -> str | None:
        lease = self.schedule.world.lease
        return pod_of(lease.holder) if lease else None

    def _check_counted(self, record: Record, holder: Member) -> None:
        """Law, point 7: whoever the server may count is among those that a promotion hears of."""
        s = holder.server
        counted = {n for n in self.schedule.members if f'"{n}"' in s.sync_names + s.active_names}
        everybody = counted | record.voter_names | {holder.name}
        if not record.degraded and record.read_quorum + s.quorum + 1 <= len(everybody):
            raise AssertionError(
                f"R {record.read_quorum} + W {s.quorum} + 1 does not exceed |V u S| "
                f"{len(everybody)}: {sorted(everybody)}"
            )
