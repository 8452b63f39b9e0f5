"""The voter: one vote a term, bound to it; promises and votes exclude each other (law, 13-14)."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest

from pgha import ballot as ballots
from pgha.ballot import Ballot
from pgha.lsn import LSN, Position

pytestmark = pytest.mark.unit

DURATION = 15.0
CANDIDATE, RIVAL, HOLDER = "a-1/u1/s1", "a-2/u2/s2", "a-0/u0/s0"


class Disk:
    """Notes that outlive the agent."""

    def __init__(self) -> None:
        self.notes: dict[str, dict[str, Any]] = {}
        self.order: list[str] = []

    def read_note(self, name: str) -> dict[str, Any] | None:
        return self.notes.get(name)

    def write_note(self, name: str, note: dict[str, Any]) -> None:
        self.notes[name] = dict(note)
        self.order.append(f"wrote {name}")


class Standby:
    """A member that does what it is told and remembers in which order."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.acting = threading.Lock()
        self.holding = False
        self.observed: tuple[str | None, int] = (None, 5)
        self.observed_last: tuple[str | None, int] | None = None
        self.readable = True
        self.told: list[int] = []  # terms, as to its keeper
        self.sees = "lease/7"
        self.hears: str | None = None  # why it does not suspect the primary

    def version(self) -> str:
        return self.sees

    def objection(self) -> str | None:
        return self.hears

    def holds(self) -> bool:
        return self.holding

    def hear(self, term: int) -> None:
        self.told.append(term)

    def lease(self) -> tuple[str | None, int]:
        return self.observed

    def last_holder(self) -> tuple[str | None, int]:
        return self.observed_last or self.observed

    def detach_and_read(self, timeout: float) -> tuple[Position | None, str]:
        self.disk.order.append("detached")
        return (Position(2, LSN(0x3000)), "") if self.readable else (None, "it hangs")

    def describe(self) -> Mapping[str, Any]:
        return {"name": "a-3", "directory_id": "d3"}


class Ground:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.boot = 1000.0, "boot-1"
        monkeypatch.setattr(ballots, "boot_id", lambda: self.boot)
        self.disk = Disk()
        self.standby = Standby(self.disk)
        self.start()

    def start(self) -> None:
        self.ballot = Ballot(self.standby, self.disk, DURATION, lambda: None, lambda: self.now)

    def vote(self, term: int, candidate: str = CANDIDATE) -> dict[str, Any]:
        pod = candidate.split("/")[0]
        return self.ballot.vote({"term": term, "candidate": pod, "incarnation": candidate})

    def early(self, version: str = "lease/7") -> dict[str, Any]:
        return self.ballot.early_vote({"term": 5, "version": version, "candidate": "a-1"})

    def promise(self, holder: str = HOLDER, seconds: float = DURATION) -> dict[str, Any]:
        return self.ballot.promise({"holder": holder, "term": 0, "seconds": seconds})

    def promise_of_a_deleted_lease(self) -> dict[str, Any]:
        return self.ballot.promise(
            {"holder": HOLDER, "term": 5, "seconds": DURATION, "deleted": True}
        )


@pytest.fixture
def ground(monkeypatch: pytest.MonkeyPatch) -> Ground:
    made = Ground(monkeypatch)
    made.now += DURATION + 1  # past what an agent without a promise file waits
    made.disk.order.clear()
    return made


def test_a_vote_is_on_disk_before_the_receiver_is_detached(ground: Ground) -> None:
    answer = ground.vote(6)
    assert answer["granted"] and answer["term"] == 6 and answer["lsn"] == 0x3000
    assert ground.disk.order == ["wrote vote", "detached"]
    assert ground.ballot.voted_term == 6


def test_one_vote_a_term_also_after_a_restart(ground: Ground) -> None:
    assert ground.vote(6)["granted"]
    assert ground.vote(6)["granted"], "the same candidate may ask again"
    assert "a-1" in ground.vote(6, RIVAL)["why"]
    ground.start()
    assert not ground.vote(6, RIVAL)["granted"]
    assert not ground.vote(5)["granted"]
    assert ground.vote(7, RIVAL)["granted"]


def test_no_vote_below_the_term_on_the_lease(ground: Ground) -> None:
    ground.standby.observed = (None, 9)
    assert "over" in ground.vote(8)["why"]
    assert ground.ballot.voted_term == 0


def test_no_vote_against_the_known_holder_of_that_term(ground: Ground) -> None:
    ground.standby.observed = (RIVAL, 6)
    assert "a-2" in ground.vote(6)["why"]
    assert ground.vote(6, RIVAL)["granted"]
    assert ground.vote(7)["granted"], "the Lease it knows may be older than the candidate's"


def test_a_holder_neither_votes_nor_promises(ground: Ground) -> None:
    ground.standby.holding = True
    ground.standby.observed = (HOLDER, 5)
    assert not ground.vote(6)["granted"]
    assert not ground.promise()["promised"]
    assert ground.disk.order == []


def test_what_cannot_be_read_is_no_vote_but_binds(ground: Ground) -> None:
    ground.standby.readable = False
    assert not ground.vote(6)["granted"]
    ground.standby.readable = True
    assert not ground.vote(6, RIVAL)["granted"]


def test_a_promise_blocks_votes_for_its_time(ground: Ground) -> None:
    ground.standby.observed = (HOLDER, 5)
    assert ground.promise()["promised"]
    assert ground.disk.order == ["wrote promise"]
    ground.now += DURATION - 0.1
    assert "promise" in ground.vote(6)["why"]
    ground.now += 0.2
    assert ground.ballot.promised == 0
    assert ground.vote(6)["granted"]


def test_a_vote_for_a_later_term_blocks_promises(ground: Ground) -> None:
    ground.standby.observed = (HOLDER, 5)
    assert ground.vote(6)["granted"]
    assert "term 6" in ground.promise()["why"]


def test_a_promise_is_for_the_holder_that_is_known(ground: Ground) -> None:
    ground.standby.observed = (HOLDER, 5)
    assert not ground.promise("a-0/u0/another")["promised"]
    assert not ground.promise(seconds=0)["promised"]
    assert not ground.promise(seconds=1e6)["promised"]


def test_a_deleted_lease_is_promised_to_its_last_holder(ground: Ground) -> None:
    ground.standby.observed, ground.standby.observed_last = (None, 0), (HOLDER, 5)
    assert not ground.promise()["promised"], "only to make it again: it knows of no holder now"
    assert ground.promise_of_a_deleted_lease()["promised"]
    assert ground.ballot.promised == 0, "what was deleted cannot be taken any more"


def test_who_knows_that_it_was_taken_does_not_promise_a_deleted_lease(ground: Ground) -> None:
    ground.standby.observed = (None, 0)
    for taken in ((RIVAL, 6), (None, 5), (HOLDER, 6)):
        ground.standby.observed_last = taken
        answer = ground.promise_of_a_deleted_lease()
        assert not answer["promised"] and answer["term_seen"] == taken[1]
    ground.standby.observed_last, ground.standby.sees = (HOLDER, 5), "lease/7"
    assert ground.early()["granted"]
    ground.standby.sees = ""
    assert "early vote" in ground.promise_of_a_deleted_lease()["why"]
    assert ground.vote(6)["granted"]
    assert "term 6" in ground.promise_of_a_deleted_lease()["why"]


def test_an_early_vote_that_is_over_stays_so_when_the_lease_is_deleted(ground: Ground) -> None:
    ground.standby.observed_last = (HOLDER, 5)
    assert ground.early()["granted"] and ground.ballot.still("")
    assert not ground.ballot.still("lease/8"), "the suspicion was false"
    ground.standby.sees = ""
    assert not ground.ballot.still("")
    assert ground.promise_of_a_deleted_lease()["promised"]


def test_a_promise_outlives_the_agent_and_the_machine(ground: Ground) -> None:
    ground.standby.observed = (HOLDER, 5)
    assert ground.promise()["promised"]
    ground.now += 5
    ground.start()
    assert ground.ballot.promised_to == HOLDER
    assert ground.ballot.promised == pytest.approx(10), "the same boot: the same clock"
    ground.boot, ground.now = "boot-2", 3.0
    ground.start()
    assert ground.ballot.promised == pytest.approx(DURATION), "another boot: the whole time anew"


def test_a_shorter_promise_does_not_end_a_longer_one(ground: Ground) -> None:
    ground.standby.observed = (HOLDER, 5)
    assert ground.promise(seconds=60)["promised"]
    assert ground.promise(seconds=2)["promised"]
    assert ground.ballot.promised == pytest.approx(60)
    ground.start()
    assert ground.ballot.promised == pytest.approx(60), "the file keeps the longer one too"


def test_an_agent_without_its_promise_file_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    ground = Ground(monkeypatch)
    assert ground.ballot.promised == pytest.approx(DURATION)
    assert not ground.vote(6)["granted"]
    ground.ballot.fresh_directory()
    assert ground.ballot.promised == 0 and ground.vote(6)["granted"]


def test_a_busy_member_does_not_answer_yes(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ballots, "VOTE_WITHIN", 0.02)
    ground.standby.observed = (HOLDER, 5)
    with ground.standby.acting:
        assert ground.vote(6)["why"] == "it is busy"
        assert ground.promise()["why"] == "it is busy"
    assert ground.ballot.voted_term == 0


def test_every_request_tells_of_its_term_before_it_is_judged(ground: Ground) -> None:
    """A holder that hears of a higher one has lost the lease (amendment 1)."""
    ground.standby.holding = True
    with ground.standby.acting:  # its own loop may be at work
        ballots.VOTE_WITHIN, patience = 0.02, ballots.VOTE_WITHIN
        ground.vote(8)
        ballots.VOTE_WITHIN = patience
    ground.early()
    ground.ballot.promise({"holder": RIVAL, "term": 9, "seconds": DURATION})
    assert ground.standby.told == [8, 5, 9]


def test_whoever_refuses_tells_the_highest_term_it_knows(ground: Ground) -> None:
    ground.standby.observed = (HOLDER, 7)
    assert ground.vote(6)["term_seen"] == 7
    assert ground.promise(RIVAL)["term_seen"] == 7
    assert ground.vote(9)["granted"]
    assert ground.vote(8)["term_seen"] == 9
    assert ground.promise()["term_seen"] == 9, "a vote is asked for by whoever took the lease"


# -- early votes (docs/decisions/quorum-failover.md) ----------------------------------------------


def test_an_early_vote_is_on_disk_before_the_receiver_is_detached(ground: Ground) -> None:
    answer = ground.early()
    assert answer["granted"] and answer["term"] == 5 and answer["lsn"] == 0x3000
    assert ground.disk.order == ["wrote early", "detached"]
    assert ground.ballot.still("lease/7") and ground.ballot.voted_term == 0


def test_an_early_vote_ends_with_a_newer_lease_and_not_with_an_older(ground: Ground) -> None:
    ground.early()
    assert ground.ballot.still("lease/7") and ground.ballot.still("lease/6")
    assert ground.ballot.still(""), "a Lease that is not known is not newer"
    assert not ground.ballot.still("lease/10"), "the holder renewed, or another has it"
    assert not ground.ballot.still("again/8"), "it was deleted and made again"


def test_an_early_vote_outlives_the_agent_and_ends_in_time(ground: Ground) -> None:
    ground.early()
    ground.now += DURATION - 1
    ground.start()
    assert ground.ballot.still("lease/7"), "the whole time anew: its beginning is not known"
    ground.now += DURATION + 1
    assert not ground.ballot.still("lease/7"), "nobody stays detached for ever"


def test_a_voter_that_hears_the_primary_gives_no_early_vote(ground: Ground) -> None:
    ground.standby.hears = "it heard a-0 0.2 s ago"
    assert ground.early()["why"] == "it heard a-0 0.2 s ago"
    assert ground.disk.order == [] and not ground.ballot.still("lease/7")


def test_an_early_vote_is_about_the_lease_that_is_seen(ground: Ground) -> None:
    assert "another version" in ground.early("lease/8")["why"]
    assert ground.disk.order == []


def test_an_early_vote_and_a_promise_to_the_holder_exclude_each_other(ground: Ground) -> None:
    ground.standby.observed = (HOLDER, 5)
    assert ground.promise()["promised"]
    assert "promise" in ground.early()["why"]
    ground.now += DURATION + 1
    assert ground.early()["granted"]
    assert "early vote" in ground.promise()["why"]
    ground.standby.sees = "lease/8"
    assert ground.promise()["promised"], "the Lease it was about is gone"


def test_no_early_vote_by_the_holder_or_below_a_vote(ground: Ground) -> None:
    ground.standby.holding = True
    assert "itself" in ground.early()["why"]
    ground.standby.holding = False
    ground.vote(6)
    ground.disk.order.clear()
    assert "term 6" in ground.early()["why"]
    assert ground.disk.order == []


def test_an_early_vote_whose_position_cannot_be_read_binds_but_is_none(ground: Ground) -> None:
    ground.standby.readable = False
    assert not ground.early()["granted"]
    assert ground.ballot.still("lease/7")


def test_after_an_early_vote_any_candidate_of_the_next_term_gets_the_vote(ground: Ground) -> None:
    ground.early()
    assert ground.vote(6, RIVAL)["granted"]
