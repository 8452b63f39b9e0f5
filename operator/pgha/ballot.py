"""The voter's side: votes and promises given to others, kept on disk before they are answered.

A vote is bound to the term on the Lease: the term is written, the receiver is detached and seen
gone, then the position is read, and nothing attaches to a lower term again (amendment 2).
A promise means neither race nor vote nor detach for its time (amendment 13). Both are refused
while this container holds the lease, which a request of a higher term ends.

An early vote says: while the Lease stands at this version, I receive nothing. It ends when a newer
one is seen: from then on nobody can take the lease that was voted about
(docs/decisions/quorum-failover.md).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pgha.clock import boot_id, boottime
from pgha.facts import Claim, LeaseView
from pgha.lsn import Position
from pgha.peers.messages import (
    EarlyVoteRequest,
    PromiseAnswer,
    PromiseRequest,
    VoteAnswer,
    VoteRequest,
    parse,
    to_json,
)
from pgha.settings import pod_of

LONGEST = 600.0  # seconds that a promise may take: the most that leaseDurationSeconds may be
VOTE_WITHIN = 3.0  # seconds for detaching and reading the position


class Notes(Protocol):
    """Small files beside the data directory, written atomically and flushed."""

    def read_note(self, name: str) -> dict[str, Any] | None: ...
    def write_note(self, name: str, note: dict[str, Any]) -> None: ...


class Standby(Protocol):
    """What a voter needs of its own member."""

    @property
    def acting(self) -> threading.Lock: ...
    def holds(self) -> bool: ...
    def hear(self, term: int) -> None: ...
    def lease(self) -> tuple[str | None, int]: ...
    def last_holder(self) -> tuple[str | None, int]: ...
    def version(self) -> str: ...
    def objection(self) -> str | None: ...
    def detach_and_read(self, timeout: float) -> tuple[Position | None, str]: ...
    def describe(self) -> Mapping[str, Any]: ...


class Ballot:
    """Remembers the highest term voted for, and the promise that runs."""

    def __init__(
        self,
        member: Standby,
        notes: Notes,
        lease_duration: float,
        wake: Callable[[], None],
        clock: Callable[[], float] = boottime,
    ) -> None:
        self._member, self._notes, self._wake, self._clock = member, notes, wake, clock
        note = notes.read_note("vote") or {}
        self.voted_term = int(note.get("term", 0))
        self._voted_for = str(note.get("candidate", ""))
        self._duration = lease_duration
        self._stillness = threading.Lock()
        self._still_at = str((notes.read_note("early") or {}).get("version", ""))
        self._still_until = self._clock() + lease_duration
        self._until = float("-inf")
        self.promised_to = ""  # an incarnation; only its own release ends a promise early
        promise = notes.read_note("promise")
        if promise is None:
            # Nobody knows what this directory's former agent promised.
            self._until = self._clock() + lease_duration
            notes.write_note("promise", {"holder": "", "until": 0.0, "seconds": 0.0, "boot": ""})
            return
        self.promised_to = str(promise.get("holder", ""))
        if promise.get("boot") == boot_id():
            self._until = float(promise.get("until", 0.0))
        elif float(promise.get("seconds", 0.0)) > 0:
            self._until = self._clock() + float(promise["seconds"])

    def fresh_directory(self) -> None:
        """There was no directory, so nothing can have been promised with it."""
        self._until = float("-inf")

    @property
    def promised(self) -> float:
        """Seconds that a promise still runs; 0 when none does."""
        return max(0.0, self._until - self._clock())

    def bound(self, lease: LeaseView) -> float:
        """Seconds for which the promise binds: not when that very holder gave the lease back."""
        mark = lease.record.release
        if lease.claim is Claim.RELEASED and mark and mark.by == self.promised_to:
            return 0.0
        return self.promised

    def still(self, version: str) -> bool:
        """Does an early vote stand, with the Lease seen at `version`? Then nothing is received.

        It ends with a newer Lease, be that deleted afterwards, and after a lease duration where
        none is ever seen; after a restart of the agent that time is counted anew.
        """
        with self._stillness:
            if _newer(version, self._still_at):
                self._still_at = ""
            return self._still_at != "" and self._clock() < self._still_until

    def early_vote(self, body: dict[str, Any]) -> dict[str, Any]:
        """Handler of POST /early-vote: this member must suspect the primary as well."""
        request = parse(EarlyVoteRequest, body)
        self._member.hear(request.term)

        def give(deadline: float) -> tuple[Position | None, str]:
            if request.version != self._member.version():
                return None, "it sees another version of the Lease"
            if hears := self._member.objection():
                return None, hears
            return self.stand_still(request.term, request.version, deadline)

        return self._answer(request, give)

    def stand_still(
        self, term: int, version: str, deadline: float
    ) -> tuple[Position | None, str]:
        """Give the early vote; the position, or why not. Caller holds `acting`.

        `deadline`: by time.monotonic.
        """
        if self._member.holds():
            return None, "it holds the lease itself"
        if self.promised > 0:
            return None, f"a promise to the holder runs for {self.promised:.1f} s more"
        if self.voted_term > term:
            return None, f"it has voted in term {self.voted_term}"
        if self._still_at != version:
            self._notes.write_note("early", {"version": version})
        with self._stillness:
            self._still_at, self._still_until = version, self._clock() + self._duration
        return self._member.detach_and_read(max(0.1, deadline - time.monotonic()))

    def vote(self, body: dict[str, Any]) -> dict[str, Any]:
        """Handler of POST /vote."""
        request = parse(VoteRequest, body)
        self._member.hear(request.term)  # it is asked for in a term that was acquired

        def give(deadline: float) -> tuple[Position | None, str]:
            if why := self._objection(request):
                return None, why
            if request.term > self.voted_term:
                self._notes.write_note(
                    "vote", {"term": request.term, "candidate": request.incarnation}
                )
                self.voted_term, self._voted_for = request.term, request.incarnation
            return self._member.detach_and_read(max(0.1, deadline - time.monotonic()))

        return self._answer(request, give)

    def _answer(
        self,
        request: VoteRequest | EarlyVoteRequest,
        give: Callable[[float], tuple[Position | None, str]],
    ) -> dict[str, Any]:
        """Grant with the position that `give` ends with, or refuse with its reason; nothing else
        acts on the member meanwhile. `give` gets a deadline by time.monotonic."""
        deadline = time.monotonic() + VOTE_WITHIN
        if not self._member.acting.acquire(timeout=VOTE_WITHIN / 2):
            return self._refuse(request, "it is busy")
        try:
            position, why = give(deadline)
            if position is None:
                return self._refuse(request, why)
            return self._grant(request, position)
        finally:
            self._member.acting.release()
            self._wake()

    def _objection(self, request: VoteRequest) -> str | None:
        holder, term = self._member.lease()
        if self._member.holds():
            return "it holds the lease itself"
        if self.promised > 0:
            return f"a promise to the holder runs for {self.promised:.1f} s more"
        if request.term < term or request.term < self.voted_term:
            return f"term {request.term} is over"
        if request.term == self.voted_term and self._voted_for != request.incarnation:
            return f"its vote in term {request.term} is {self._voted_for}'s"
        if request.term == term and holder not in (None, request.incarnation):
            return f"the lease of term {term} is {holder}'s"
        return None

    def _grant(
        self, request: VoteRequest | EarlyVoteRequest, position: Position
    ) -> dict[str, Any]:
        mine = {**self._member.describe(), "timeline": position.timeline,
                "lsn": int(position.lsn)}
        return to_json(VoteAnswer(granted=True, term=request.term, **mine))

    def _refuse(self, request: VoteRequest | EarlyVoteRequest, why: str) -> dict[str, Any]:
        return to_json(
            VoteAnswer(
                granted=False, term=request.term, why=why, term_seen=self._term_seen(),
                **self._member.describe(),
            )
        )

    def _term_seen(self) -> int:
        return max(self._member.last_holder()[1], self.voted_term)

    def promise(self, body: dict[str, Any]) -> dict[str, Any]:
        """Handler of POST /promise: the holder cannot reach the API, or its Lease was deleted.

        Of a deleted one, holder and term are those that were known last, and who took the lease or
        gave an early vote for that says so (docs/decisions/quorum-failover.md)."""
        request = parse(PromiseRequest, body)
        self._member.hear(request.term)
        mine = self._member.describe()

        def answer(why: str) -> dict[str, Any]:
            return to_json(PromiseAnswer(
                not why, mine["name"], mine["directory_id"], why, self._term_seen()
            ))

        if not 0 < request.seconds <= LONGEST:
            return answer(f"{request.seconds} seconds is no duration for a promise")
        if not self._member.acting.acquire(timeout=0.5):
            return answer("it is busy")
        try:
            holder, term = (
                self._member.last_holder() if request.deleted else self._member.lease()
            )
            if self._member.holds():
                return answer("it holds the lease itself")
            if holder != request.holder:
                return answer(f"the lease it knows is {pod_of(holder) or 'nobody'}'s")
            if request.deleted and term > request.term:
                return answer(f"it knows of term {term}")
            if self.voted_term > term:
                return answer(f"it has voted in term {self.voted_term}")
            if self.still(self._member.version()):
                return answer("it receives nothing, by its early vote")
            if request.deleted:
                return answer("")
            now = self._clock()
            until = max(self._until, now + request.seconds)  # never shorter than one given before
            self._notes.write_note(
                "promise",
                {"holder": request.holder, "until": until, "seconds": until - now,
                 "boot": boot_id()},
            )
            self._until, self.promised_to = until, request.holder
            return answer("")
        finally:
            self._member.acting.release()


def _newer(version: str, than: str) -> bool:
    """Versions are UID/resourceVersion, and the latter one sequence for all objects of an API
    server, so that a Lease that was made again is newer too. Not known is not newer."""
    seen, known = (v.rpartition("/")[2] for v in (version, than))
    return seen.isdecimal() and known.isdecimal() and int(seen) > int(known)
