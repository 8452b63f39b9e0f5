"""A directory whose history goes on from the recorded one without being on the record."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pgha.kube.leases import RawLease
from pgha.record import Promotion, Record
from tests.simulation.member import Member
from tests.simulation.schedule import RECORD
from tests.simulation.test_waiver import LONG, Cluster

pytestmark = pytest.mark.simulation

BOTH = pytest.mark.parametrize("synchronous", [True, False])


class Strays(Cluster):
    """`first` is the primary, and `stray` a standby that is on a timeline of its own in the end."""

    def __init__(self, synchronous: bool) -> None:
        super().__init__(synchronous)
        self.world = self.schedule.world
        self.world.random.random = lambda: 1.0  # type: ignore[method-assign]  # nothing is lost
        self.first = self.schedule.members[self.record.primary or ""]
        self.stray, self.other = (m for m in self.members if m is not self.first)
        self.before = self.record

    def stop(self, m: Member) -> None:
        m.server.stop()
        m.end, m.stopped_at = None, self.world.now

    def strays(self) -> None:
        self.stop(self.stray)
        self.stray.directory.promote(self.before.highest_number + 1)

    def write(self, record: Record, holder: str) -> None:
        assert self.world.lease is not None
        notes: dict[str, str] = {**self.world.lease.annotations, RECORD: record.dump()}
        self.world.lease: RawLease | None = replace(
            self.world.lease, holder=holder, annotations=notes,
            resource_version=str(next(self.world.versions)),
        )

    def gone(self, m: Member) -> None:
        m.die(1e9)

    def lags(self, records: int) -> None:
        """`other` lacks so many of what was acknowledged, and `stray` does not."""
        source = self.stray.directory
        self.other.directory.wal = source.wal[: len(source.wal) - records]


@BOTH
@pytest.mark.parametrize("later_is_there", [True, False])
def test_a_promotion_whose_intent_was_overwritten_is_given_up(
    synchronous: bool, later_is_there: bool
) -> None:
    """It was promoted and not heard of; another took the next term and was not promoted."""
    cluster = Strays(synchronous)
    for m in cluster.members:
        cluster.stop(m)
        m.keeper._held = None
        m.keeper._allow(None)
    cluster.strays()
    later, number = cluster.before.term + 2, cluster.before.highest_number + 2
    holder = cluster.other.identity.incarnation
    cluster.write(replace(
        cluster.before, term=later, revision=cluster.before.revision + 4, release=None,
        promotion=Promotion(later, number, holder), highest_number=number,
    ), holder)
    if not later_is_there:
        cluster.gone(cluster.other)
    cluster.passes(LONG)
    assert len(cluster.primaries()) == 1 and cluster.record.timeline > number
    assert len({m.directory.timeline for m in cluster.members if m.alive}) == 1, "it was rewound"


@BOTH
def test_who_was_promoted_by_hand_keeps_nobody_from_being_promoted(synchronous: bool) -> None:
    cluster = Strays(synchronous)
    cluster.strays()
    cluster.other.directory.receive(cluster.first.directory, 1000)
    cluster.gone(cluster.first)
    cluster.passes(LONG)
    assert cluster.primaries() == [cluster.other.name]
    assert cluster.stray.directory.timeline == cluster.record.timeline, "it was rewound"


@BOTH
def test_a_stray_that_alone_has_commits_is_kept_until_a_person_decides(synchronous: bool) -> None:
    cluster = Strays(synchronous)
    cluster.stop(cluster.other)
    cluster.lags(3)
    cluster.gone(cluster.first)
    cluster.strays()
    kept = list(cluster.stray.directory.wal)
    cluster.passes(2 * LONG)
    assert cluster.primaries() == [] and cluster.stray.directory.wal == kept
    cluster.accept_loss(cluster.stray)
    cluster.waive(cluster.promoted, cluster.stray.name)
    cluster.passes(2 * LONG)
    assert cluster.primaries() == [cluster.stray.name]
    assert cluster.stray.directory.wal[: len(kept)] == kept
    assert cluster.other.directory.timeline == cluster.record.timeline
