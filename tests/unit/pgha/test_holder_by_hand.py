"""From taking the lease to being its primary, and after a crash, from facts made by hand."""

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
    PodFacts,
    Replication,
    Run,
    RunView,
    Tenure,
    Vote,
    Votes,
)
from pgha.lsn import LSN, History, Position, Switch
from pgha.record import Promotion, Release
from pgha.rules import decide
from tests.unit.pgha.by_hand import (
    ANOTHER,
    END,
    ME,
    MINE,
    OTHER,
    READY,
    RECORD,
    THEIRS,
    decided,
    peer,
    primary,
    standby,
)

pytestmark = pytest.mark.unit


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


def test_a_leaving_primary_waits_for_a_standby_only_while_one_may_stay() -> None:
    others = {n: PodFacts(n, f"uid-{n}", "standby") for n in (OTHER, ANOTHER)}
    f = replace(
        primary(), leaving=True, run=RunView(Run.STOPPED, stopped_for=0.1),
        data=replace(READY, clean=True, end=END), pods=others,
    )  # fmt: skip
    assert decided(f) == ("hand-over-release", a.AskPeers())
    one = {**others, OTHER: replace(others[OTHER], deleting=True)}
    assert decided(replace(f, pods=one)) == ("hand-over-release", a.AskPeers())
    gone = replace(f, pods={ANOTHER: others[ANOTHER]})
    assert decided(gone) == ("hand-over-release", a.AskPeers()), "a new pod may be on its way"
    told = replace(f, pods=one, peers={ANOTHER: peer(ANOTHER, leaving=True, position=None)})
    assert decided(told) == ("hand-over-release", a.ReleaseLease(None, END))
    both = {n: replace(pod, deleting=True) for n, pod in others.items()}
    assert decided(replace(f, pods=both)) == ("hand-over-release", a.ReleaseLease(None, END))
    has_all = replace(f, pods=both, peers={OTHER: peer(OTHER)})
    assert decided(has_all) == ("hand-over-release", a.ReleaseLease(OTHER, END))
    late = replace(f, run=RunView(Run.STOPPED, stopped_for=4.5))
    assert decided(late) == ("hand-over-release", a.ReleaseLease(None, END))


def test_the_crash_hand_over_wants_every_byte_of_a_voter() -> None:
    f = replace(
        primary(), run=RunView(Run.STOPPED, stopped_for=9.0), data=replace(READY, end=END),
    )
    short = peer(OTHER, position=Position(2, LSN(0x4FFF)))
    another = peer(ANOTHER, directory_id="a new one")
    for p in (short, another, peer(OTHER, age=2.0), peer(OTHER, healthy=False)):
        assert decide(replace(f, peers={p.name: p})).rule == "crash-restart"


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


@pytest.mark.parametrize("ground", [primary(), standby()], ids=["primary", "standby"])
def test_a_stop_that_nobody_here_asked_for_is_hurried_after_a_moment(ground: Facts) -> None:
    """SIGTERM to the postmaster: it waits for the sessions that are left, and lets no other in."""
    f = replace(ground, run=replace(ground.run, run=Run.STOPPING, stopping_for=1.0))
    assert decided(f) == ("stopping",)
    long = replace(f, run=replace(f.run, stopping_for=4.0))
    assert decided(long) == ("stopping", a.StopServer("fast"))
    assert decided(replace(f, leaving=True)) == ("leaving", a.StopServer("fast"))


def test_what_a_job_stops_is_its_own_matter() -> None:
    f = primary()
    f = replace(f, run=RunView(Run.STOPPING, stopping_for=9.0), job=Job("initdb", running=True))
    assert decide(f).rule != "stopping"


def taking_over(waited: bool | None) -> Facts:
    """A holder that is still a standby, in term 5."""
    record = replace(RECORD, term=5)
    return replace(
        primary(), lease=LeaseView(Claim.HELD, MINE, 1.0, record), tenure=Tenure(5, 8.0, 1.0),
        run=RunView(Run.STANDBY, waited=waited), replication=Replication(),
    )


def test_a_server_that_started_for_nobody_starts_anew_before_it_is_promoted() -> None:
    """Its backends might take notice of whom they wait for only after the first commits."""
    f = taking_over(waited=False)
    assert decided(f) == ("start-to-wait", a.StopServer("fast"))
    left = replace(f, settings=replace(f.settings, synchronous=False))
    assert decided(left) == ("start-to-wait", a.StopServer("fast")), "the record's W counts too"
    assert decided(taking_over(waited=None)) == ("start-to-wait",), "nothing is promoted yet"
    assert decide(taking_over(waited=True)).rule == "detach"


def test_a_server_that_may_go_alone_is_promoted_however_it_started() -> None:
    f = taking_over(waited=False)
    alone = replace(f.record, write_quorum=0)
    asynchronous = replace(
        f, settings=replace(f.settings, synchronous=False), lease=replace(f.lease, record=alone)
    )
    assert decide(asynchronous).rule == "detach"
    degraded = replace(f, lease=replace(f.lease, record=replace(f.record, degraded=True)))
    assert decide(degraded).rule == "detach"
    promoting = replace(f, run=replace(f.run, promoting=3))
    assert decide(promoting).rule != "start-to-wait", "it is on its way"


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


def interrupted() -> Facts:
    """PostgreSQL ended in the middle of its promotion to timeline 3, and was started again."""
    record = replace(RECORD, term=5, promotion=Promotion(5, 3, MINE), highest_number=3)
    return replace(
        primary(), lease=LeaseView(Claim.HELD, MINE, 1.0, record), tenure=Tenure(5, 8.0, 5.0),
        run=RunView(Run.STANDBY), data=replace(READY, end=END, newest=2),
        replication=Replication(),
    )


def test_a_number_whose_history_file_is_there_is_used() -> None:
    """PostgreSQL would promote to the next one, though nothing was written on this timeline."""
    f = interrupted()
    assert decide(f).rule == "promote", "it has not come to the file"
    f = replace(f, data=replace(f.data, newest=3))
    decision = decide(f)
    (again,) = decision.actions
    assert decision.rule == "intent-spent" and isinstance(again, a.Acquire)
    assert again.record == replace(f.record, term=6)
    f = replace(f, lease=replace(f.lease, record=again.record), tenure=Tenure(6, 8.0, 0.1))
    (written,) = decide(f).actions
    assert isinstance(written, a.WriteRecord)
    assert written.record.open_intent == Promotion(6, 4, MINE)
    assert written.record.highest_number == 4


def test_no_number_of_a_history_file_here_is_intended() -> None:
    f = interrupted()
    f = replace(f, data=replace(f.data, newest=9),
                lease=replace(f.lease, record=replace(RECORD, term=5)))
    (written,) = decide(f).actions
    assert isinstance(written, a.WriteRecord) and written.record.highest_number == 10


@pytest.mark.parametrize("taken", [3, 4])
def test_the_timeline_that_postgresql_took_is_completed(taken: int) -> None:
    """It takes commits on it: neither is it waited for, nor are they thrown away."""
    f = interrupted()
    history = History([Switch(2, END.lsn)])
    data = replace(READY, timeline=taken, history=history)
    f = replace(f, run=RunView(Run.PRIMARY, timeline=taken, promoting=3), data=data)
    written = decide(f).actions[0]
    assert isinstance(written, a.WriteRecord)
    r = written.record
    assert (r.timeline, r.highest_number, r.history) == (taken, taken, history)
    assert r.promotion == Promotion(5, 3, MINE, done=True) and r.open_intent is None
    unknown = replace(f, run=RunView(Run.PRIMARY, timeline=0, promoting=3))
    assert decided(unknown) == ("complete",)
