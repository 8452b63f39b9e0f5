"""Disks that fill up under a primary: it moves, and not a commit is lost in either mode."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.simulation.member import Member
from tests.simulation.schedule import Schedule

pytestmark = pytest.mark.simulation

SEEDS = 12
KINDS = ("full", "full", "full", "postgres", "container", "switchover", "mend")
CROWDED = ("crowd", "crowd", "full", "postgres", "container", "switchover", "mend")


def run(seed: int, kinds: tuple[str, ...] = KINDS, wide: bool = False) -> Schedule:
    schedule = Schedule(seed, kinds=kinds, faults_for=240.0, wide=wide)
    schedule.gentle = True  # every disk survives: nothing may be lost in Asynchronous mode either
    schedule.run()
    return schedule


def said(schedule: Schedule, *words: str) -> int:
    """The lines of the history that say all of this."""
    return sum(all(word in line for word in words) for line in schedule.world.log)


def test_the_primary_moves_and_nothing_is_lost() -> None:
    fired: set[str] = set()
    moved = 0
    for seed in range(SEEDS):
        schedule = run(seed)
        moved += said(schedule, "is full", "takes over")
        fired |= schedule.fired
    assert moved > 0 and {"disk-full", "no-room"} <= fired


def test_a_promotion_that_takes_the_last_room_loses_nothing() -> None:
    """Every acknowledged commit is there in the end, with disks that a promotion has filled."""
    fired: set[str] = set()
    for seed in range(SEEDS):
        schedule = run(seed, CROWDED, wide=True)
        assert said(schedule, "has no room for another promotion") > 0
        (primary,) = schedule.primaries
        assert schedule.acknowledged and not primary.directory.holds(schedule.acknowledged)
        fired |= schedule.fired
    assert {"no-room", "complete"} <= fired


def crash_on_a_full_disk(seed: int, synchronous: bool) -> tuple[Schedule, str, int]:
    """Of three, the last primary has WAL that nobody else has, and no room until the end of the
    history. Its name, and the term in which it ended."""
    schedule = Schedule(seed)
    for n in range(len(schedule.members), 3):
        name = f"c-{n}"
        schedule.members[name] = Member(
            schedule.world, name, schedule.settings, schedule.members
        )
    settings = replace(schedule.settings, synchronous=synchronous, min_sync_replicas=1)
    for member in schedule.members.values():
        member.declared, member.settings = tuple(schedule.members), settings
        member.boot(new_pod=True)
    schedule.settings = settings
    schedule._until(schedule.world.now + 60.0, "the cluster comes up", True)
    for _ in range(200):  # until all vote
        schedule._step()
    record = schedule.record()
    assert len(record.voters) == 3 and (record.write_quorum > 0) is synchronous
    (former,) = schedule.primaries
    former.free = 0
    assert all(len(m.directory.wal) < len(former.directory.wal) for m in former.standbys())
    former.server.stop()
    former.stopped_at, former.directory.clean = schedule.world.now, False
    until = schedule.world.now + 60.0
    while schedule.world.now < until:
        schedule._step()
    return schedule, former.name, record.term


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_disk_that_never_heals_ends_with_another_primary_where_a_quorum_is_left(
    seed: int,
) -> None:
    schedule, former, term = crash_on_a_full_disk(seed, synchronous=True)
    (primary,) = schedule.primaries
    assert primary.name != former, "\n".join(schedule.world.log[-40:])
    assert not primary.directory.holds(schedule.acknowledged)
    terms = schedule.record().term - term  # once more where a voter's promise still runs
    assert terms <= 5, f"the lease went in circles: {terms} terms\n" + "\n".join(schedule.world.log)


def test_a_disk_that_never_heals_keeps_the_lease_where_nobody_else_may_have_all() -> None:
    schedule, former, _ = crash_on_a_full_disk(0, synchronous=False)
    assert not schedule.primaries
    assert schedule.members[former].keeper.tenure() is not None
