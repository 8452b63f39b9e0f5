"""etcd goes back to a backup under a running cluster: it goes on, and nothing is lost."""

from __future__ import annotations

import pytest

from tests.simulation.schedule import Schedule

pytestmark = pytest.mark.simulation

SEEDS = 5
KINDS = ("restore", "restore", "postgres", "container", "api", "api-cut", "cut", "freeze",
         "switchover", "mend", "mend")  # fmt: skip


@pytest.mark.parametrize("wide, early", [(False, False), (True, False), (False, True)])
def test_a_restored_lease_is_written_again_and_nothing_is_lost(wide: bool, early: bool) -> None:
    restored = 0
    for seed in range(SEEDS):
        schedule = Schedule(seed, kinds=KINDS, faults_for=90.0, wide=wide, early=early)
        schedule.run()
        restored += schedule.invariants.restored > (0, 0)
    assert restored > 0
