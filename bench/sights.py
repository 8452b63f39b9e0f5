"""What was seen at one moment of a trial: the line between those who watch and those who judge."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sight:
    """When, which kind of thing, which object, what it shows now. `at`: CLOCK_MONOTONIC."""

    at: float
    what: str
    who: str
    shown: str
