"""Whose word counts before a promotion, and on which timeline it happens."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pgha import actions as a
from pgha.facts import Branch, Facts, Run, RunView, Vote, Votes
from pgha.lsn import LSN, History, Position, Switch
from pgha.record import Promotion
from pgha.rules import decide
from tests.unit.pgha.by_hand import (
    ANOTHER,
    MINE,
    OTHER,
    RECORD,
    THEIRS,
    decided,
    judging,
    peer,
    vote,
)

pytestmark = pytest.mark.unit

FORK = LSN(0x6000)
LOST = replace(
    RECORD, term=6, timeline=3, highest_number=3, history=History((Switch(2, FORK),)),
    promotion=Promotion(4, 3, THEIRS, done=True), primary=OTHER, primary_directory="d1",
)  # fmt: skip
MORE = Position(2, LSN(0x7000))


def candidate(*votes: Vote, branch: Branch = Branch.BEHIND) -> Facts:
    """It took the lease in term 6 and is on timeline 2, short of the fork to the recorded 3."""
    f = judging(LOST, *votes, since=2.0, asked_for=2.0)
    peers = {n: peer(n) for n in (OTHER, ANOTHER)}  # whose disks have room
    return replace(f, data=replace(f.data, branch=branch), peers=peers)


def test_who_left_the_record_is_not_heard_by_one_that_is_behind() -> None:
    """It may share more of the recorded history than the candidate, and cannot be yielded to."""
    decision = decide(candidate(vote(ANOTHER, MORE, Branch.DIVERGED)))
    assert decision.rule == "quorum-missing"
    assert f"{ANOTHER} left the recorded history" in decision.detail
    assert decide(candidate(vote(ANOTHER, branch=Branch.BEHIND))).rule == "intent"


def test_who_left_the_record_holds_nothing_against_one_that_is_on_it() -> None:
    f = candidate(vote(ANOTHER, MORE, Branch.DIVERGED), branch=Branch.SAME)
    assert decide(replace(f, data=replace(f.data, timeline=3))).rule == "intent"


def test_a_late_vote_ends_no_promotion_that_is_under_way() -> None:
    """PostgreSQL may be a primary any moment: the lease is not given away then."""
    f = candidate(vote(ANOTHER, MORE, Branch.BEHIND))
    assert decided(f) == ("yield", a.ReleaseLease(ANOTHER))
    intent = replace(LOST, promotion=Promotion(6, 4, MINE))
    under_way = replace(f, lease=replace(f.lease, record=intent))
    for late in (under_way, replace(under_way, votes=Votes()),
                 replace(under_way, data=replace(f.data, branch=Branch.DIVERGED))):
        f = replace(late, run=replace(late.run, promoting=4))
        assert decide(f).rule == "promote"


def test_a_later_timeline_that_was_not_reached_is_not_named_as_the_parent() -> None:
    f = candidate(vote(ANOTHER, branch=Branch.BEHIND))
    f = replace(f, data=replace(f.data, overtaken=True))
    assert decided(f) == ("keep-timeline", a.StopServer("fast"))
    stopped = replace(f, run=RunView(Run.STOPPED))
    assert decided(stopped) == ("holder-start", a.StartStandby(2))
    assert decide(replace(f, run=replace(f.run, stays_on=2))).rule == "intent"
