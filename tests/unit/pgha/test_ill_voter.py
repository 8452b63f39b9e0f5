"""A voter that is ill and has more WAL: when the holder has to wait for it, and when not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pgha import actions as a
from pgha.facts import Branch, Facts, Vote
from pgha.lsn import LSN, Position
from pgha.rules import decide
from tests.unit.pgha.by_hand import ANOTHER, END, OTHER, RECORD, THEIRS, decided, judging, peer

pytestmark = pytest.mark.unit

MORE = Position(2, LSN(0x6000))
ILL = Vote(OTHER, "d1", True, MORE, Branch.SAME, healthy=False)
FIT = Vote(ANOTHER, "d2", True, END, Branch.SAME, healthy=True)


def candidate(*votes: Vote, pending: bool = False, **record: object) -> Facts:
    """c-0 holds the lease of c-1, which has stopped for an I/O error."""
    known = replace(
        RECORD, term=5, primary=OTHER, primary_directory="d1",
        promotion=replace(RECORD.promotion, promoter=THEIRS), **record,  # type: ignore[type-var,arg-type]
    )
    f = judging(known, *votes, since=1.0, asked_for=3.0)
    peers = {n: peer(n) for n in (OTHER, ANOTHER)}  # whose disks have room
    return replace(f, votes=replace(f.votes, pending=pending, last_asked=1.0), peers=peers)


def test_enough_others_know_every_acknowledged_commit() -> None:
    """Two of three voters: what the ill one has beside was acknowledged to nobody."""
    assert decide(candidate(ILL, FIT)).rule == "intent"


def test_without_them_its_wal_may_have_what_nobody_else_has() -> None:
    assert decided(candidate(ILL)) == ("yield", a.ReleaseLease(OTHER))
    assert decided(candidate(ILL, FIT, read_quorum=3)) == ("yield", a.ReleaseLease(OTHER))
    assert decided(candidate(ILL, FIT, degraded=True)) == ("yield", a.ReleaseLease(OTHER))


def test_the_others_are_waited_for_while_they_are_asked() -> None:
    waiting = decide(candidate(ILL, pending=True))
    assert (waiting.rule, waiting.actions) == ("yield", ())


def test_a_healthy_one_with_more_is_yielded_to_all_the_same() -> None:
    fit = replace(FIT, position=MORE)
    assert decided(candidate(replace(ILL, position=END), fit)) == ("yield", a.ReleaseLease(ANOTHER))
