"""When a primary is suspected, and which early votes are enough (decisions/quorum-failover.md)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace

import pytest

from pgha import actions as a
from pgha import quorum
from pgha.facts import (
    Branch,
    Claim,
    Data,
    DataView,
    Facts,
    LeaseView,
    Peer,
    Run,
    RunView,
    Vote,
    Votes,
)
from pgha.lsn import LSN, Position
from pgha.record import Promotion, Record
from pgha.rules import RULES, decide, suspect
from pgha.settings import Settings

pytestmark = pytest.mark.unit

ME, HOLDER, OTHER = "c-0", "c-1", "c-2"
INCARNATION = "c-1/u1/s1"
RECORD = Record(
    term=4, init="initialized", system_id=7, timeline=2, highest_number=2,
    promotion=Promotion(4, 2, INCARNATION, True, True), primary=HOLDER, primary_directory="d1",
    voters=((ME, "d0"), (HOLDER, "d1"), (OTHER, "d2")), read_quorum=2, write_quorum=1,
)
SETTINGS = Settings("c", "ns", "app", "15", synchronous=True, quorum_failover=True)
LEASE = LeaseView(Claim.HELD, INCARNATION, 4.0, RECORD, version="l/9")
END = Position(2, LSN(0x5000))


def peer(name: str, **changes: object) -> Peer:
    known: dict[str, object] = {
        "age": 0.5, "uid": f"u{name[-1]}", "directory_id": f"d{name[-1]}", "data": Data.READY,
        "run": Run.STANDBY, "system_id": 7, "position": END, "healthy": True, "term_seen": 4,
        "silent": 4.0,
    }
    return Peer(name=name, **{**known, **changes})  # type: ignore[arg-type]


def silent(**changes: object) -> Facts:
    """A standby that has not heard its primary for four seconds, as another says too."""
    f = Facts(
        now=100.0, me=ME, incarnation="c-0/u0/s0", settings=SETTINGS,
        declared=(ME, HOLDER, OTHER), lease=LEASE,
        data=DataView(Data.READY, "", "d0", 7, 2, branch=Branch.SAME),
        run=RunView(Run.STANDBY, HOLDER, 4, 4.0, receiving=True, silent=4.0),
        peers={ME: peer(ME), OTHER: peer(OTHER), HOLDER: peer(HOLDER, age=5.0)}, curious_for=2.5,
    )
    return replace(f, **changes)  # type: ignore[arg-type]


def with_peer(name: str, **changes: object) -> Mapping[str, Peer]:
    return {**silent().peers, name: peer(name, **changes)}


def with_record(**changes: object) -> LeaseView:
    return replace(LEASE, record=replace(RECORD, **changes))  # type: ignore[arg-type]


def asks(f: Facts) -> bool:
    decision = decide(f)
    return decision.rule == "suspect" and decision.actions == (a.AskEarlyVotes(4, "l/9"),)


def test_a_silent_primary_is_suspected_and_early_votes_are_asked_for() -> None:
    assert suspect.objection(silent()) is None
    assert asks(silent())


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"run": replace(silent().run, silent=2.9)}, "heard c-1 2.9 s ago"),
        ({"run": replace(silent().run, silent=None)}, "not heard c-1 in this term"),
        ({"peers": with_peer(HOLDER, age=0.5)}, "agent answers"),
        ({"curious_for": 0.3}, "asked only now"),
        ({"settings": replace(SETTINGS, quorum_failover=False)}, "off"),
        ({"settings": replace(SETTINGS, synchronous=False)}, "off"),
        ({"lease": replace(LEASE, claim=Claim.RELEASED)}, "no primary"),
        ({"lease": with_record(promotion=Promotion(4, 2, INCARNATION))}, "no primary"),
        ({"lease": with_record(promotion=Promotion(4, 2, INCARNATION, done=True))}, "not let c-1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_who_hears_the_primary_does_not_suspect_it(changes: dict[str, object], why: str) -> None:
    f = silent(**changes)
    assert why in (suspect.objection(f) or "")
    assert not any(isinstance(action, a.AskEarlyVotes) for action in decide(f).actions)


def test_another_agent_under_the_holders_name_is_not_the_holders() -> None:
    """Its pod was deleted by force and made again: the one that holds may live on a cut node."""
    assert suspect.objection(silent(peers=with_peer(HOLDER, age=0.5, uid="u9"))) is None


def test_nobody_detaches_in_vain() -> None:
    assert not asks(silent(peers=with_peer(OTHER, silent=0.4))), "another voter hears it"
    assert not asks(silent(peers=with_peer(OTHER, silent=None))), "or does not know"
    assert not asks(silent(peers=with_peer(OTHER, age=9.0))), "two of three are needed, one is here"
    assert asks(silent(peers=with_peer(OTHER, silent=2.4, age=0.9))), "its silence went on since"
    assert not asks(silent(leaving=True))


def test_the_voter_with_more_asks_first() -> None:
    ahead = with_peer(OTHER, position=Position(2, LSN(0x6000)))
    assert not asks(silent(peers=ahead))
    assert asks(silent(peers=ahead, curious_for=suspect.PREFERENCE + 1)), "and is not waited for"


def test_it_is_not_asked_twice_at_once() -> None:
    asked = Votes(4, 0.1, False, 0.2, {}, "l/9")
    assert not asks(silent(early=asked))
    assert not asks(silent(early=replace(asked, last_asked=9.0, pending=True)))
    assert asks(silent(early=replace(asked, last_asked=9.0)))
    assert asks(silent(early=replace(asked, version="l/8"))), "that was about another Lease"


def test_an_early_vote_keeps_everybody_away_from_the_primary() -> None:
    heard = silent(run=RunView(Run.STANDBY, silent=0.2), still=True)
    assert decide(heard).rule != "attach"
    assert decide(replace(heard, still=False)).actions == (a.Attach(HOLDER, 4),)
    assert decide(replace(silent(), run=RunView(Run.STANDBY, silent=9.0))).rule == "attach", (
        "an early vote that is over: it follows first"
    )


def test_a_standby_that_receives_nothing_from_a_primary_that_lives_compares_histories() -> None:
    """Doubt does not keep it from the rule that mends it."""
    alive = with_peer(HOLDER, run=Run.PRIMARY, rewindable_term=4)
    vain = RunView(Run.STANDBY, HOLDER, 4, 9.0, silent=9.0)
    decision = decide(silent(run=vain, peers=alive))
    assert (decision.rule, decision.actions) == ("not-receiving", (a.StopServer("fast"),))
    assert decide(silent(run=replace(vain, attached_for=2.0), peers=alive)).rule == "suspect"


def granted(name: str, directory: str | None = None) -> Vote:
    return Vote(name, directory or f"d{name[-1]}", True, END, Branch.SAME, True)


def claim(lease: LeaseView = LEASE, still: bool = True, settings: Settings = SETTINGS,
          version: str = "l/9", votes: tuple[Vote, ...] = (granted(OTHER),)) -> Claim:
    early = Votes(4, 0.1, False, 0.2, {v.name: v for v in votes}, version)
    return suspect.claim(lease, settings, (ME, "d0"), still, early).claim


def test_enough_early_votes_make_the_lease_free_to_take() -> None:
    assert claim() is Claim.SUSPECT
    free = silent(lease=replace(LEASE, claim=Claim.SUSPECT), still=True,
                  run=RunView(Run.STANDBY, silent=5.0))
    assert decide(free).rule == "stand"
    assert isinstance(decide(free).actions[0], a.Acquire)


@pytest.mark.parametrize(
    "changes",
    [
        {"votes": ()},
        {"votes": (granted(HOLDER),)},
        {"votes": (granted(OTHER, "another"),)},
        {"votes": (replace(granted(OTHER), granted=False),)},
        {"still": False},
        {"version": "l/8"},
        {"settings": replace(SETTINGS, quorum_failover=False)},
        {"settings": replace(SETTINGS, synchronous=False)},
        {"lease": with_record(degraded=True)},
        {"lease": with_record(read_quorum=3)},
        {"lease": with_record(write_quorum=0, read_quorum=2)},
        {"lease": with_record(promotion=Promotion(4, 2, INCARNATION))},
        {"lease": with_record(promotion=Promotion(4, 2, "c-2/u2/s2", True, True))},
        {"lease": with_record(promotion=Promotion(4, 2, INCARNATION, done=True))},
    ],
    ids=lambda changes: ",".join(changes),
)
def test_anything_less_leaves_it_held(changes: dict[str, object]) -> None:
    assert claim(**changes) is Claim.HELD  # type: ignore[arg-type]


def test_an_expired_lease_is_not_called_suspect() -> None:
    assert claim(lease=replace(LEASE, claim=Claim.EXPIRED)) is Claim.EXPIRED


@pytest.mark.parametrize("size", range(2, 8))
def test_enough_is_when_no_write_quorum_is_left(size: int) -> None:
    """Every set of voters, against what it is for: nothing can be acknowledged without them."""
    names = [f"c-{n}" for n in range(size)]
    voters = tuple((n, f"d{n}") for n in names)
    for w in range(1, size):
        record = replace(RECORD, voters=voters, write_quorum=w, read_quorum=size - w)
        for count in range(size):
            for still in itertools.combinations(voters[1:], count):
                left = size - 1 - count
                assert quorum.silenced(record, names[0], still) == (left < w)
                assert quorum.silenced(record, names[0], (*still, voters[0])) == (left < w)


def test_without_the_key_neither_rule_nor_claim_is_reached() -> None:
    """Off is off, whatever else the facts say: the decision is that of the table without it."""
    rules = tuple(rule for rule in RULES if rule.id != "suspect")
    off = replace(SETTINGS, quorum_failover=False)
    for f in (silent(), silent(curious_for=0.3), silent(peers={}), silent(still=False)):
        without = replace(f, settings=off)
        assert decide(without) == decide(without, rules)
    assert claim(settings=off) is Claim.HELD
