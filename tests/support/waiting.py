"""Waiting for a condition with a deadline. Owns how tests wait; nothing sleeps a fixed time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(
    what: str,
    condition: Callable[[], T],
    seconds: float,
    every: float = 0.5,
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
