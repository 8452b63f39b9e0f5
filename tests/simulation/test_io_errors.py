"""A primary whose disk failed once: it gives the lease up, and is a member like any other later."""

from __future__ import annotations

import pytest

from tests.simulation.member import Member
from tests.simulation.test_waiver import LONG, Cluster

pytestmark = pytest.mark.simulation

FOR_GOOD = 1e9  # seconds


def primary_of(cluster: Cluster) -> Member:
    (found,) = [m for m in cluster.members if m.alive and m.server.run == "primary"]
    return found


@pytest.mark.parametrize("synchronous", [False, True])
def test_the_lease_does_not_go_in_circles_past_an_ill_member_with_more_wal(
    synchronous: bool,
) -> None:
    """It was never acknowledged: enough others are heard, and the ill one takes no lease."""
    cluster = Cluster(synchronous)
    first = primary_of(cluster)
    first.directory.wal.append((first.directory.timeline, 10**9))
    first.pulse._ill = "an I/O error"
    cluster.passes(LONG)
    assert primary_of(cluster) is not first


def test_who_had_an_io_error_once_takes_over_from_its_successor() -> None:
    cluster = Cluster(synchronous=False)
    first = primary_of(cluster)
    first.pulse._ill = "an I/O error"
    cluster.passes(LONG)
    second = primary_of(cluster)
    assert second is not first and first.ill() == "", "it gave the lease up, and streams again"
    cluster.settles()
    term = cluster.promoted
    cluster.passes(LONG)
    assert cluster.promoted == term, "and does not take it back by itself"
    for other in cluster.members:
        if other is not first:
            other.die(FOR_GOOD)
    cluster.passes(LONG)
    assert primary_of(cluster) is first
