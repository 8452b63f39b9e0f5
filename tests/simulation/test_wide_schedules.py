"""The same invariants in a wider world: late decisions, links cut one by one, watches that lag."""

from __future__ import annotations

import pytest

from tests.simulation.conftest import Counter
from tests.simulation.schedule import Schedule

pytestmark = pytest.mark.simulation

CHUNKS, EACH = 8, 25

#: Seeds that found a bug once, with what it was.
FOUND = {
    31025: "a restarted member overwrote the record it had kept by an older one it was shown",
    50282: "a voter was narrowed away while the server was still to be told to count it",
}


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_wide_schedules_keep_the_invariants(chunk: int, schedules: Counter) -> None:
    for seed in range(chunk * EACH, (chunk + 1) * EACH):
        assert Schedule(seed, wide=True).run() > 0, "a schedule without commits shows nothing"
        schedules()



@pytest.mark.parametrize("seed", sorted(FOUND))
def test_wide_seeds_that_found_a_bug(seed: int) -> None:
    assert Schedule(seed, wide=True).run() > 0
