"""Dead ends that only a person's waiver ends: the simulated members never get out by themselves."""

from __future__ import annotations

import pytest

from pgha.facts import Waiver
from pgha.record import Record
from tests.simulation.member import Member
from tests.simulation.schedule import Schedule

pytestmark = pytest.mark.simulation

LONG = 60.0  # seconds in which the members would have found a primary if they could


class Cluster:
    """Three members that stream, and no faults but those that a test makes."""

    def __init__(self, synchronous: bool) -> None:
        for seed in range(100):
            self.schedule = Schedule(seed)
            if len(self.members) == 3 and self.schedule.settings.synchronous is synchronous:
                break
        self.settles()
        while len(self.record.voters) < 3 or self.record.write_quorum < synchronous:
            self.passes(1.0)

    @property
    def members(self) -> list[Member]:
        return list(self.schedule.members.values())

    @property
    def record(self) -> Record:
        return self.schedule.record()

    @property
    def promoted(self) -> int:
        assert self.record.promotion is not None
        return self.record.promotion.term

    def settles(self) -> None:
        deadline = self.schedule.world.now + 120.0
        self.schedule._until(deadline, "the cluster comes up", True)

    def passes(self, seconds: float) -> None:
        end = self.schedule.world.now + seconds
        while self.schedule.world.now < end:
            self.schedule._step()

    def primaries(self) -> list[str]:
        return [m.name for m in self.members if m.server.run == "primary"]

    def lose(self, *names: str) -> None:
        """The volumes, and the pods with them."""
        for name in names:
            m = self.schedule.members[name]
            m.die(1.0)
            m.same_pod = False
            m.wipe()

    def accept_loss(self, survivor: Member) -> int:
        """What the survivor does not have is no promise any more; how much that is."""
        lost = survivor.directory.holds(self.schedule.acknowledged)
        self.schedule.acknowledged -= lost
        return len(lost)

    def waive(self, term: int, member: str) -> None:
        for m in self.members:
            m.waiver = Waiver(f"{term} {member}", term, member)


def test_more_voters_lost_than_the_quorum_can_miss() -> None:
    cluster = Cluster(synchronous=True)
    first = cluster.record.primary
    survivor = next(m for m in cluster.members if m.name != first)
    others = tuple(sorted(m.name for m in cluster.members if m is not survivor))
    cluster.lose(*others)
    cluster.accept_loss(survivor)
    cluster.passes(LONG)
    assert cluster.primaries() == [], "nobody guesses"
    for term, member in ((cluster.promoted - 1, survivor.name), (cluster.promoted, others[0])):
        cluster.waive(term, member)
        cluster.passes(LONG)
        assert cluster.primaries() == [], "another term, another member"
    term = cluster.promoted
    cluster.waive(term, survivor.name)
    cluster.settles()
    waived = cluster.record.waived
    assert waived is not None and cluster.record.primary == survivor.name
    assert (waived.term, waived.member, waived.missing) == (term, survivor.name, others)
    assert waived.used > term and cluster.promoted >= waived.used
    # It is spent: the same loss again is the same dead end.
    cluster.lose(*others)
    survivor.die(1.0)
    cluster.settles()
    assert cluster.record.waived == waived, "its own directory needed no waiver"


def test_a_history_that_nobody_followed_is_lost_with_its_primary() -> None:
    """All survivors left the recorded history: in Asynchronous mode too nobody may be promoted."""
    cluster = Cluster(synchronous=False)
    schedule = cluster.schedule
    old = schedule.members[cluster.record.primary or ""].directory
    survivors = [m for m in cluster.members if m.name != cluster.record.primary]
    fork = old.history[-1].at // 64 if old.history else 0
    cluster.lose(cluster.record.primary or "")
    for more, m in enumerate(survivors, 1):  # as if they had been on the timeline before
        d = m.directory
        m.server.stop()
        d.wal = [*old.wal[:fork], *((1, -n) for n in range(more))]
        d.timeline, d.history, m.end = 1, type(d.history)(), None
    for m in survivors:
        cluster.accept_loss(m)
    cluster.passes(LONG)
    assert cluster.primaries() == []
    chosen = survivors[0]
    before = cluster.record.timeline
    cluster.waive(cluster.promoted, chosen.name)
    cluster.settles()
    assert cluster.record.timeline > before and cluster.record.waived is not None
    assert [s.timeline for s in cluster.record.history] == [1], "the lost timeline is no history"


def test_those_who_are_left_rebuild_no_record_while_a_voter_may_know_a_later_one() -> None:
    """The last primary of the newest record that is left: its end was proven, and its directory
    was the last one's, until a successor of which nobody is left to tell (seed 710348)."""
    cluster = Cluster(synchronous=True)
    members = cluster.schedule.members
    first = members[cluster.record.primary or ""]
    first.leaving, first.retired = True, True
    while cluster.record.primary == first.name or cluster.record.open_intent is not None:
        cluster.passes(0.25)
    cluster.passes(5.0)
    scale(cluster, first.name)
    cluster.schedule.world.lease = None
    cluster.passes(LONG)
    assert cluster.primaries() == [], "it does not know what was acknowledged since"
    scale(cluster, *members)
    cluster.settles()
    cluster.passes(5.0)


def scale(cluster: Cluster, *names: str) -> None:
    """The members that there are; those of other names are gone at once."""
    for name, m in cluster.schedule.members.items():
        m.declared, m.retired = names, name not in names
        if m.retired and m.alive:
            m.die(1.0)
            m.same_pod = False
