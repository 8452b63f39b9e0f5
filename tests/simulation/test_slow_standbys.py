"""A standby that lags: what it lacks may be with a member whose history left the recorded one."""

from __future__ import annotations

import pytest

from tests.simulation.member import Member
from tests.simulation.schedule import Schedule
from tests.simulation.test_waiver import Cluster

pytestmark = pytest.mark.simulation

SEEDS = 12
KINDS = ("slow", "slow", "cut", "cut", "postgres", "container", "forced", "mend")


class Lagging(Schedule):
    """Notes how many acknowledged commits the slowest standby ever lacked when it was mended."""

    lacked = 0

    def _heal(self) -> None:
        slow = (m.directory for m in self.members.values() if m.slow)
        self.lacked = max(self.lacked, 0, *(len(d.holds(self.acknowledged)) for d in slow))
        super()._heal()


def test_lagging_standbys_keep_the_invariants() -> None:
    """Among them histories in which the rest was not enough, and such in which one was rewound."""
    fired: set[str] = set()
    lacked = 0
    for seed in range(SEEDS):
        schedule = Lagging(seed, kinds=KINDS, faults_for=120.0, wide=True)
        assert schedule.run() > 0, "a schedule without commits shows nothing"
        (primary,) = schedule.primaries
        assert not primary.directory.holds(schedule.acknowledged)
        fired |= schedule.fired
        lacked = max(lacked, schedule.lacked)
    assert lacked > 50, "more than a standby ever receives in one step"
    assert {"quorum-missing", "yield", "rewind"} <= fired


def _primary(cluster: Cluster) -> Member:
    name, = cluster.primaries()
    return cluster.schedule.members[name]


def test_who_left_the_record_does_not_stand_in_for_who_followed_it() -> None:
    """The former primary P and the lagging B are heard; the commits are on A's disk and on P's.

    P has more than the fork at which A was promoted, so it cannot lead; B must not either.
    """
    cluster = Cluster(synchronous=True)
    world = cluster.schedule.world
    former = _primary(cluster)
    _, lagging = sorted((m for m in cluster.members if m is not former), key=lambda m: m.name)
    lagging.slow = True
    cluster.passes(5.0)
    world.cut.add(former.name)
    deadline = world.now + 60.0
    while not [n for n in cluster.primaries() if n != former.name]:
        cluster.passes(0.25)
        assert world.now < deadline
    promoted = next(m for m in cluster.members if m.server.run == "primary" and m is not former)
    assert promoted is not lagging
    cluster.passes(0.5)
    while cluster.record.primary != promoted.name:
        cluster.passes(0.25)
    promoted.die(1e9)
    former.die(0.5)
    world.cut.clear()
    cluster.passes(60.0)
    assert cluster.primaries() == [], "nobody else has every acknowledged commit"
    assert {m.name for m in (former, lagging) if "quorum-missing" in m.fired} == {lagging.name}
    promoted.restart_at = world.now
    lagging.slow = False
    cluster.settles()
