"""A standby that receives nothing: when its directory is given up, and when it goes on trying."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from pgha import actions as a
from pgha import executor
from pgha.executor import Executor
from pgha.facts import Branch, Claim, Facts, Run, RunView, Supply
from pgha.lsn import LSN, Position
from pgha.postgres.supply import Answer
from pgha.rules import decide
from pgha.rules.rejoin import LONGEST, PATIENCE, TRIES
from pgha.settings import Identity
from tests.unit.pgha.by_hand import ANOTHER, END, OTHER, READY, decided, peer, standby

pytestmark = pytest.mark.unit

WHY = "c-1 does not send WAL from 0/0 on: connection refused"
ASKED = Supply(4, TRIES, END, why=WHY)


def in_vain(supply: Supply, times: int = TRIES, **run: object) -> Facts:
    """Stopped after so many attachments that received nothing."""
    f = standby()
    return replace(
        f, data=replace(READY, end=END),
        run=replace(RunView(Run.STOPPED, fruitless=times, supply=supply), **run),  # type: ignore[arg-type]
        peers={OTHER: peer(OTHER, run=Run.PRIMARY, rewindable_term=4), ANOTHER: peer(ANOTHER)},
    )


def attached(supply: Supply, times: int, seconds: float) -> Facts:
    return in_vain(
        supply, times, run=Run.STANDBY, attached_to=OTHER, attached_term=4, attached_for=seconds
    )


@pytest.mark.parametrize("times", [1, TRIES, TRIES + 1, 50])
def test_a_standby_that_receives_nothing_is_kept(times: int) -> None:
    """It may have every acknowledged commit, and the primary may be lost next."""
    known = replace(ASKED, attachment=times)
    for f in (attached(known, times, 1000.0), in_vain(known, times)):
        assert not any(isinstance(x, a.MarkDirty) for x in decide(f).actions)
    assert decided(in_vain(known, times)) == ("start", a.StartStandby(0))


def test_the_primary_is_asked_once_after_each_attachment_in_vain() -> None:
    assert decided(in_vain(Supply(), TRIES - 1)) == ("start", a.StartStandby(0))
    ask = a.AskForWal(OTHER, END, 4, TRIES)
    stale = (
        Supply(), replace(ASKED, term=3, lacks=True), replace(ASKED, end=None, lacks=True),
        replace(ASKED, attachment=TRIES - 1, lacks=True),
    )
    for supply in stale:
        assert decided(in_vain(supply)) == ("ask-for-wal", ask), supply
    assert decided(in_vain(replace(ASKED, pending=True))) == ("ask-for-wal",)


@pytest.mark.parametrize("known", [replace(ASKED, lacks=True), replace(ASKED, sent=TRIES)])
def test_a_directory_that_is_proven_useless_is_cloned(known: Supply) -> None:
    """The primary has its WAL no more; or it comes as far as to the agent, again and again."""
    f = in_vain(known)
    assert decided(f) == ("ask-for-wal", a.MarkDirty(WHY))
    for not_now in (
        replace(f, data=replace(f.data, branch=Branch.UNKNOWN)),
        replace(f, lease=replace(f.lease, claim=Claim.EXPIRED)),
        replace(f, peers={}),
        replace(f, run=replace(f.run, supply=replace(known, lacks=False, sent=TRIES - 1))),
    ):
        assert not any(isinstance(x, a.MarkDirty) for x in decide(not_now).actions)


def test_a_rewound_directory_whose_recovery_lacks_wal_is_cloned_when_the_primary_does_too() -> None:
    """Its end of WAL is not known and cannot be: recovery begins with what is missing."""
    needed = Position(1, LSN(0x2000))
    f = in_vain(Supply())
    f = replace(f, data=replace(f.data, end=None, lacks=needed, branch=Branch.UNKNOWN))
    assert decided(f) == ("ask-for-wal", a.AskForWal(OTHER, needed, 4, TRIES))

    def told(**answer: object) -> tuple[object, ...]:
        known = replace(ASKED, end=needed, **answer)  # type: ignore[arg-type]
        return decided(replace(f, run=replace(f.run, supply=known)))

    assert told(lacks=True) == ("ask-for-wal", a.MarkDirty(WHY))
    assert told(sent=TRIES - 1) == ("start", a.StartStandby(0)), "it can still come"
    unknown = replace(f, data=replace(f.data, lacks=None))
    assert decided(unknown) == ("start", a.StartStandby(0))


def test_it_says_why_and_stops_less_and_less_often() -> None:
    """Each stop ends the sessions of a hot standby."""
    assert decide(attached(Supply(), 1, PATIENCE - 1)).rule == "wait"
    assert decided(attached(Supply(), TRIES, PATIENCE)) == (
        "not-receiving", a.StopServer("fast")
    )
    f = attached(ASKED, TRIES + 1, PATIENCE)
    (said,) = decide(f).actions
    assert isinstance(said, a.Announce) and said.reason == "NotReceiving" and WHY in said.sentence
    assert decide(f).detail == WHY
    assert decided(attached(ASKED, 50, LONGEST)) == ("not-receiving", a.StopServer("fast"))
    free = replace(f, lease=replace(f.lease, claim=Claim.EXPIRED), curious_for=60.0)
    assert any(isinstance(x, a.Acquire) for x in decide(free).actions)


def test_answers_in_a_row_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one term and one end of WAL, and only while it is sent each time."""
    answers = [Answer.SENT, Answer.SENT, Answer.UNKNOWN, Answer.SENT, Answer.SENT, Answer.LACKS]
    monkeypatch.setattr(
        executor, "ask_for_wal", lambda host, *_: (answers.pop(0), f"{host} was asked")
    )
    done = threading.Semaphore(0)
    member = SimpleNamespace(
        supply=Supply(), directory=SimpleNamespace(control=lambda: SimpleNamespace(segment_size=1))
    )
    ground: Any = SimpleNamespace(
        member=member, settings=standby().settings, identity=Identity("c-0", "u0", "s0"),
        password=lambda: "", log=lambda *_, **__: done.release(),
    )
    further = Position(2, LSN(0x6000))
    ends = [END, END, END, END, further, further]
    seen = []
    for attachment, end in enumerate(ends, TRIES):
        Executor.ask_for_wal(ground, a.AskForWal(OTHER, end, 4, attachment), standby())
        assert done.acquire(timeout=30.0)
        assert (member.supply.attachment, member.supply.end) == (attachment, end)
        assert not member.supply.pending and "c-1" in member.supply.why
        seen.append((member.supply.sent, member.supply.lacks))
    assert seen == [(1, False), (2, False), (0, False), (1, False), (1, False), (0, True)]
