"""A primary cut off from the API goes on with the promises of whoever may take the lease."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pgha.kube.errors import ApiUnreachable
from pgha.kube.leases import RawLease
from pgha.record import Record
from tests.simulation.cluster import SimulatedLease
from tests.simulation.schedule import RECORD
from tests.simulation.test_waiver import Cluster

pytestmark = pytest.mark.simulation


@pytest.mark.parametrize("reached", [True, False])
@pytest.mark.parametrize("promiser_is_cut", [True, False])
def test_a_voter_of_a_record_that_landed_without_an_answer_has_to_promise(
    promiser_is_cut: bool, reached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The primary knows the record of before, by which the new voter could not race."""
    cluster = Cluster(synchronous=False)
    world, record = cluster.schedule.world, cluster.record
    monkeypatch.setattr(world.random, "random", lambda: 1.0)  # no other answer is lost
    first = record.primary or ""
    old, new = sorted(m.name for m in cluster.members if m.name != first)
    assert world.lease is not None
    less = replace(record.without_voter(new), read_quorum=2, revision=record.revision + 1)
    world.lease = replace(
        world.lease, annotations={**world.lease.annotations, RECORD: less.dump()},
        resource_version=str(next(world.versions)),
    )
    real, landed = SimulatedLease.write, False

    def write(self: SimulatedLease, lease: RawLease, timeout: float) -> RawLease:
        nonlocal landed
        written = real(self, lease, timeout)
        votes = Record.parse(lease.annotations.get(RECORD)).voter_names
        if landed or self._member != first or new not in votes:
            return written
        landed = True
        world.api_cut |= {first, old} if promiser_is_cut else {first}
        if not reached:
            world.blocked.add(frozenset((first, new)))
        raise ApiUnreachable("the answer was lost")

    monkeypatch.setattr(SimulatedLease, "write", write)
    cluster.passes(60.0)
    assert landed, "the member that streams became a voter"
    assert cluster.primaries() == ([first] if reached else [new])


def test_a_primary_that_is_told_of_a_higher_term_stops_at_once() -> None:
    """It is cut off from the API: the members that it asks for promises know more than it."""
    cluster = Cluster(synchronous=False)
    world, record = cluster.schedule.world, cluster.record
    first = record.primary or ""
    world.api_cut.add(first)
    cluster.passes(12.0)
    assert cluster.primaries() == [first], "by promises"
    assert world.lease is not None
    later = replace(record, term=record.term + 1, revision=record.revision + 1)
    world.lease = replace(
        world.lease, holder="somebody/else/1", resource_version=str(next(world.versions)),
        annotations={**world.lease.annotations, RECORD: later.dump()},
    )
    cluster.passes(cluster.schedule.settings.times.retry_period + 1.0)
    assert cluster.primaries() == []
