"""Positions in the WAL, and timeline histories. Owns their parsing and comparison; no I/O.

Source: PostgreSQL documentation, "Continuous Archiving", Timelines; timeline.c for the history
file: one line `parent-TLI <tab> switch-point <tab> reason` for each ancestor, oldest first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")
MAX_ANCESTORS = 100_000


class LSN(int):
    """A byte position in the WAL; prints as PostgreSQL does, `0/3000060`."""

    @classmethod
    def parse(cls, text: str) -> LSN:
        found = _LSN.fullmatch(text.strip())
        if found is None:
            raise ValueError(f"{text[:40]!r} is no LSN: two hexadecimal numbers around a slash")
        return cls(int(found[1], 16) << 32 | int(found[2], 16))

    def __str__(self) -> str:
        return f"{int(self) >> 32:X}/{int(self) & 0xFFFFFFFF:X}"

    def __repr__(self) -> str:
        return f"LSN({self})"


@dataclass(frozen=True)
class Switch:
    """An ancestor: `timeline` ended at `at`, where the next one began."""

    timeline: int
    at: LSN


class History(tuple[Switch, ...]):
    """The ancestors of a timeline, oldest first; empty for timeline 1."""

    @classmethod
    def parse(cls, text: str) -> History:
        switches: list[Switch] = []
        for line in text.splitlines():
            line = line.split("#", 1)[0].strip()
            if not line:
                continue
            parts = line.split(None, 2)
            if len(parts) < 2 or not parts[0].isdigit() or len(parts[0]) > 10:
                raise ValueError(f"{line[:80]!r} is no line of a timeline history file")
            switch = Switch(int(parts[0]), LSN.parse(parts[1]))
            newest = switches[-1].timeline if switches else 0
            if not newest < switch.timeline < 1 << 32:
                raise ValueError(f"{line[:80]!r}: timelines of a history file must grow")
            switches.append(switch)
            if len(switches) > MAX_ANCESTORS:
                raise ValueError(f"a history file with more than {MAX_ANCESTORS} ancestors")
        return cls(switches)

    def timeline_at(self, at: LSN, timeline: int) -> int:
        """The timeline that a record at `at` is of, in the history of `timeline`."""
        return next((s.timeline for s in self if at < s.at), timeline)

    def text(self) -> str:
        return "".join(f"{s.timeline}\t{s.at}\tpgha\n" for s in self)


@dataclass(frozen=True, order=True)
class Position:
    """Where a WAL ends. Ordered by timeline, then LSN: a later timeline is newer history."""

    timeline: int
    lsn: LSN

    def __str__(self) -> str:
        return f"{self.lsn} on timeline {self.timeline}"


def branch(
    mine: History, my_timeline: int, my_end: LSN, theirs: History, their_timeline: int
) -> Literal["same", "behind", "diverged", "ahead"]:
    """My history against theirs (law, point 10: the timeline number alone says nothing).

    same: equal timelines with equal ancestors. behind: theirs grew out of mine, and I have
    nothing past the point where it did. ahead: mine grew out of theirs. diverged: all else.
    """
    if my_timeline == their_timeline:
        return "same" if tuple(mine) == tuple(theirs) else "diverged"
    for n, switch in enumerate(theirs):
        if switch.timeline == my_timeline:
            # The least of them: a later timeline may have left before an earlier one did.
            forked = min(later.at for later in theirs[n:])
            fits = tuple(theirs[:n]) == tuple(mine) and my_end <= forked
            return "behind" if fits else "diverged"
    for n, switch in enumerate(mine):
        if switch.timeline == their_timeline:
            return "ahead" if tuple(mine[:n]) == tuple(theirs) else "diverged"
    return "diverged"


def left_at(mine: History, theirs: History, their_timeline: int) -> LSN | None:
    """Where my history left their timeline, all of which I have up to there; None if it did not."""
    for n, switch in enumerate(mine):
        if switch.timeline == their_timeline:
            return switch.at if tuple(mine[:n]) == tuple(theirs) else None
    return None
