"""How standbys are copied. Owns the keys of `clone` and the limits that pg_basebackup sets."""

from __future__ import annotations

from dataclasses import dataclass

from components.config.keys import join, key
from components.config.quantity import quantity_bytes
from components.config.refusal import refusal

LEAST, MOST = 32 * 1024, 1024**3
"""Bytes a second that pg_basebackup takes for --max-rate (its documentation, "Options")."""


@dataclass(frozen=True)
class Clone:
    """`clone`: the copy of the primary that a new standby begins with."""

    max_rate: str = key("string", "")
    """Most bytes a second that one clone may read from the primary, as 50Mi; from 32Ki to 1Gi;
    empty: no limit. The WAL that is written meanwhile is sent beside it and not limited."""

    def check(self, path: str) -> None:
        if self.max_rate and not LEAST <= (self.max_rate_bytes or 0) <= MOST:
            raise refusal(
                join(path, "maxRate"),
                self.max_rate,
                "it must be a size that is sent in a second, from 32Ki to 1Gi",
            )

    @property
    def max_rate_bytes(self) -> int | None:
        return quantity_bytes(self.max_rate)
