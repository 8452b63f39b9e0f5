"""When this standby last heard its primary on the replication connection. A thread of its own.

Owns that moment and nothing else; what follows from silence is decided in rules/suspect.py. It
runs with `quorumFailover` only. What is not known is not silence: where the kernel cannot be asked,
the primary counts as heard, and so it does for the time in which this thread itself did not run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from pgha.clock import boottime
from pgha.member import Member
from pgha.postgres.server import Receiver
from pgha.postgres.sockets import heard_ago, of_process

EVERY = 0.25  # seconds between two looks
ASLEEP = 2.0  # seconds without a look after which nothing is known of that time
CONNECTING = 1.0  # seconds after an attachment in which the receiver may be the former one's


@dataclass
class Ear:
    """`doubt`: seconds of silence at which the agent is woken."""

    member: Member
    receiver: Callable[[], Receiver | None]
    doubt: float
    wake: Callable[[], None]
    log: Callable[..., None]
    clock: Callable[[], float] = boottime
    _heard: tuple[int, float] = (0, 0.0)  # in which term, and when
    _looked: float = field(default=float("-inf"))
    _inodes: frozenset[int] = frozenset()
    _deaf: bool = False
    _stop: threading.Event = field(default_factory=threading.Event)

    def silent(self, term: int) -> float | None:
        """Seconds since the primary of `term` was heard; None: not in this term."""
        in_term, at = self._heard
        return max(0.0, self.clock() - at) if in_term and in_term == term else None

    def run(self) -> None:
        while not self._stop.wait(EVERY):
            self.listen()

    def stop(self) -> None:
        self._stop.set()

    def listen(self) -> None:
        now, m = self.clock(), self.member
        slept, self._looked = now - self._looked > ASLEEP, now
        if m.attached_to is not None and now - m.attached_at > CONNECTING:
            age = self._age()
            if age is not None:
                at = now if slept else now - age
                term, before = self._heard
                self._heard = m.attached_term, (
                    max(at, before) if term == m.attached_term else at
                )
        if slept:
            self._heard = self._heard[0], now
        silent = self.silent(m.attached_term) if m.attached_to is not None else None
        if silent is not None and silent >= self.doubt:
            self.wake()

    def _age(self) -> float | None:
        """Seconds since the sender was heard; None while nothing streams."""
        try:
            age = heard_ago(self._inodes) if self._inodes else None
            if age is None:  # another connection by now, or none
                found = self.receiver()
                streaming = found is not None and found.lsn is not None
                self._inodes = of_process(found.pid) if found and streaming else frozenset()
                age = heard_ago(self._inodes) if self._inodes else None
            self._deaf = False
            return age
        except OSError as e:
            if not self._deaf:
                self.log("deaf", why=f"{e}: quorumFailover will not act here")
            self._deaf = True
            return 0.0
