"""A primary leaves that cannot reach the API: the others hear from itself that it has ended."""

from __future__ import annotations

import pytest

from pgha.keeper import Keeper
from tests.simulation.test_waiver import Cluster

pytestmark = pytest.mark.simulation

SOON = 5.0  # seconds; by the lease alone it is more than 10
Patch = pytest.MonkeyPatch


def without_api(cluster: Cluster, patch: Patch) -> str:
    """The primary leaves; it reaches the members."""
    patch.setattr(cluster.schedule.world.random, "random", lambda: 1.0)  # no answer is lost
    cluster.passes(3.0)
    first = cluster.record.primary or ""
    cluster.schedule.world.api_cut.add(first)
    cluster.schedule.members[first].leaving = True
    return first


@pytest.mark.parametrize("synchronous", [True, False])
def test_another_member_takes_over_at_once(synchronous: bool, monkeypatch: Patch) -> None:
    cluster = Cluster(synchronous)
    first = without_api(cluster, monkeypatch)
    cluster.passes(SOON)
    assert cluster.record.primary != first
    (now,) = cluster.primaries()
    assert not cluster.schedule.members[now].directory.holds(cluster.schedule.acknowledged)


def test_who_does_not_hear_of_it_waits_for_the_lease_to_end(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Keeper, "told", lambda self, version, record: None)
    cluster = Cluster(synchronous=False)
    first = without_api(cluster, monkeypatch)
    cluster.passes(SOON)
    assert (cluster.primaries(), cluster.record.primary) == ([], first)
    cluster.passes(20.0)
    assert cluster.record.primary != first and len(cluster.primaries()) == 1


def test_it_ends_a_promise_that_the_same_holder_was_given(monkeypatch: Patch) -> None:
    """While the API was gone for everybody the others promised not to race."""
    cluster = Cluster(synchronous=False)
    first = without_api(cluster, monkeypatch)
    world = cluster.schedule.world
    cluster.schedule.members[first].leaving = False
    world.api_down = True
    cluster.passes(30.0)
    assert cluster.primaries() == [first], "by promises"
    cluster.schedule.members[first].leaving = True
    cluster.passes(SOON)
    assert cluster.primaries() == [], "nobody takes a lease without the API"
    world.api_down = False
    cluster.passes(SOON)
    assert cluster.record.primary != first and len(cluster.primaries()) == 1
