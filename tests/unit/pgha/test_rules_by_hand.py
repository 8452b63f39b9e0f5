"""Rules that no simulated history brings about, each from facts made by hand, with its actions.

Those of the holder before it is a primary: test_holder_by_hand.py.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from pgha import actions as a
from pgha.facts import Branch, Claim, Data, DataView, Job, LeaseView, Request, Run, RunView, Tenure
from pgha.lsn import LSN, Position
from pgha.record import Record, Release
from pgha.rules import decide
from pgha.rules.leaving import refuses_for
from pgha.settings import Times
from tests.unit.pgha.by_hand import (
    ALL,
    MINE,
    OTHER,
    READY,
    RECORD,
    decided,
    lagging,
    peer,
    primary,
    standby,
)

pytestmark = pytest.mark.unit


def test_the_ground_is_steady() -> None:
    assert decided(primary()) == ("primary",)
    assert decided(standby()) == ("follow",)


def test_a_foreign_mark_stops_postgres_and_nothing_else_is_done() -> None:
    f = replace(primary(), data=replace(READY, owner_foreign="it is marked"))
    assert decided(f) == ("foreign-owner", a.StopServer("immediate"))
    stopped = replace(f, run=RunView(Run.STOPPED))
    assert decided(stopped) == ("foreign-owner", a.End())
    copying = replace(stopped, job=Job(running=True, kind="clone"))
    assert decided(copying) == ("foreign-owner", a.CancelJob(), a.End())
    assert decided(replace(stopped, leaving=True)) == ("foreign-owner", a.End())


def test_what_is_left_after_the_fencer_is_stopped() -> None:
    assert decided(replace(primary(), fenced=True)) == ("fenced", a.StopServer("immediate"))


@pytest.mark.parametrize("tenure", [None, Tenure(4, 0.0, 60.0), Tenure(4, -1.0, 60.0)])
def test_a_primary_without_the_lease_is_stopped(tenure: Tenure | None) -> None:
    assert decided(replace(primary(), tenure=tenure)) == ("lease-lost", a.StopServer("immediate"))
    on_the_way = replace(primary(), tenure=tenure, run=RunView(Run.STANDBY, promoting=3))
    assert decided(on_the_way) == ("lease-lost", a.StopServer("immediate"))


def test_a_promotion_of_an_earlier_tenure_does_not_reign_in_this_one() -> None:
    f = replace(primary(), tenure=Tenure(5, 8.0, 1.0))
    f = replace(f, lease=replace(f.lease, record=replace(RECORD, term=5)))
    assert decided(f) == ("promotion-of-before", a.StopServer("immediate"))
    assert decided(replace(f, run=RunView(Run.STANDBY, promoting=2))) == (
        "promotion-of-before", a.StopServer("immediate")
    )
    assert decide(replace(f, run=RunView(Run.STANDBY))).rule == "detach"


def test_a_primary_whose_fencer_is_silent_is_stopped() -> None:
    assert decided(replace(primary(), fencer_answers=False)) == (
        "fencer-silent", a.StopServer("immediate")
    )
    assert decided(replace(standby(), fencer_answers=False)) == ("follow",)


def test_initialization_ends_with_the_lease() -> None:
    born = Record(term=1, init="initializing")
    f = replace(
        primary(), lease=LeaseView(Claim.HELD, MINE, 1.0, born), run=RunView(Run.STOPPED),
        data=DataView(Data.INITIALIZING), job=Job("initdb", running=True),
    )
    assert decided(f) == ("birth-run",)
    assert decided(replace(f, tenure=None)) == ("birth-without-lease", a.CancelJob())
    private = replace(f, run=RunView(Run.PRIMARY, timeline=1))
    assert decided(private) == ("birth-run",), "the server of initdb takes writes, of nobody else"
    assert decided(replace(private, leaving=True)) == ("leaving", a.CancelJob())
    for bad in (
        replace(private, tenure=None), replace(private, fencer_answers=False),
        replace(private, job=Job()), replace(private, job=Job("clone", running=True)),
        replace(private, lease=replace(f.lease, record=replace(RECORD, promotion=None))),
    ):
        assert a.StopServer("immediate") in decide(bad).actions


def test_a_foreign_directory_is_kept_and_reported() -> None:
    f = replace(standby(), data=replace(READY, system_id=8))
    assert decided(f) == ("refused-directory", a.StopServer("fast"))
    f = replace(f, run=RunView(Run.STOPPED))
    decision = decide(f)
    assert decision.actions == () and "8" in decision.detail and "7" in decision.detail
    refused = replace(standby(), run=RunView(Run.STOPPED), data=DataView(Data.REFUSED, "major 14"))
    assert decide(refused).detail == "major 14"
    assert decided(replace(refused, leaving=True)) == ("refused-directory", a.End())


def test_a_former_primary_lets_nobody_in_read_only_while_clients_are_sent_to_it() -> None:
    former = RunView(Run.STOPPED, stopped_for=1.0, primary_ago=1.0)
    f = replace(
        standby(), settings=replace(standby().settings, hot=True), run=former,
    )
    assert decided(f) == ("start",) and refuses_for(f) == 1.5, "it waits"
    started = ("start", a.StartStandby(0))
    assert decided(replace(f, run=replace(former, primary_ago=3.0))) == started
    of_two = replace(f, declared=ALL[:2])
    assert decided(of_two) == started and refuses_for(of_two) == 0.0, "it is waited for"
    assert refuses_for(standby()) == 0.0
    assert decided(replace(f, settings=replace(f.settings, hot=False))) == started
    given = replace(RECORD, release=Release(MINE, 4, OTHER))
    free = replace(f, lease=LeaseView(Claim.RELEASED, None, 0.1, given))
    assert decided(free) == ("start",)
    to_nobody = replace(given, release=Release(MINE, 4))
    assert decided(replace(free, lease=replace(free.lease, record=to_nobody))) == started


def test_a_lost_slot_is_dropped_and_a_missing_one_made() -> None:
    f = primary()
    f = replace(f, replication=replace(
        f.replication, slots={"pgha_c_1": False, "pgha_c_7": True, "somebodys": True}
    ))
    assert decided(f) == ("slots", a.KeepSlots(("c-2",), ("pgha_c_1", "pgha_c_7")))


def test_a_switchover_that_nobody_can_follow_is_refused_once() -> None:
    f = replace(primary(), request=Request("r1", "c-9"))
    decision = decide(f)
    assert decision.rule == "switchover-refused"
    write, said = decision.actions
    assert isinstance(write, a.WriteRecord) and write.record.switched == "r1"
    assert isinstance(said, a.Announce) and "c-9" in said.sentence
    assert decided(replace(f, lease=replace(f.lease, record=write.record))) == ("primary",)


def test_it_degrades_after_half_of_the_renew_deadline() -> None:
    """On the record and as an Event; the server's setting follows when that was written."""
    f = primary()
    f = replace(f, settings=replace(f.settings, times=Times(30, 20, 2)))
    silent = tuple(replace(s, caught_up=False) for s in f.replication.senders)
    f = replace(f, replication=replace(f.replication, senders=silent, missing_for=9.9))
    assert decided(f) == ("primary",)
    f = replace(f, replication=replace(f.replication, missing_for=10.1))
    write, said = decide(f).actions
    assert isinstance(write, a.WriteRecord) and write.record == replace(RECORD, degraded=True)
    assert isinstance(said, a.Announce) and said.reason == "Degraded"
    assert decided(replace(f, lease=replace(f.lease, record=write.record))) == (
        "quorum-step", a.SetSyncNames("")
    )


def test_a_new_standby_is_asked_for_its_directory() -> None:
    f = primary()
    unknown = tuple(replace(s, directory_id=None) for s in f.replication.senders)
    f = replace(f, replication=replace(f.replication, senders=unknown))
    assert decided(f) == ("identify", a.AskPeers())
    assert decided(replace(f, pending=frozenset({"peers"}))) == ("identify",)


def test_a_copy_ends_with_its_source() -> None:
    f = replace(standby(), run=RunView(Run.STOPPED), data=DataView(Data.DIRTY),
                job=Job("clone", running=True))
    assert decided(f) == ("copying",)
    gone = replace(f, lease=replace(f.lease, holder=None, claim=Claim.EXPIRED))
    assert decided(gone) == ("copying", a.CancelJob())


def test_a_voter_leaves_the_former_primary() -> None:
    f = replace(standby(), voted_term=5)
    assert decided(f) == ("detach-from-former", a.Detach(5))
    assert decided(replace(f, promised=3.0)) == ("follow",)
    detached = replace(f, run=RunView(Run.STANDBY))
    assert not any(isinstance(x, a.Attach) for x in decide(detached).actions), "term 4 is over"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"promised": 3.0}, "a promise"),
        ({"healthy": False, "unhealthy_why": "an I/O error"}, "an I/O error"),
        ({"data": replace(READY, directory_id="another")}, "not a voter"),
        ({"data": replace(READY, branch=Branch.DIVERGED)}, "history"),
        ({"data": DataView(Data.DIRTY, "half a copy")}, "half a copy"),
        ({"run": RunView(Run.STANDBY, OTHER, 4, start_failures=3)}, "does not start"),
    ],
)
def test_a_refused_failover_says_why(changes: dict[str, object], why: str) -> None:
    f = standby()
    f = replace(f, lease=replace(f.lease, claim=Claim.EXPIRED), run=RunView(Run.STANDBY, OTHER, 4))
    changed = replace(f, **changes)  # type: ignore[arg-type]
    assert not any(isinstance(x, a.Acquire) for x in decide(changed).actions)
    decision = decide(replace(changed, curious_for=9.0))
    assert why in decision.detail and not any(
        isinstance(x, a.Acquire) for x in decision.actions
    ), decision


def test_a_member_that_lags_does_not_run() -> None:
    f = lagging()
    decision = decide(f)
    assert decision.rule == "stand" and "maximumLagOnFailover" in decision.detail
    near = replace(f, data=replace(READY, end=Position(2, LSN((1 << 30) - 1))))
    assert isinstance(decide(near).actions[0], a.Acquire)


def test_a_lost_record_is_rebuilt_from_the_newest_note() -> None:
    """The term alone does not tell: a promotion is intended and completed in one term."""
    done = replace(RECORD, revision=9)
    open_ = replace(RECORD, revision=8, promotion=replace(RECORD.promotion, done=False))

    for notes in ((open_, done, open_), (done, open_, open_)):
        f = replace(
            standby(), lease=LeaseView(Claim.EXPIRED, None, 20.0, Record()),
            peers={n: peer(n, record=note.dump()) for n, note in zip(ALL, notes, strict=True)},
        )
        decision = decide(f)
        rebuilt = decision.actions[0]
        assert decision.rule == "record-lost" and isinstance(rebuilt, a.Acquire)
        assert rebuilt.record.stamp == (5, 9) and rebuilt.record.open_intent is None


def test_no_record_is_rebuilt_while_a_later_one_may_be_known_to_a_voter() -> None:
    """They are the ones that may have taken the lease after it (simulation, seed 710348)."""
    f = replace(
        standby(), lease=LeaseView(Claim.EXPIRED, None, 20.0, Record()),
        peers={n: peer(n, record=RECORD.dump()) for n in ALL},
    )
    (acquire,) = decide(f).actions
    assert isinstance(acquire, a.Acquire)
    copied = {**f.peers, ALL[1]: replace(f.peers[ALL[1]], directory_id="new")}
    assert isinstance(decide(replace(f, peers=copied)).actions[0], a.Acquire), "its notes stay"
    emptied = replace(f, peers={**f.peers, ALL[1]: peer(ALL[1], data=Data.EMPTY)})
    declared = tuple(n for n in ALL if n != ALL[1])
    scaled = replace(f, declared=declared, peers={n: f.peers[n] for n in declared})
    for without in (emptied, scaled):
        decision = decide(without)
        assert (decision.rule, *decision.actions) == ("record-lost", a.AskPeers())
        assert f"{ALL[1]} may have known of a later record" in decision.detail


def test_the_server_is_not_weakened_while_a_change_of_the_record_may_have_landed() -> None:
    """It may be the end of a degradation, after which a promotion relies on the server's W."""
    f = primary()
    degraded = replace(RECORD, degraded=True)
    alone = replace(f.replication, senders=())
    f = replace(f, replication=alone, lease=replace(f.lease, record=degraded))
    assert decided(f) == ("quorum-step", a.SetSyncNames(""))
    unsettled = replace(f, lease=replace(f.lease, unsettled=True))
    assert decided(unsettled) == ("quorum-step", a.WriteRecord(degraded))
    stronger = replace(unsettled, replication=replace(f.replication, sync_names=""),
                       lease=replace(unsettled.lease, record=RECORD))
    assert decide(stronger).actions == (a.SetSyncNames('ANY 1 ("c-1","c-2")'),)
