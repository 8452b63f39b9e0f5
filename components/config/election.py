"""The three durations of the election. Owns their inequalities (client-go's leaderelection)."""

from __future__ import annotations

from dataclasses import dataclass

from components.config.keys import join, key
from components.config.refusal import refusal

LONGEST = 600
"""Seconds: the members' promises while the API is gone are for a lease duration, and no longer."""

JITTER = 1.2
"""client-go's JitterFactor: a retry may come this much later than retryPeriodSeconds."""


@dataclass(frozen=True)
class LeaderElection:
    """`leaderElection`: how fast a lost primary is noticed, in seconds."""

    lease_duration_seconds: int = key("integer", 15)
    """Seconds that others wait, from the last renewal they saw, before they take the lease; at most
    600."""

    renew_deadline_seconds: int = key("integer", 10)
    """Seconds without a renewal after which the primary stops its PostgreSQL."""

    retry_period_seconds: int = key("integer", 2)
    """Seconds between two tries to renew or to take the lease."""

    def check(self, path: str) -> None:
        lease, renew, retry = (
            (join(path, "leaseDurationSeconds"), self.lease_duration_seconds),
            (join(path, "renewDeadlineSeconds"), self.renew_deadline_seconds),
            (join(path, "retryPeriodSeconds"), self.retry_period_seconds),
        )
        for name, value in (lease, renew, retry):
            if value < 1:
                raise refusal(name, value, "it must be 1 or more seconds")
        if lease[1] > LONGEST:
            raise refusal(*lease, f"it must be {LONGEST} or less")
        if lease[1] <= renew[1]:
            raise refusal(*lease, f"it must be greater than {renew[0]}, which is {renew[1]}")
        if renew[1] <= retry[1] * JITTER:
            raise refusal(
                *renew, f"it must be greater than {JITTER} times {retry[0]}, which is {retry[1]}"
            )
