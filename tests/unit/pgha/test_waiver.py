"""A person's waiver of the quorum: for one member, one promotion, and no lease that is not free."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from pgha import actions as a
from pgha import asked, cli
from pgha.facts import Branch, Claim, Facts, Request, Run, RunView, Tenure, Vote, Waiver
from pgha.kube.errors import Conflict
from pgha.lsn import LSN, Position
from pgha.record import Promotion, Record, Waived
from pgha.rules import decide, waiver
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
    judging,
    lagging,
    peer,
    primary,
    standby,
    vote,
)
from tests.unit.pgha.passing import Clock

pytestmark = pytest.mark.unit

MORE = Position(2, LSN(0x6000))
WAIVER = Waiver("w1", 4, ME)
LOST = replace(RECORD, term=6, promotion=Promotion(4, 2, THEIRS, done=True), primary=OTHER,
               primary_directory="d1")


def candidate(*votes: Vote, given: Waiver | None = WAIVER, record: Record = LOST) -> Facts:
    """It has held the lease for a while and heard these alone, of whom two are needed."""
    heard = judging(record, *votes, since=15.1, asked_for=waiver.HEAR_WITHIN + 0.1)
    return replace(heard, waiver=given)


def test_without_a_waiver_it_is_refused() -> None:
    assert decide(candidate(given=None)).rule == "quorum-missing"


def test_a_waiver_is_on_the_record_with_who_is_missing_before_the_promotion() -> None:
    f = candidate()
    write, said = decide(f).actions
    assert isinstance(write, a.WriteRecord) and isinstance(said, a.Announce)
    assert write.record.waived == Waived("w1", 4, 6, ME, (OTHER, ANOTHER))
    assert write.record.open_intent == Promotion(6, 3, MINE)
    assert said.reason == "QuorumWaived" and "what only c-1, c-2 had" in said.sentence
    written = replace(f, lease=replace(f.lease, record=write.record))
    assert decide(written).rule == "promote"


@pytest.mark.parametrize("given", [Waiver("w1", 3, ME), Waiver("w1", 5, ME), Waiver("w1", 6, ME),
                                   Waiver("w1", 4, ANOTHER)])
def test_it_is_for_that_term_and_that_member(given: Waiver) -> None:
    assert decide(candidate(given=given)).rule == "quorum-missing"


def test_the_voters_are_asked_first() -> None:
    f = candidate()
    for votes in (replace(f.votes, asked_for=1.0), replace(f.votes, pending=True),
                  replace(f.votes, term=5)):
        assert waiver.reason(replace(f, votes=votes)) is None
        assert not any(isinstance(x, a.WriteRecord) for x in decide(
            replace(f, votes=votes)
        ).actions)


def test_whoever_had_the_lease_before_has_stopped() -> None:
    """Also where it was taken before it had expired (quorumFailover)."""
    f = replace(candidate(), tenure=Tenure(6, 8.0, 14.9))
    assert decide(f).rule == "quorum-missing"


def test_a_voter_that_answers_with_more_is_not_passed_over() -> None:
    record = replace(LOST, read_quorum=3)
    assert decided(candidate(vote(OTHER, MORE), record=record)) == ("yield", a.ReleaseLease(OTHER))


def test_a_quorum_that_is_heard_needs_no_waiver() -> None:
    write, = decide(candidate(vote(OTHER))).actions
    assert isinstance(write, a.WriteRecord) and write.record.waived is None


def test_a_degraded_cluster_can_be_waived_as_well() -> None:
    f = candidate(vote(ANOTHER), record=replace(LOST, degraded=True))
    assert decide(replace(f, waiver=None)).rule == "quorum-missing"
    write = decide(f).actions[0]
    assert isinstance(write, a.WriteRecord) and write.record.waived is not None
    assert write.record.waived.missing == (OTHER,)


def test_whoever_holds_the_lease_gives_it_to_the_one_that_is_named() -> None:
    record = replace(LOST, read_quorum=3)
    f = candidate(vote(ANOTHER), given=Waiver("w1", 4, ANOTHER), record=record)
    assert decided(f) == ("quorum-missing", a.ReleaseLease(ANOTHER))
    silent = candidate(given=Waiver("w1", 4, ANOTHER), record=record)
    assert a.ReleaseLease(ANOTHER) not in decide(silent).actions


def test_a_promotion_that_was_begun_by_it_may_be_begun_again_by_it_alone() -> None:
    begun = replace(LOST, promotion=Promotion(5, 3, MINE), highest_number=3,
                    waived=Waived("w1", 4, 5, ME, (OTHER, ANOTHER)))
    write = decide(candidate(record=begun)).actions[0]
    assert isinstance(write, a.WriteRecord) and write.record.waived is not None
    assert write.record.waived.used == 6
    for record in (
        replace(begun, promotion=Promotion(5, 3, MINE, done=True)),
        replace(begun, promotion=Promotion(6, 3, MINE)),
    ):
        assert waiver.valid(candidate(record=record)) is None


def test_a_primary_refuses_it_so_that_it_is_never_armed_in_advance() -> None:
    f = replace(primary(), waiver=Waiver("w1", 4, OTHER))
    decision = decide(f)
    write, said = decision.actions
    assert decision.rule == "waiver-refused" and isinstance(said, a.Announce)
    assert isinstance(write, a.WriteRecord) and write.record.waiver_refused == "w1"
    after = replace(f, lease=replace(f.lease, record=write.record))
    assert decided(after) == ("primary",)
    lost = replace(LOST, waiver_refused="w1")
    assert decide(candidate(record=lost)).rule == "quorum-missing"


def test_no_lease_that_is_held_is_taken_by_it() -> None:
    f = replace(standby(), waiver=WAIVER)
    assert decided(f) == ("follow",)
    for claim in (Claim.HELD, Claim.VACANT, Claim.UNKNOWN):
        quiet = replace(f, run=RunView(Run.STANDBY, OTHER, 4), curious_for=60.0,
                        lease=replace(f.lease, claim=claim))
        assert not any(isinstance(x, a.Acquire) for x in decide(quiet).actions)


def diverged(run: RunView) -> Facts:
    """All that is left had gone on on the timeline that the lost primary had left."""
    f = standby()
    return replace(
        f, run=run, data=replace(READY, timeline=1, end=END, branch=Branch.DIVERGED),
        lease=replace(f.lease, claim=Claim.EXPIRED), curious_for=60.0,
    )


def test_a_history_that_a_person_chose_is_started_on_its_own_timeline() -> None:
    f = diverged(RunView(Run.STOPPED))
    assert decide(f).rule == "rewind"
    assert decided(replace(f, waiver=WAIVER)) == ("start", a.StartStandby(timeline=1))
    held = replace(candidate(record=LOST), run=RunView(Run.STOPPED), data=f.data)
    assert decided(held) == ("holder-start", a.StartStandby(timeline=1))
    same = replace(f, waiver=WAIVER, data=replace(f.data, branch=Branch.BEHIND))
    assert decided(same) == ("start", a.StartStandby())


def test_a_history_that_a_person_chose_may_be_promoted() -> None:
    f = diverged(RunView(Run.STANDBY, OTHER, 4))
    assert decide(f).rule == "no-failover"
    (taken,) = decide(replace(f, waiver=WAIVER)).actions
    assert isinstance(taken, a.Acquire)
    held = replace(candidate(vote(ANOTHER, branch=Branch.DIVERGED)), data=f.data)
    assert decide(replace(held, waiver=None)).rule == "refused-branch"
    write, said = decide(held).actions
    assert isinstance(write, a.WriteRecord) and isinstance(said, a.Announce)
    assert write.record.waived == Waived("w1", 4, 6, ME, (OTHER,))
    assert "timeline 2" in said.sentence


@pytest.mark.parametrize("branch", [Branch.SAME, Branch.BEHIND])
def test_but_not_while_a_voter_of_the_recorded_history_answers(branch: Branch) -> None:
    f = candidate(vote(ANOTHER, Position(1, LSN(0x1000)), branch))
    f = replace(f, data=replace(READY, timeline=1, end=END, branch=Branch.DIVERGED))
    assert decided(f) == ("yield", a.ReleaseLease(ANOTHER))


def test_lag_is_no_reason_against_the_one_that_is_named() -> None:
    f = replace(lagging(), peers={ANOTHER: peer(ANOTHER)})
    assert "maximumLagOnFailover" in decide(f).detail
    assert isinstance(decide(replace(f, waiver=WAIVER)).actions[0], a.Acquire)


# -- asking for it ------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [
    "[" * 100_000, None, "", "{", "[]", "1", '"x"', "{}", '{"id": "x"}',
    '{"id": "x", "member": "c-0"}',
    '{"id": "x", "member": 1, "term": 4}', '{"id": "x", "member": "c-0", "term": "4"}',
    '{"id": "x", "member": "c-0", "term": true}', '{"member": "c-0", "term": 4}',
])
def test_what_cannot_be_read_waives_nothing(text: str | None) -> None:
    assert asked.waiver(text) is None


def test_what_was_asked_for_is_read_as_it_was_written() -> None:
    assert asked.waiver(asked.dump(WAIVER)) == WAIVER
    for request in (Request("r", None), Request("r", "c-1")):
        assert asked.switchover(asked.dump(request)) == request


class Api:
    """A Lease, and agents that do what the last annotation asks for as `then` says."""

    namespace = "ns"

    def __init__(self, holder: str | None, record: Record) -> None:
        self.record, self.conflicts, self.renewing = record, 1, False
        self.looks = 0
        self.lease: dict[str, Any] = {
            "metadata": {"resourceVersion": "1", "uid": "u", "annotations": {}},
            "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": "t0"},
        }

    def request(self, method: str, path: str, body: Any = None, **_: Any) -> dict[str, Any]:
        if "/pods" in path:
            return {"items": []}
        if method == "PUT":
            if self.conflicts:
                self.conflicts -= 1
                raise Conflict(409, "Conflict", "it changed")
            self.lease = body
            given = asked.waiver(body["metadata"]["annotations"][asked.WAIVER])
            assert given is not None
            self.react(given)
        self.looks += 1
        if self.renewing:
            self.lease["spec"]["renewTime"] = f"t{self.looks}"
        self.lease["metadata"]["annotations"]["pgha.dev/record"] = self.record.dump()
        return json.loads(json.dumps(self.lease))  # type: ignore[no-any-return]

    def react(self, given: Waiver) -> None:
        self.lease["spec"]["holderIdentity"] = f"{given.member}/u/s"
        self.record = replace(
            self.record, term=7, promotion=Promotion(7, 3, f"{given.member}/u/s", done=True),
            waived=Waived(given.id, given.term, 7, given.member, (OTHER, ANOTHER)),
        )


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(cli, "time", made)
    return made


def waive(api: Api, member: str = ME, term: int = 4, accepted: bool = True) -> int:
    cluster = cli.read_cluster(api, "c")  # type: ignore[arg-type]
    return cli.waive_quorum(cluster, member, term, accepted, 60.0)


@pytest.mark.parametrize("holder", [None, THEIRS])
def test_the_command_says_what_was_given_up(
    clock: Clock, capsys: pytest.CaptureFixture[str], holder: str | None
) -> None:
    assert waive(Api(holder, replace(LOST, term=4))) == 0
    shown = capsys.readouterr().out
    assert "c-0" in shown and "what only c-1, c-2 had" in shown
    assert clock.now >= (15 if holder else 0), "a holder gets the time to renew"


@pytest.mark.parametrize(("changes", "words"), [
    ({"term": 6}, "is 4"),
    ({"member": "c-7"}, "not a voter"),
    ({"accepted": False}, "--accept-data-loss"),
    ({"accepted": False}, "c-1, c-2 that .* may still be the primary .* power them off"),
])
def test_the_command_wants_to_be_meant(
    clock: Clock, changes: dict[str, Any], words: str
) -> None:
    api = Api(None, LOST)
    with pytest.raises(cli.UserError, match=words):
        waive(api, **changes)
    assert asked.WAIVER not in api.lease["metadata"]["annotations"]


def test_the_command_waives_nothing_under_a_primary(clock: Clock) -> None:
    api = Api(THEIRS, replace(LOST, term=4))
    api.renewing = True
    with pytest.raises(cli.UserError, match="renews"):
        waive(api)
    assert asked.WAIVER not in api.lease["metadata"]["annotations"]


def test_who_holds_the_lease_and_was_not_promoted_is_no_primary(clock: Clock) -> None:
    """It may be the survivor itself, which holds the lease again and again and waits."""
    api = Api(f"{ME}/u/s", LOST)
    api.renewing = True
    assert waive(api) == 0


def test_the_command_tells_of_a_refusal_and_of_silence(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Api, given: Waiver) -> None:
        self.record = replace(self.record, waiver_refused=given.id)

    monkeypatch.setattr(Api, "react", refuse)
    with pytest.raises(cli.UserError, match="void"):
        waive(Api(None, LOST))
    monkeypatch.setattr(Api, "react", lambda self, given: None)
    with pytest.raises(cli.UserError, match="no primary after 60 s"):
        waive(Api(None, LOST))
