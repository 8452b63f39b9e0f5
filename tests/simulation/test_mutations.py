"""Rules broken on purpose: the simulation has to notice each (tests.md: a test that cannot fail
is a defect). A mutation lives only inside its test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pgha import quorum
from pgha.facts import Claim, Facts
from pgha.keeper import Keeper
from pgha.rules import RULES, decide, heard, promotion
from tests.simulation import gather
from tests.simulation import member as members
from tests.simulation.member import Member
from tests.simulation.noticing import first_broken
from tests.simulation.schedule import Schedule

pytestmark = pytest.mark.simulation

Patch = pytest.MonkeyPatch
UNFENCED = 120  # schedules without any fencing
MOST = 400  # schedules until a mutation counts as unnoticed


def without(*ids: str) -> Callable[[Facts], Any]:
    kept = tuple(rule for rule in RULES if rule.id not in ids)
    return lambda facts: decide(facts, kept)


def writable_without_lease(patch: Patch) -> None:
    patch.setattr(members, "decide", without("lease-lost"))
    patch.setattr(Member, "fencer", lambda self: None)


def unfenced(patch: Patch) -> None:
    """Nobody stops a primary that lost its lease: not its agent, not its fencer."""
    writable_without_lease(patch)


def test_the_quorum_alone_protects_acknowledged_commits(monkeypatch: Patch) -> None:
    """Amendment 2: a lease that fails entirely costs Synchronous mode no commit."""
    unfenced(monkeypatch)
    for seed in range(UNFENCED):
        schedule = Schedule(seed, fenced=False)
        if schedule.settings.synchronous:
            assert schedule.run() > 0, "a schedule without commits shows nothing"


def claims_early(patch: Patch) -> None:
    real = Keeper.view

    def view(self: Keeper, dead: Any, gone: Any) -> Any:
        seen = real(self, dead, gone)
        early = seen.claim is Claim.HELD and seen.age > 4.0 and self.tenure() is None
        return replace(seen, claim=Claim.EXPIRED) if early else seen

    patch.setattr(Keeper, "view", view)


def promotes_without_quorum(patch: Patch) -> None:
    patch.setattr(promotion, "_judge", lambda facts: "nobody was asked")
    patch.setattr(heard, "granted", lambda facts: [])


def never_yields(patch: Patch) -> None:
    patch.setattr(members, "decide", without("yield"))


def votes_without_detaching(patch: Patch) -> None:
    real = Member.vote

    def vote(self: Member, term: int, candidate: str) -> Any:
        attached, since = self.server.attached, self.server.attached_term
        answer = real(self, term, candidate)
        self.server.attached, self.server.attached_term = attached, since
        return answer

    patch.setattr(Member, "vote", vote)
    unfenced(patch)


def degrades_silently(patch: Patch) -> None:
    real = quorum.plan

    def plan(record: Any, seen: quorum.Standing) -> Any:
        step = real(record, seen)
        silent = isinstance(step, quorum.Rewrite) and step.record.degraded and not record.degraded
        return quorum.SetNames("") if silent else step

    patch.setattr(quorum, "plan", plan)


def reuses_a_number(patch: Patch) -> None:
    patch.setattr(members, "decide", without("intent-spent"))


def forgets_a_branch(patch: Patch) -> None:
    patch.setattr(promotion, "_adopted", lambda facts: facts.record)


def starts_unrecorded_voters(patch: Patch) -> None:
    """Counts a copy as a voter before it has caught up, and without raising R."""
    real = quorum.plan

    def plan(record: Any, seen: quorum.Standing) -> Any:
        step = real(record, seen)
        if isinstance(step, quorum.Rewrite) and len(step.record.voters) > len(record.voters):
            return quorum.Rewrite(replace(step.record, read_quorum=1), step.why)
        return step

    patch.setattr(quorum, "plan", plan)


def believes_names_before_commits_wait(patch: Patch) -> None:
    """The checkpointer has not read them yet, and a degradation is over."""
    patch.setattr(gather, "waiting", lambda member: True)


def starts_without_waiting(patch: Patch) -> None:
    """The names are told with the promotion, and its checkpointer may read them later."""
    patch.setattr(quorum, "at_start", lambda record, synchronous: "")
    patch.setattr(members, "decide", without("start-to-wait"))


#: With the schedule to begin with: some need a rare history.
MUTATIONS = {
    writable_without_lease: 0,
    claims_early: 0,
    promotes_without_quorum: 50,
    never_yields: 45,
    votes_without_detaching: 320,
    degrades_silently: 85,
    reuses_a_number: 0,
    forgets_a_branch: 0,
    starts_unrecorded_voters: 0,
    believes_names_before_commits_wait: 0,
    starts_without_waiting: 0,
}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.__name__)
def test_a_broken_rule_is_noticed(mutation: Callable[[Patch], None], monkeypatch: Patch) -> None:
    mutation(monkeypatch)
    fenced = mutation is not votes_without_detaching
    found = first_broken(
        lambda seed: Schedule(seed, fenced=fenced).run(), MUTATIONS[mutation], MOST, ValueError
    )
    assert found is not None, f"{mutation.__name__} passed {MOST} schedules unnoticed"
