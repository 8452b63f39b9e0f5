"""Data that `initdb` left here, and a record that says no more than that it was begun."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pgha import actions as a
from pgha.facts import Claim, Data, DataView, Facts, LeaseView, Run, RunView
from pgha.lsn import LSN, Position
from pgha.record import Record
from pgha.rules import decide
from tests.unit.pgha.by_hand import ALL, ANOTHER, ME, MINE, OTHER, RECORD, decided, peer, primary

pytestmark = pytest.mark.unit

BEGUN = Record(term=1, init="initializing")
NOTHING = {"data": Data.EMPTY, "directory_id": None, "system_id": None, "position": None}


def initialized(claim: Claim = Claim.OWN_DEAD, **others: object) -> Facts:
    return Facts(
        now=100.0, me=ME, incarnation=MINE, settings=primary().settings, declared=ALL,
        lease=LeaseView(claim, None if claim is Claim.RELEASED else MINE, 99.0, BEGUN),
        data=DataView(Data.READY, "", "d0", 7, 1, clean=True, end=Position(1, LSN(0x5000))),
        run=RunView(Run.STOPPED),
        peers={ME: peer(ME, run=Run.STOPPED),
               **{n: peer(n, **{**NOTHING, **others}) for n in (OTHER, ANOTHER)}},
    )


@pytest.mark.parametrize("claim", [Claim.OWN_DEAD, Claim.EXPIRED, Claim.RELEASED, Claim.DEAD])
def test_it_takes_the_lease_again_and_writes_what_was_born(claim: Claim) -> None:
    f = initialized(claim)
    again = replace(BEGUN, term=2)
    assert decided(f) == ("birth-again", a.Acquire(again))
    held = replace(f, lease=LeaseView(Claim.HELD, MINE, 0.0, again), tenure=primary().tenure)
    write, = decide(held).actions
    assert isinstance(write, a.WriteRecord) and write.record.init == "initialized"


def test_not_while_it_is_held_and_not_without_an_initialization_on_the_record() -> None:
    assert decide(initialized(Claim.HELD)).rule != "birth-again"
    f = initialized()
    assert decide(replace(f, lease=replace(f.lease, record=Record()))).rule == "record-lost"


def test_not_where_somebody_else_has_data_or_is_not_heard() -> None:
    assert decide(initialized(data=Data.READY)).rule == "record-lost"
    assert decided(initialized(age=9.0)) == ("birth-again", a.AskPeers())


def test_not_with_data_that_was_in_use() -> None:
    f = initialized()
    kept = {**f.peers, ME: peer(ME, run=Run.STOPPED, record=RECORD.dump())}
    assert decide(replace(f, peers=kept)).rule == "record-lost"
    assert decide(replace(f, data=replace(f.data, timeline=2))).rule == "record-lost"
    assert decide(replace(f, data=replace(f.data, directory_id=None))).rule == "record-lost"
