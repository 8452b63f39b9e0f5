"""Stand-ins for what takes time or room: a clock that passes by sleeping, a disk that is full."""

from __future__ import annotations

import errno
from typing import Any

from pgha.postgres.directory import Directory


class Clock:
    """Time passes by sleeping."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Disk(Directory):
    """Refuses what is written while it is full."""

    full = False
    tried = 0

    def write_note(self, name: str, note: dict[str, Any]) -> None:
        self.tried += 1
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device", name)
        super().write_note(name, note)
