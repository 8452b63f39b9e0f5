"""Disks that fill up under a primary: it moves, and not a commit is lost in either mode."""

from __future__ import annotations

import pytest

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


def test_the_primary_moves_and_nothing_is_lost() -> None:
    fired: set[str] = set()
    moved = 0
    for seed in range(SEEDS):
        schedule = run(seed)
        moved += sum("is full" in line and "takes over" in line for line in schedule.world.log)
        for member in schedule.members.values():
            fired |= member.fired
    assert moved > 0 and {"disk-full", "no-room"} <= fired


def test_a_promotion_that_takes_the_last_room_loses_nothing() -> None:
    for seed in range(SEEDS):
        run(seed, CROWDED, wide=True)
