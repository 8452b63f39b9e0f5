"""Layer 3: the real decision code over a simulated world, hundreds of random schedules."""

from __future__ import annotations

import pytest

from tests.simulation.schedule import Schedule

pytestmark = pytest.mark.simulation

CHUNKS, EACH = 20, 25

#: Seeds that found a bug once, with what it was.
FOUND: dict[int, str] = {}


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_schedules_keep_the_invariants(chunk: int) -> None:
    for seed in range(chunk * EACH, (chunk + 1) * EACH):
        Schedule(seed).run()


@pytest.mark.parametrize("seed", sorted(FOUND))
def test_seeds_that_found_a_bug(seed: int) -> None:
    Schedule(seed).run()
