"""Facts made by hand: a healthy cluster of three, seen from a member; each test changes a few."""

from __future__ import annotations

from dataclasses import replace

from pgha.facts import (
    Branch,
    Claim,
    Data,
    DataView,
    Facts,
    LeaseView,
    Peer,
    PodFacts,
    Replication,
    Run,
    RunView,
    Sender,
    Tenure,
    Vote,
    Votes,
)
from pgha.lsn import LSN, Position
from pgha.record import Promotion, Record
from pgha.rules import decide
from pgha.settings import Settings

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


def judging(record: Record, *votes: Vote, since: float, asked_for: float) -> Facts:
    """It holds the lease of the record's term, `since` seconds, and these voters have answered."""
    return replace(
        primary(), lease=LeaseView(Claim.HELD, MINE, 1.0, record),
        tenure=Tenure(record.term, 8.0, since), run=RunView(Run.STANDBY),
        data=replace(READY, end=END), replication=Replication(),
        votes=Votes(record.term, asked_for, False, 0.1, {v.name: v for v in votes}),
    )


def vote(name: str, position: Position = END, branch: Branch = Branch.SAME) -> Vote:
    return Vote(name, f"d{name[-1]}", True, position, branch, True)


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


def lagging() -> Facts:
    """An asynchronous standby that lacks more than it may, and the lease is free."""
    f = standby()
    record = replace(f.record, flushed=Position(2, LSN(1 << 30)), write_quorum=0)
    return replace(
        f, settings=replace(f.settings, synchronous=False), run=RunView(Run.STANDBY, OTHER, 4),
        lease=replace(f.lease, claim=Claim.EXPIRED, record=record), curious_for=9.0,
        data=replace(READY, end=END),
    )
