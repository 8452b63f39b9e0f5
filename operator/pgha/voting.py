"""What a vote does to the own member: nothing is received any more, and the position is exact.

Owns that one step; `ballot` decides whether a vote is given, and calls it holding `acting`.
"""

from __future__ import annotations

from dataclasses import dataclass

from pgha.facts import Data
from pgha.jobs import Jobs
from pgha.lsn import Position
from pgha.member import Member
from pgha.postgres.server import Server, ServerState

READ_WITHIN = 30.0  # seconds for reading the exact end of WAL, where the caller allows more


@dataclass(frozen=True)
class Voting:
    member: Member
    server: Server
    jobs: Jobs

    def detach_and_read(self, timeout: float) -> tuple[Position | None, str]:
        """The end of this member's WAL, or None and why it cannot be told. `timeout`: seconds.

        Amendment 2: the receiver is seen gone before the position is read; and it is looked for
        again after, as what came in meanwhile would be acknowledged and not be in the answer.
        """
        m = self.member
        state = self.server.poll()
        if state is ServerState.PRIMARY or m.promoting:
            return None, "PostgreSQL is a primary here, or becomes one"
        if m.data.data is not Data.READY:
            return None, f"the data directory is {m.data.data.value}"
        if self.jobs.view().running:
            return None, f"a {self.jobs.view().kind} runs"
        if state is not ServerState.STOPPED:
            if not self.server.detach(timeout / 2):
                return None, "the receiver did not end in time"
            m.attached_to, m.fruitless = None, 0  # a vote ended it: nothing was learned
        m.read_end(min(READ_WITHIN, timeout))
        if self.server.receives():
            m.set_end(None)
            return None, "a receiver ran while the end of WAL was read"
        end = m.data.end
        return end, "" if end else "the end of WAL cannot be read"
