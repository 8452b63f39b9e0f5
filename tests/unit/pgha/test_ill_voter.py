"""A voter that is ill and has more WAL: when the holder has to wait for it, and when not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pgha import actions as a
from pgha.facts import Branch, Facts, Run, RunView, Tenure, Vote, Votes
from pgha.lsn import LSN, Position
from pgha.rules import decide
from tests.unit.pgha.by_hand import (
    ANOTHER,
    END,
    MINE,
    OTHER,
    READY,
    RECORD,
    THEIRS,
    decided,
    peer,
    primary,
)

pytestmark = pytest.mark.unit

MORE = Position(2, LSN(0x6000))
ILL = Vote(OTHER, "d1", True, MORE, Branch.SAME, healthy=False)
FIT = Vote(ANOTHER, "d2", True, END, Branch.SAME, healthy=True)


def candidate(*votes: Vote, pending: bool = False, **record: object) -> Facts:
    """c-0 holds the lease of c-1, which has stopped for an I/O error."""
    f = primary()
    known = replace(
        RECORD, term=5, primary=OTHER, primary_directory="d1",
        promotion=replace(RECORD.promotion, promoter=THEIRS), **record,  # type: ignore[type-var,arg-type]
    )
    return replace(
        f, lease=replace(f.lease, holder=MINE, record=known), tenure=Tenure(5, 8.0, 1.0),
        run=RunView(Run.STANDBY), data=replace(READY, end=END),
        votes=Votes(5, 3.0, pending, 1.0, {v.name: v for v in votes}),
        peers={n: peer(n) for n in (OTHER, ANOTHER)},  # whose disks have room
    )


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
