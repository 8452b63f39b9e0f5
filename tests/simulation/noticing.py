"""How a rule that was broken on purpose is noticed: by the first schedule that breaks."""

from __future__ import annotations

from collections.abc import Callable

from tests.simulation.schedule import Broken


def first_broken(
    run: Callable[[int], object], first: int, most: int, *also: type[Exception]
) -> int | None:
    """The first of `most` seeds whose run raises Broken, or one of `also`; None if none does."""
    for seed in range(first, first + most):
        try:
            run(seed)
        except (Broken, *also):
            return seed
    return None
