"""How soon something is done again that did not work, or changed nothing. Owns these pauses.

They cost no failover its speed: what is decided anew is followed up at once, and a first failure
after a tenth of a second.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pgha.actions import Promote
from pgha.clock import boottime
from pgha.kube.client import Api
from pgha.kube.errors import ApiError
from pgha.kube.leases import LeaseApi, RawLease
from pgha.rules import Decision

AT_ONCE = 0.002  # seconds after actions, which have changed the facts
REPEATED = 0.1  # seconds after actions that were decided once more
PART = 1 / 50  # of the time that a promotion has taken, between two looks at it
FIRST_PAUSE = 0.1  # seconds after a first failure
CHANGES = 3  # failures in a row that are not paused after, as what was tried has changed


class Pace:
    """The nap after a decision that names no time of its own."""

    def __init__(self, clock: Callable[[], float] = boottime) -> None:
        self._clock = clock
        self._last: object = None
        self._since = clock()

    def after(self, decision: Decision) -> float:
        """Seconds. An event, a renewed Lease for one, still ends the nap."""
        what = decision.rule, decision.actions
        if what != self._last:
            self._last, self._since = what, self._clock()
            return AT_ONCE
        if any(isinstance(action, Promote) for action in decision.actions):
            # Nothing tells when PostgreSQL has done it, and clients wait: it is looked for in
            # milliseconds, which a promotion that takes seconds does not need.
            return min(REPEATED, max(AT_ONCE, (self._clock() - self._since) * PART))
        return REPEATED


@dataclass
class Backoff:
    """Pauses between failures: the first is short, then each twice as long, up to `longest`."""

    longest: float  # seconds
    clock: Callable[[], float] = boottime
    first: float = FIRST_PAUSE
    _failures: int = 0
    _failed_at: float = float("-inf")
    _not_before: float = float("-inf")

    @property
    def left(self) -> float:
        """Seconds until the next attempt; 0 when there may be one."""
        return max(0.0, self._not_before - self.clock())

    def worked(self) -> None:
        self._failures, self._not_before = 0, float("-inf")

    def failed(self, changed: bool, asked: float = 0.0) -> None:
        """`changed`: another try would be of something else. `asked`: seconds that the server asks
        for."""
        now = self.clock()
        if now - self._failed_at > 2 * self.longest:
            self._failures = 0
        self._failures, self._failed_at = self._failures + 1, now
        pause = min(self.longest, self.first * 2.0 ** min(self._failures - 1, 30))
        if changed and self._failures <= CHANGES:
            pause = 0.0
        self._not_before = now + max(pause, asked)


class HeededLease(LeaseApi):
    """The Lease, with the time for which the API server asked to be left alone (Retry-After)."""

    def __init__(
        self, api: Api, name: str, longest: float, clock: Callable[[], float] = boottime
    ) -> None:
        """`longest`: seconds; no server's wish keeps a cluster without a primary for longer."""
        super().__init__(api, name)
        self._longest, self._clock = longest, clock
        self._until = float("-inf")

    def asked(self) -> float:
        """Seconds for which nothing is to be written."""
        return max(0.0, self._until - self._clock())

    def write(self, lease: RawLease, timeout: float) -> RawLease:
        return self._heed(super().write, lease, timeout)

    def create(self, lease: RawLease, timeout: float) -> RawLease:
        return self._heed(super().create, lease, timeout)

    def _heed(self, send: Callable[..., Any], lease: RawLease, timeout: float) -> RawLease:
        self._until = float("-inf")
        try:
            written: RawLease = send(lease, timeout)
        except ApiError as e:
            if e.retry_after is not None:
                self._until = self._clock() + min(e.retry_after, self._longest)
            raise
        return written
