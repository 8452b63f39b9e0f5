"""Waiting for a condition with a deadline. Owns how tests wait; nothing sleeps a fixed time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
EVERY = 0.5  # seconds between two looks


def until(
    what: str,
    condition: Callable[[], T],
    seconds: float,
    every: float = EVERY,
    passing: tuple[type[Exception], ...] = (),
) -> T:
    """The first truthy answer of the condition.

    An AssertionError of the condition, or one of `passing`, means "not yet"; what was seen last
    stands in the error when the deadline passes.
    """
    deadline = time.monotonic() + seconds
    while True:
        seen: object
        try:
            answer = condition()
            if answer:
                return answer
            seen = answer
        except Exception as error:
            if not isinstance(error, (AssertionError, *passing)):
                raise
            seen = error
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds:g} s; last seen: {seen!s:.2000}")
        time.sleep(every)


def throughout(
    what: str, condition: Callable[[], object], seconds: float, every: float = EVERY
) -> None:
    """The condition holds at every look for so many seconds: what must not happen does not."""
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        assert condition(), f"{what}: not any more after {passed:.1f} s"
        time.sleep(every)
