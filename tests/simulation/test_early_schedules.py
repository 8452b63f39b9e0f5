"""quorumFailover: a lease that is taken before it expires (docs/decisions/quorum-failover.md).

The invariants are the same, but for I1, which says "acknowledge" here: a primary that is cut off
may stay writable until it stops, and must not be able to acknowledge, whichever links come back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pgha import quorum
from pgha.ballot import Ballot
from pgha.keeper import Keeper
from pgha.rules import suspect
from tests.simulation.conftest import Counter
from tests.simulation.member import Member
from tests.simulation.noticing import first_broken
from tests.simulation.schedule import Schedule
from tests.simulation.test_mutations import degrades_silently

pytestmark = pytest.mark.simulation

Patch = pytest.MonkeyPatch
CHUNKS, EACH = 6, 20
CUTS = ("members-cut", "cut", "block", "lag", "freeze", "mend")
TAKEN: set[int] = set()  # seeds in which a lease was taken early, of what has run
#: Seeds that found a bug once, with what it was, and their faults.
FOUND: dict[int, tuple[str, tuple[str, ...]]] = {
    20000: ("the server was weakened by a record that was not the newest", CUTS),
    710348: ("a record was rebuilt by the one who did not know its successor's", ()),
    730144: ("no record was rebuilt while a voter had a copy in place of what voted", ()),
    740004: ("a deleted Lease was made again by whom it had been taken from", ()),
    1042: ("a barrier outlived the telling of another setting", ()),
}
MOST = 200  # schedules until a mutation counts as unnoticed


def run(seed: int, kinds: tuple[str, ...] = ()) -> int:
    """The commits that were acknowledged, none of which was lost."""
    schedule = Schedule(seed, wide=True, early=True, kinds=kinds)
    acknowledged = schedule.run()
    if schedule.world.early:
        TAKEN.add(seed)
    return acknowledged


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_early_schedules_keep_the_invariants(chunk: int, schedules: Counter) -> None:
    for seed in range(chunk * EACH, (chunk + 1) * EACH):
        assert run(seed) > 0, "a schedule without commits shows nothing"
        schedules()


@pytest.mark.parametrize("seed", sorted(FOUND))
def test_early_seeds_that_found_a_bug(seed: int) -> None:
    assert run(seed, FOUND[seed][1]) > 0


def test_leases_are_taken_early_in_them() -> None:
    """Or the runs above would have shown nothing."""
    seed = 20_000
    while len(TAKEN) < 5 and seed < 20_060:
        run(seed, CUTS)
        seed += 1
    assert len(TAKEN) >= 5


# -- one primary cut off --------------------------------------------------------------------------


def settled(seed: int = 4) -> tuple[Schedule, Member]:
    """Three members in Synchronous mode, and who is primary. Nothing is late."""
    s = Schedule(seed, wide=True, early=True)
    assert len(s.members) == 3
    s.world.wide = False
    for _ in range(160):
        s._step()
    assert s._settled() and s.record().write_quorum == 1
    return s, next(m for m in s.members.values() if m.server.run == "primary")


def steps(s: Schedule, seconds: float, until: Callable[[], bool] = lambda: False) -> float:
    """Seconds passed. Raises what an invariant says."""
    began = s.world.now
    while s.world.now < began + seconds and not until():
        s._step()
    return s.world.now - began


def replaced(s: Schedule, former: Member) -> Callable[[], bool]:
    return lambda: any(
        m is not former and m.server.run == "primary" for m in s.members.values()
    )


def test_a_primary_that_is_cut_off_is_replaced_before_its_lease_ends() -> None:
    s, former = settled()
    s.world.cut.add(former.name)
    assert steps(s, 20, replaced(s, former)) < 5.0
    assert former.server.run == "primary", "isolated, it is primary still, and acknowledges nothing"
    assert not former.could_acknowledge()
    s.world.cut.clear()
    steps(s, 60, s._settled)
    assert s._settled() and former.server.run == "standby"


def test_a_primary_without_its_standbys_moves_to_them_though_it_renews() -> None:
    s, former = settled()
    s.world.blocked |= {frozenset((former.name, n)) for n in s.members if n != former.name}
    assert steps(s, 20, replaced(s, former)) < 8.0
    steps(s, 1.0)
    assert former.server.run != "primary", "its watch tells it"
    term = s.record().term
    steps(s, 30)
    assert s.record().term == term, "and it does not take the lease back from them"


def test_the_bad_link_of_one_standby_moves_nothing() -> None:
    s, former = settled()
    other = next(n for n in s.members if n != former.name)
    s.world.blocked.add(frozenset((former.name, other)))
    steps(s, 30)
    assert not s.world.early and former.server.run == "primary"


def test_two_members_do_not_take_the_lease_from_each_other() -> None:
    seed = next(n for n in range(100) if len(Schedule(n, early=True).members) == 2)
    s = Schedule(seed, early=True)
    s.settings = replace(s.settings, strict=False)
    for m in s.members.values():
        m.settings = s.settings
    steps(s, 40)
    assert s._settled()
    s.world.blocked.add(frozenset(s.members))
    steps(s, 30)
    assert len(s.world.early) == 1, "the standby took it once, and the former one not back"
    assert s.record().degraded, "so that commits went on, without a standby"


def test_without_the_key_the_lease_decides(monkeypatch: Patch) -> None:
    """No fact makes the rule fire, and no lease becomes suspect."""
    s, former = settled()
    s.settings = replace(s.settings, quorum_failover=False)
    for m in s.members.values():
        m.settings = s.settings
    s.world.cut.add(former.name)
    assert steps(s, 40, replaced(s, former)) > 9.0
    assert not s.world.early and not any("suspect" in m.fired for m in s.members.values())


# -- broken on purpose ----------------------------------------------------------------------------


def one_vote_too_few(patch: Patch) -> None:
    def silenced(record: Any, holder: Any, still: Any) -> bool:
        counted = {n for n, d in still if record.votes(n, d)} - {holder}
        return not record.degraded and record.write_quorum > 0 and (
            len(counted) >= record.read_quorum - 1
        )

    patch.setattr(quorum, "silenced", silenced)


def a_voter_goes_on_receiving(patch: Patch) -> None:
    real = Member.early_vote

    def early_vote(self: Member, term: int, version: str, candidate: str) -> Any:
        attached = self.server.attached
        answer = real(self, term, version, candidate)
        self.server.attached = attached
        return answer

    patch.setattr(Member, "early_vote", early_vote)


def a_voter_forgets_its_early_vote(patch: Patch) -> None:
    real = Ballot.still
    patch.setattr(Ballot, "still", lambda self, version: (
        real(self, version) and self._member.early.version == version
    ))


def counts_votes_about_an_older_lease(patch: Patch) -> None:
    real = suspect.claim
    patch.setattr(suspect, "claim", lambda lease, settings, mine, still, early: real(
        lease, settings, mine, bool(early.answers), replace(early, version=lease.version)
    ))


def makes_a_deleted_lease_again_unasked(patch: Patch) -> None:
    patch.setattr(Keeper, "_perhaps_replaced", lambda self, records: None)


#: With the schedule to begin with: some need a rare history.
MUTATIONS = {
    one_vote_too_few: 0,
    a_voter_goes_on_receiving: 0,
    a_voter_forgets_its_early_vote: 25,
    counts_votes_about_an_older_lease: 25,
    degrades_silently: 0,
    makes_a_deleted_lease_again_unasked: 0,
}
#: Other faults than CUTS.
BY = {makes_a_deleted_lease_again_unasked: ("members-cut", "lag", "delete-lease", "mend")}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.__name__)
def test_a_broken_point_is_noticed(mutation: Callable[[Patch], None], monkeypatch: Patch) -> None:
    mutation(monkeypatch)
    kinds = BY.get(mutation, CUTS)
    found = first_broken(lambda seed: run(seed, kinds), MUTATIONS[mutation], MOST)
    assert found is not None, f"{mutation.__name__} passed {MOST} schedules unnoticed"


def test_voters_that_do_not_suspect_are_noticed(monkeypatch: Patch) -> None:
    """It costs no data, only a hand-over for one bad link."""
    monkeypatch.setattr(Member, "objection", lambda self: None)
    monkeypatch.setattr(suspect, "_too_few", lambda facts: None)
    with pytest.raises(AssertionError):
        test_the_bad_link_of_one_standby_moves_nothing()
