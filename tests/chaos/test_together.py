"""One harm for several trials: done once, felt by all, undone whatever happens."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.chaos.together import Together

pytestmark = pytest.mark.unit

NOTHING: Any = None  # a harm to everybody looks at no cluster


class Harmful:
    """Counts; `broken`: it cannot be done."""

    def __init__(self, broken: bool = False) -> None:
        self.done = self.undone = 0
        self._broken = broken

    @contextlib.contextmanager
    def __call__(self, cluster: object, primary: object) -> Iterator[None]:
        if self._broken:
            raise OSError("no harm")
        self.done += 1
        try:
            yield
        finally:
            self.undone += 1


def test_it_is_done_once_before_anybody_goes_on_and_undone_after_all() -> None:
    harm, seen = Harmful(), []
    together = Together(harm, 3)

    def trial(number: int) -> None:
        with together(NOTHING, NOTHING):
            seen.append((harm.done, harm.undone))
        assert harm.undone == 1

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(trial, range(3)))
    assert seen == [(1, 0)] * 3


def test_a_harm_that_cannot_be_done_holds_nobody() -> None:
    together = Together(Harmful(broken=True), 3)

    def trial(number: int) -> str:
        try:
            with together(NOTHING, NOTHING):
                return "struck"
        except (OSError, threading.BrokenBarrierError) as error:
            return type(error).__name__

    with ThreadPoolExecutor(3) as pool:
        found = sorted(pool.map(trial, range(3)))
    assert found == ["BrokenBarrierError", "BrokenBarrierError", "OSError"]


def test_a_trial_that_fails_meanwhile_leaves_nothing_harmed() -> None:
    harm = Harmful()
    together = Together(harm, 2)

    def trial(fails: bool) -> None:
        with together(NOTHING, NOTHING):
            if fails:
                raise ValueError("this trial")

    with ThreadPoolExecutor(2) as pool:
        lanes = [pool.submit(trial, fails) for fails in (True, False)]
        errors = [type(lane.exception()) for lane in lanes]
    assert errors == [ValueError, threading.BrokenBarrierError]
    assert (harm.done, harm.undone) == (1, 1)


def test_a_trial_that_never_comes_to_its_strike_is_not_waited_for() -> None:
    harm = Harmful()
    together = Together(harm, 2)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: together(NOTHING, NOTHING).__enter__())
        together.give_up()
        assert isinstance(waiting.exception(), threading.BrokenBarrierError)
    assert harm.done == 0
