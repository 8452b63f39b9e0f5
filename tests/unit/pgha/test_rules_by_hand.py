"""Rules that no simulated history brings about, each from facts made by hand, with its actions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pgha import actions as a
from pgha.facts import (
    Branch,
    Claim,
    Data,
    DataView,
    Facts,
    Job,
    LeaseView,
    Peer,
    PodFacts,
    Replication,
    Request,
    Run,
    RunView,
    Sender,
    Tenure,
    Vote,
    Votes,
)
from pgha.lsn import LSN, Position
from pgha.record import Promotion, Record, Release
from pgha.rules import decide
from pgha.settings import Settings, Times

pytestmark = pytest.mark.unit

ME, OTHER, ANOTHER = "c-0", "c-1", "c-2"
MINE, THEIRS = "c-0/u0/s0", "c-1/u1/s1"
ALL = (ME, OTHER, ANOTHER)
RECORD = Record(
    term=4, init="initialized", system_id=7, timeline=2, highest_number=2,
    promotion=Promotion(4, 2, MINE, done=True), primary=ME, primary_directory="d0",
    voters=((ME, "d0"), (OTHER, "d1"), (ANOTHER, "d2")), read_quorum=2, write_quorum=1,
)
READY = DataView(Data.READY, "", "d0", 7, 2, branch=Branch.SAME)
END = Position(2, LSN(0x5000))


def primary() -> Facts:
    """A primary with two standbys that stream, and nothing to do."""
    senders = tuple(Sender(n, LSN(9), True, f"d{n[-1]}", True) for n in (OTHER, ANOTHER))
    return Facts(
        now=100.0, me=ME, incarnation=MINE,
        settings=Settings("c", "ns", "app", "15", synchronous=True),
        declared=ALL, lease=LeaseView(Claim.HELD, MINE, 1.0, RECORD), tenure=Tenure(4, 8.0, 50.0),
        data=READY,
        run=RunView(Run.PRIMARY, timeline=2, asked_checkpoint_term=4, asked_slots_term=4),
        pods={n: PodFacts(n, n, "primary" if n == ME else "replica") for n in ALL},
        replication=Replication(
            0.5, senders, LSN(9), 'ANY 1 ("c-1","c-2")',
            {"pgha_c_1": True, "pgha_c_2": True},
        ),
    )


def standby() -> Facts:
    f = primary()
    record = replace(RECORD, promotion=Promotion(4, 2, THEIRS, done=True), primary=OTHER,
                     primary_directory="d1")
    return replace(
        f, tenure=None, lease=LeaseView(Claim.HELD, THEIRS, 1.0, record),
        run=RunView(Run.STANDBY, OTHER, 4, 20.0, receiving=True), replication=Replication(),
        pods={n: PodFacts(n, n, "primary" if n == OTHER else "replica") for n in ALL},
    )


def peer(name: str, **changes: object) -> Peer:
    known: dict[str, object] = {
        "age": 0.1, "uid": name, "directory_id": f"d{name[-1]}", "data": Data.READY,
        "run": Run.STANDBY, "system_id": 7, "position": END, "healthy": True, "term_seen": 4,
    }
    return Peer(name=name, **{**known, **changes})  # type: ignore[arg-type]


def decided(f: Facts) -> tuple[object, ...]:
    """The rule and its actions."""
    decision = decide(f)
    return decision.rule, *decision.actions


def test_the_ground_is_steady() -> None:
    assert decided(primary()) == ("primary",)
    assert decided(standby()) == ("follow",)


def test_a_foreign_mark_stops_postgres_and_nothing_else_is_done() -> None:
    f = replace(primary(), data=replace(READY, owner_foreign=True))
    assert decided(f) == ("foreign-owner", a.StopServer("immediate"))
    stopped = replace(f, run=RunView(Run.STOPPED))
    assert decided(stopped) == ("foreign-owner",)
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


def test_the_owner_of_an_open_intent_is_asked_until_its_time_is_over() -> None:
    record = replace(RECORD, term=6, write_quorum=0, primary=OTHER, primary_directory="d1",
                     promotion=Promotion(5, 3, THEIRS))
    votes = Votes(6, 5.0, False, 1.0, {
        ANOTHER: Vote(ANOTHER, "d2", True, END, Branch.SAME, True),
    })
    f = replace(
        primary(), settings=replace(primary().settings, synchronous=False), votes=votes,
        lease=LeaseView(Claim.HELD, MINE, 1.0, record), tenure=Tenure(6, 8.0, 5.0),
        run=RunView(Run.STANDBY), data=replace(READY, end=END), replication=Replication(),
    )
    assert decided(f) == ("ask-votes", a.AskVotes(6))
    assert decide(replace(f, votes=replace(votes, last_asked=0.1))).rule == "open-intent"
    over = decide(replace(f, tenure=Tenure(6, 8.0, 16.0)))
    assert over.rule == "intent", "it does not wait for ever"


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


def test_a_foreign_directory_is_kept_and_reported() -> None:
    f = replace(standby(), data=replace(READY, system_id=8))
    assert decided(f) == ("refused-directory", a.StopServer("fast"))
    f = replace(f, run=RunView(Run.STOPPED))
    decision = decide(f)
    assert decision.actions == () and "8" in decision.detail and "7" in decision.detail
    refused = replace(standby(), run=RunView(Run.STOPPED), data=DataView(Data.REFUSED, "major 14"))
    assert decide(refused).detail == "major 14"
    assert decided(replace(refused, leaving=True)) == ("refused-directory", a.End())


def test_an_ill_member_gives_the_lease_back_with_the_end_of_its_wal() -> None:
    f = replace(
        primary(), run=RunView(Run.STOPPED, stopped_for=9.0), healthy=False,
        unhealthy_why="an I/O error", data=replace(READY, end=END),
    )
    assert decided(f) == ("crash-give-up", a.ReleaseLease(None, END))
    broken = replace(f, healthy=True, run=RunView(Run.STOPPED, stopped_for=9.0, start_failures=3))
    assert decided(broken) == ("crash-give-up", a.ReleaseLease(None, END))
    with_standby = replace(f, peers={OTHER: peer(OTHER)})
    assert decided(with_standby) == ("crash-hand-over", a.ReleaseLease(OTHER, END))


def test_the_crash_hand_over_wants_every_byte_of_a_voter() -> None:
    f = replace(
        primary(), run=RunView(Run.STOPPED, stopped_for=9.0), data=replace(READY, end=END),
    )
    short = peer(OTHER, position=Position(2, LSN(0x4FFF)))
    another = peer(ANOTHER, directory_id="a new one")
    for p in (short, another, peer(OTHER, age=2.0), peer(OTHER, healthy=False)):
        assert decide(replace(f, peers={p.name: p})).rule == "crash-restart"


def test_a_former_primary_lets_nobody_in_read_only_while_clients_are_sent_to_it() -> None:
    former = RunView(Run.STOPPED, stopped_for=1.0, primary_ago=1.0)
    f = replace(
        standby(), settings=replace(standby().settings, hot=True), run=former,
    )
    assert decided(f) == ("start",), "it waits"
    started = ("start", a.StartStandby(0))
    assert decided(replace(f, run=replace(former, primary_ago=3.0))) == started
    assert decided(replace(f, declared=ALL[:2])) == started, "it is waited for"
    assert decided(replace(f, settings=replace(f.settings, hot=False))) == started
    given = replace(RECORD, release=Release(MINE, 4, OTHER))
    free = replace(f, lease=LeaseView(Claim.RELEASED, None, 0.1, given))
    assert decided(free) == ("start",)
    to_nobody = replace(given, release=Release(MINE, 4))
    assert decided(replace(free, lease=replace(free.lease, record=to_nobody))) == started


@pytest.mark.parametrize(("end", "replicas_first"), [(END, False), (None, True)])
def test_the_label_of_a_former_primary_that_may_be_cut_off_goes_first(
    end: Position | None, replicas_first: bool
) -> None:
    f = primary()
    record = replace(
        RECORD, term=6, primary=OTHER, promotion=Promotion(6, 3, f.incarnation), end=end,
    )
    f = replace(
        f, lease=LeaseView(Claim.HELD, MINE, 1.0, record), tenure=Tenure(6, 8.0, 1.0),
        run=RunView(Run.PRIMARY, timeline=3),
        pods={ME: PodFacts(ME, "u0", "replica"), OTHER: PodFacts(OTHER, "u1", "primary")},
    )
    moves = [action for action in decide(f).actions if isinstance(action, a.MoveLabels)]
    assert moves == [a.MoveLabels(ME, (OTHER,), 6, replicas_first)]


def test_a_crashed_primary_waits_only_for_members_that_may_still_have_every_byte() -> None:
    f = replace(
        primary(), run=RunView(Run.STOPPED, stopped_for=0.2), data=replace(READY, end=END),
    )
    short = Position(2, LSN(0x4FFF))
    final = {n: peer(n, age=0.1, position=short) for n in (OTHER, ANOTHER)}
    assert decide(replace(f, peers=final)).rule == "crash-restart"
    for open_still in (
        peer(OTHER, age=0.1, position=short, receiving=True),
        peer(OTHER, age=0.1, position=None),
        peer(OTHER, age=0.3, position=short),
    ):
        waiting = replace(f, peers={**final, OTHER: open_still})
        assert decided(waiting) == ("crash-hand-over", a.AskPeers())
    assert decided(replace(f, peers={ANOTHER: final[ANOTHER]})) == ("crash-hand-over", a.AskPeers())


def test_a_holder_waits_for_its_server() -> None:
    f = replace(primary(), lease=LeaseView(Claim.HELD, MINE, 1.0, replace(RECORD, term=5)),
                tenure=Tenure(5, 8.0, 1.0), run=RunView(Run.STARTING))
    assert decided(f) == ("holder-starting",)
    long = replace(f, run=RunView(Run.RECOVERING), tenure=Tenure(5, 8.0, 61.0))
    assert decided(long) == ("holder-starting",)
    assert decided(replace(long, peers={OTHER: peer(OTHER)})) == (
        "holder-starting", a.ReleaseLease()
    )


def test_a_holder_without_data_gives_the_lease_back() -> None:
    f = replace(primary(), run=RunView(Run.STOPPED), data=DataView(Data.DIRTY, "half a copy"))
    assert decided(f) == ("holder-empty", a.ReleaseLease())


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


def lagging() -> Facts:
    """An asynchronous standby that lacks more than it may, and the lease is free."""
    f = standby()
    record = replace(f.record, flushed=Position(2, LSN(1 << 30)), write_quorum=0)
    return replace(
        f, settings=replace(f.settings, synchronous=False), run=RunView(Run.STANDBY, OTHER, 4),
        lease=replace(f.lease, claim=Claim.EXPIRED, record=record), curious_for=9.0,
        data=replace(READY, end=END),
    )


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


def test_a_named_successor_with_the_proven_end_needs_one_write() -> None:
    """Detached and judged before it takes the lease: the intent goes with the acquisition."""
    f = standby()
    record = replace(f.record, end=END, release=Release(THEIRS, 4, ME))
    f = replace(f, lease=LeaseView(Claim.RELEASED, None, 0.1, record),
                run=RunView(Run.STANDBY, OTHER, 4))
    assert decided(f) == ("successor", a.Detach(4))
    judged = replace(f, data=replace(READY, end=END))
    decision = decide(judged)
    (taken,) = decision.actions
    assert isinstance(taken, a.Acquire) and taken.record.term == 5
    assert taken.record.open_intent == Promotion(5, 3, MINE) and taken.record.highest_number == 3
    held = replace(judged, tenure=Tenure(5, 9.0, 0.1),
                   lease=LeaseView(Claim.HELD, MINE, 0.1, taken.record))
    assert decide(held).rule == "promote"

    short = replace(f, data=replace(READY, end=Position(2, LSN(0x4000))))
    (taken,) = decide(short).actions
    assert isinstance(taken, a.Acquire) and taken.record.open_intent is None, "a quorum decides"


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
