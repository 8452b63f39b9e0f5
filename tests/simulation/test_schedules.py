"""Layer 3: the real decision code over a simulated world, hundreds of random schedules."""

from __future__ import annotations

import pytest

from pgha.rules import RULES
from tests.simulation.conftest import Counter
from tests.simulation.schedule import Schedule

pytestmark = pytest.mark.simulation

CHUNKS, EACH = 20, 25

#: Seeds that found a bug once, with what it was.
FOUND = {
    653: "a Lease deleted twice was made again from the memory of a member that had been cut off",
    699: "a pod deleted after a crash gave the lease back without the end of its WAL",
    829: "the end of a former primary was taken for proof although a later promotion was open",
    945: "as 829",
}

#: Rules that the simulated world cannot bring about, and where they are seen instead.
ELSEWHERE = {
    "foreign-owner": "tests/unit/pgha/test_rules_by_hand.py, as all of these but the holder's, "
    "which are in test_holder_by_hand.py",
    "fenced": "kept for a fencer that reports while PostgreSQL still runs",
    "birth-again": "tests/simulation/test_birth.py: no fault strikes before a cluster is up",
    "birth-without-lease": "initdb takes a second; a lease is not lost in it by chance",
    "promotion-of-before": "tests/unit/pgha/test_rules_by_hand.py, and in the wider world",
    "fencer-silent": "the simulated fencer always answers; tests/chaos kills the real one",
    "refused-directory": "tests/e2e/test_bad_luck.py: a foreign data directory",
    "keep-timeline": "test_promotion_by_hand.py; a simulated promotion names its own parent",
    "crash-give-up": "the simulated disk is never ill",
    "suspect": "with quorumFailover alone: test_early_schedules.py",
    "stopping": "the simulated server stops at once",
    "start-to-wait": "the simulated mode never changes",
    "holder-starting": "the simulated server starts at once",
    "holder-empty": "a member without data never takes the lease; a guard",
    "identify": "the simulated walsenders are known at once",
    "detach-from-former": "a vote detaches by itself; a guard",
    "slots": "the simulated slots are never lost",
    "switchover-refused": "tests/e2e/test_day_two.py",
    "disk-full": "tests/simulation/test_full_disks.py: the other schedules' disks are endless",
    "no-room": "as disk-full",
    "waiver-refused": "tests/unit/pgha/test_waiver.py: nobody waives a quorum by chance",
    "ask-for-wal": "tests/unit/pgha/test_supply.py: the simulated receivers are let in at last",
    "copying": "the simulated copies have a source until they end",
}
FIRED: set[str] = set()


def run(seed: int) -> int:
    """The commits that were acknowledged, none of which was lost."""
    schedule = Schedule(seed)
    acknowledged = schedule.run()
    FIRED.update(schedule.fired)
    return acknowledged


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_schedules_keep_the_invariants(chunk: int, schedules: Counter) -> None:
    for seed in range(chunk * EACH, (chunk + 1) * EACH):
        assert run(seed) > 0, "a schedule without commits shows nothing"
        schedules()


@pytest.mark.parametrize("seed", sorted(FOUND))
def test_seeds_that_found_a_bug(seed: int) -> None:
    assert run(seed) > 0


def test_every_rule_fires_in_some_history() -> None:
    """None is shadowed by those before it. Uses what the tests above have run."""
    expected = {rule.id for rule in RULES} - set(ELSEWHERE)
    seed = 10_000
    while not expected <= FIRED and seed < 10_200:
        run(seed)
        seed += 1
    assert expected <= FIRED, f"never fired: {sorted(expected - FIRED)}"
