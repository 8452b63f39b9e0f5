"""Which histories that go on from the recorded one count, and what the rules make of the others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pgha.facts import Branch, Facts, Vote
from pgha.gather import branch_of, judged
from pgha.lsn import LSN, History, Position, Switch
from pgha.record import Promotion, Record
from pgha.rules import decide
from tests.unit.pgha.by_hand import END, MINE, OTHER, RECORD, THEIRS, judging

pytestmark = pytest.mark.unit

FORK = LSN(0x4000)
BASE = (Switch(1, LSN(0x100)),)
ON = replace(RECORD, history=History(BASE))
WENT_ON = History((*BASE, Switch(2, FORK)))
FURTHER = Position(3, LSN(0x4800))


def branch(record: Record) -> Branch:
    return branch_of(record, OTHER, WENT_ON, FURTHER)


def test_the_branch_of_the_open_intent_is_its_promoters_alone() -> None:
    open_ = replace(ON, promotion=Promotion(5, 3, THEIRS), highest_number=3)
    assert branch(open_) is Branch.AHEAD, "promoted, and not known to be"
    assert branch(replace(open_, promotion=Promotion(5, 3, MINE))) is Branch.DIVERGED
    assert branch(replace(open_, promotion=Promotion(6, 4, MINE), highest_number=4)) is (
        Branch.DIVERGED
    ), "a later intent took its place"


def test_a_number_that_nobody_intended_does_not_count() -> None:
    assert branch(ON) is Branch.DIVERGED, "promoted by hand"


def test_a_stray_tells_where_it_left() -> None:
    assert judged(ON, OTHER, WENT_ON, FURTHER) == (Branch.DIVERGED, FORK)
    assert judged(ON, OTHER, History(BASE), END) == (Branch.SAME, None)
    elsewhere = History((Switch(1, LSN(0x200)), Switch(2, FORK)))
    assert judged(ON, OTHER, elsewhere, FURTHER) == (Branch.DIVERGED, None)


def holder(*votes: Vote, end: Position = END) -> Facts:
    """It holds the lease, and these have answered."""
    record = replace(ON, term=6, promotion=Promotion(4, 2, THEIRS, done=True), primary=OTHER,
                     primary_directory="d1")
    f = judging(record, *votes, since=5.0, asked_for=3.0)
    return replace(f, data=replace(f.data, history=History(BASE), end=end))


def vote(found: Branch, left_at: LSN | None, position: Position = FURTHER) -> Vote:
    return Vote(OTHER, "d1", True, position, found, True, "", left_at)


def test_nobody_yields_to_a_stray_nor_waits_for_one_that_has_no_more() -> None:
    assert decide(holder(vote(Branch.DIVERGED, FORK))).rule == "intent"


def test_a_stray_with_more_of_the_recorded_wal_is_not_passed_over() -> None:
    decision = decide(holder(vote(Branch.DIVERGED, FORK), end=Position(2, LSN(0x3000))))
    assert decision.rule == "quorum-missing" and "c-1 has more WAL, up to 0/4000" in decision.detail
