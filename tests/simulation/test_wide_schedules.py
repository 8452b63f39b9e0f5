"""The same invariants in a wider world: late decisions, links cut one by one, watches that lag."""

from __future__ import annotations

import pytest

from tests.simulation.schedule import Schedule

pytestmark = pytest.mark.simulation

CHUNKS, EACH = 8, 25

@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_wide_schedules_keep_the_invariants(chunk: int) -> None:
    for seed in range(chunk * EACH, (chunk + 1) * EACH):
        Schedule(seed, wide=True).run()

