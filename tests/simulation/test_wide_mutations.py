"""Points broken on purpose that only the wider world can notice, or the voter's own tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pgha import quorum
from pgha.ballot import Ballot
from pgha.keeper import Keeper
from pgha.sight import Sight
from tests.simulation import member as members
from tests.simulation.member import Member
from tests.simulation.noticing import first_broken
from tests.simulation.schedule import Schedule

pytestmark = pytest.mark.simulation

Patch = pytest.MonkeyPatch
MOST = 600  # schedules until a mutation counts as unnoticed
UNBROKEN = 5


def takes_what_it_did_not_judge(patch: Patch) -> None:
    patch.setattr(Sight, "version", property(lambda self: "any"))
    patch.setattr(members, "LATE", 0.3)


def ignores_promises(patch: Patch) -> None:
    patch.setattr(Ballot, "promised", property(lambda self: 0.0))


def renews_for_ever(patch: Patch) -> None:
    """A tenure that does not end by the clock, and a fencer that is never armed."""
    patch.setattr(Keeper, "tenure", lambda self: (
        None if self._held is None else _Endless(self._held.term)
    ))
    patch.setattr(Member, "fencer", lambda self: None)


class _Endless:
    left, since = 9.0, 9.0

    def __init__(self, term: int) -> None:
        self.term = term


def narrows_the_record_first(patch: Patch) -> None:
    """A voter that is no longer declared is forgotten before the server stops counting it."""
    real = quorum.plan

    def plan(record: Any, seen: quorum.Standing) -> Any:
        for name in sorted(record.voter_names - set(seen.declared) - {seen.me}):
            less = record.without_voter(name)
            return quorum.Rewrite(
                replace(less, read_quorum=max(1, record.read_quorum - 1)), f"{name} is gone"
            )
        return real(record, seen)

    patch.setattr(quorum, "plan", plan)


def believes_a_setting_before_it_is_active(patch: Patch) -> None:
    real = quorum.plan

    def plan(record: Any, seen: quorum.Standing) -> Any:
        step = real(record, seen)
        if isinstance(step, quorum.SetNames):
            w = quorum.quorum_of(step.value)
            if w > record.write_quorum and w < len(record.voters):
                return quorum.Rewrite(
                    replace(record, write_quorum=w, read_quorum=len(record.voters) - w), "early"
                )
        return step

    patch.setattr(quorum, "plan", plan)


def believes_an_old_notice(patch: Patch) -> None:
    """A release that was told of counts though the Lease has changed since."""
    def given_back(self: Sight, holder: str) -> Any:
        if self._told is None or self._told[1].release is None:
            return None
        _, told, at = self._told
        return (replace(self.record, release=told.release), at) if (
            told.release.by == holder
        ) else None

    patch.setattr(Sight, "_given_back", given_back)


#: With the faults that bring it out.
MUTATIONS: dict[Callable[[Patch], None], tuple[str, ...]] = {
    takes_what_it_did_not_judge: ("cut", "mend"),
    ignores_promises: ("api-cut", "api-cut", "mend"),
    renews_for_ever: ("cut", "cut", "mend"),
    narrows_the_record_first: ("scale",),
    believes_a_setting_before_it_is_active: ("container",),
    believes_an_old_notice: ("api-cut", "switchover", "mend"),
}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.__name__)
def test_a_broken_point_is_noticed(mutation: Callable[[Patch], None], monkeypatch: Patch) -> None:
    kinds = MUTATIONS[mutation]
    for seed in range(UNBROKEN):  # the same faults are survived by what is whole
        Schedule(seed, wide=True, kinds=kinds).run()
    mutation(monkeypatch)
    found = first_broken(lambda seed: Schedule(seed, wide=True, kinds=kinds).run(), 0, MOST)
    assert found is not None, f"{mutation.__name__} passed {MOST} schedules unnoticed"
