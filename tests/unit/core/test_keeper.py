"""The tenure, by an injected clock and the simulated Lease: what counts from when (law, 1-5)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pgha.facts import Claim
from pgha.kube.leases import RawLease
from pgha.lsn import LSN, Position
from pgha.record import Promotion, Record, Release
from pgha.sight import RECORD
from tests.unit.core.keeping import TIMES, Ground

pytestmark = pytest.mark.unit


def test_a_tenure_ends_by_the_clock(ground: Ground) -> None:
    assert ground.acquire(1) is None
    tenure = ground.keeper.tenure()
    assert tenure is not None and tenure.left == pytest.approx(10)
    assert ground.allowed[-1] == pytest.approx(ground.world.now + TIMES.fence_after)
    ground.pass_(9.9)
    assert ground.keeper.tenure() is not None
    ground.pass_(0.2)
    assert ground.keeper.tenure() is None and "renew" in ground.keeper.lost_because


def test_the_fencer_strikes_before_anybody_may_claim() -> None:
    assert TIMES.renew_deadline < TIMES.fence_after < TIMES.lease_duration


def test_a_renewal_counts_from_before_it_was_sent(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground.acquire(1)
    ground.pass_(4)
    slow = ground.keeper._api.write

    def write(lease: RawLease, timeout: float) -> RawLease:
        ground.pass_(3)
        return slow(lease, timeout)

    monkeypatch.setattr(ground.keeper._api, "write", write)
    assert ground.keeper._put(None) is None
    tenure = ground.keeper.tenure()
    assert tenure is not None and tenure.left == pytest.approx(7)


def test_another_annotation_does_not_end_a_tenure(ground: Ground) -> None:
    ground.acquire(1)
    lease = ground.world.lease
    assert lease is not None
    noted = {**lease.annotations, "pgha.dev/switchover": "{}"}
    ground.world.lease = replace(
        lease, annotations=noted, resource_version=str(next(ground.world.versions))
    )
    assert ground.keeper._put(None) is None
    assert "pgha.dev/switchover" in ground.world.lease.annotations  # type: ignore[union-attr]


def test_a_foreign_holder_or_a_higher_term_is_loss(ground: Ground) -> None:
    ground.acquire(1)
    lease = ground.world.lease
    assert lease is not None
    version = str(next(ground.world.versions))
    ground.keeper.observe(replace(lease, holder="b-0/u/s", resource_version=version))
    assert ground.keeper.tenure() is None

    other = Ground()
    other.world.random.random = lambda: 1.0  # type: ignore[method-assign]
    other.acquire(1)
    lease = other.world.lease
    assert lease is not None
    version = str(next(other.world.versions))
    other.keeper.observe(replace(
        lease, annotations={RECORD: Record(term=2).dump()}, resource_version=version
    ))
    assert other.keeper.tenure() is None


def test_nothing_is_written_after_a_release(ground: Ground) -> None:
    ground.acquire(1)
    assert ground.keeper.release(Record(term=1), "a-1") is None
    released = ground.world.lease
    assert ground.keeper._put(None) == "it is not held"
    assert ground.keeper.write(Record(term=1)) == "it is not held"
    assert ground.world.lease is released
    assert ground.view() is Claim.RELEASED


def test_a_release_that_is_not_written_is_for_telling(ground: Ground) -> None:
    ground.acquire(1)
    stands, end = ground.keeper.version, Position(1, LSN(64))
    ground.world.api_down = True
    assert ground.keeper.release(Record(term=1, end=end), "a-1") is not None
    assert ground.keeper.tenure() is None, "it is no holder any more, whoever hears of it"
    version, told = ground.keeper.unwritten or ("", Record())
    assert (version, told.end) == (stands, end)
    assert told.release == Release("a-0/uid/start", 1, "a-1")


def test_a_release_is_of_the_lease_that_somebody_else_annotated(ground: Ground) -> None:
    ground.acquire(1)
    lease = ground.world.lease
    assert lease is not None
    version = str(next(ground.world.versions))
    ground.world.lease = replace(
        lease, annotations={**lease.annotations, "a": "b"}, resource_version=version
    )
    assert ground.keeper.release(Record(term=1), None) is not None
    assert (ground.keeper.unwritten or ("",))[0] == f"{lease.uid}/{version}"


@pytest.mark.parametrize("become", [
    {"holder": "b-0/u/s"}, {"holder": None},
    {"annotations": {RECORD: Record(term=1, revision=9).dump()}},  # written by whom?
])
def test_a_release_of_a_lease_that_is_not_as_it_was_is_told_to_nobody(
    become: dict[str, Any], ground: Ground
) -> None:
    ground.acquire(1)
    lease = ground.world.lease
    assert lease is not None
    ground.world.lease = replace(
        lease, resource_version=str(next(ground.world.versions)), **become
    )
    assert ground.keeper.release(Record(term=1), None) is not None
    assert ground.keeper.unwritten is None


def test_a_release_that_was_written_is_told_to_nobody(ground: Ground) -> None:
    ground.acquire(1)
    ground.world.api_down = True
    ground.keeper.release(Record(term=1), None)
    ground.world.api_down = False
    assert ground.keeper.release(Record(term=1), None) == "it is not held"
    assert ground.keeper.unwritten is None, "it was told once"
    assert ground.acquire(2) is None
    assert ground.keeper.release(Record(term=2), None) is None
    assert ground.keeper.unwritten is None


def test_promises_lengthen_a_tenure_while_the_api_is_gone(ground: Ground) -> None:
    ground.acquire(1)
    ground.world.api_down = True
    ground.pass_(6)
    assert ground.keeper._put(None) is not None
    ground.keeper._seek_promises()
    assert ground.keeper.tenure().left == pytest.approx(4)  # type: ignore[union-attr]
    ground.promised = ground.world.now
    ground.keeper._seek_promises()
    assert ground.keeper.tenure().left == pytest.approx(10)  # type: ignore[union-attr]


def test_an_ambiguous_acquisition_is_settled_by_another_one(ground: Ground) -> None:
    ground.world.random.random = lambda: 0.0  # type: ignore[method-assign]
    assert ground.acquire(1) is not None
    assert ground.keeper.tenure() is None
    assert ground.view() is Claim.OWN_DEAD
    ground.world.random.random = lambda: 1.0  # type: ignore[method-assign]
    assert ground.acquire(2) is None
    assert ground.keeper.tenure() is not None


def test_a_lease_that_changed_since_it_was_judged_is_not_taken(ground: Ground) -> None:
    """The watch delivers another member's acquisition between the decision and the deed."""
    other = Ground("a-1", ground.world)
    judged = other.keeper.version
    assert ground.acquire(1) is None
    other.keeper.observe(ground.world.lease)
    assert "changed" in (other.keeper.acquire(Record(term=1), judged) or "")
    assert ground.world.lease is not None and ground.world.lease.holder == "a-0/uid/start"


def test_each_change_of_the_record_is_a_newer_one_and_a_renewal_is_none(ground: Ground) -> None:
    assert ground.acquire(1) is None
    stamps = [ground.keeper.record.stamp]
    for change in (
        lambda: ground.keeper.write(replace(ground.keeper.record, degraded=True)),
        lambda: ground.keeper._put(None),
        lambda: ground.keeper.release(ground.keeper.record, None),
    ):
        assert change() is None
        stamps.append(ground.keeper.record.stamp)
    assert stamps == [(1, 1), (1, 2), (1, 2), (1, 3)]
    assert Record.parse(ground.world.lease.annotations[RECORD]).stamp == (1, 3)  # type: ignore[union-attr]


def test_a_change_without_an_answer_is_unsettled_until_a_newer_lease_is_known(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Amendment 9: until then both outcomes hold, and nothing is weakened by the older one."""
    def unsettled() -> bool:
        return ground.keeper.view(lambda incarnation: False, frozenset()).unsettled

    ground.acquire(1)
    monkeypatch.setattr(ground.world.random, "random", lambda: 0.0)
    assert ground.keeper.write(replace(ground.keeper.record, degraded=True)) is not None
    assert unsettled() and not ground.keeper.record.degraded
    monkeypatch.setattr(ground.world.random, "random", lambda: 1.0)
    assert ground.keeper._put(None) is None, "a renewal meets the change that had landed"
    assert not unsettled() and ground.keeper.record.degraded
    ground.world.api_down = True
    assert ground.keeper.write(replace(ground.keeper.record, degraded=False)) is not None
    assert unsettled()
    ground.world.api_down = False
    assert ground.keeper.write(ground.keeper.record) is None
    assert not unsettled(), "the earlier one can land no more"


def test_promises_are_asked_for_by_each_record_that_may_stand(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Amendment 9: who votes by the new record alone may be the one that takes the lease."""
    ground.acquire(1)
    old = ground.keeper.record
    ground.world.api_down = True
    grown = old.with_voter("a-2", "d2")
    for _ in range(2):
        assert ground.keeper.write(grown) is not None
    ground.keeper._seek_promises()
    assert [r.voter_names for r in ground.promised_by] == [set(), {"a-2"}]
    ground.world.api_down = False
    assert ground.keeper._put(None) is None, "a later write settles it"
    ground.keeper._seek_promises()
    assert ground.promised_by == [ground.keeper.record]


def test_a_higher_term_that_is_heard_is_loss(ground: Ground) -> None:
    """Amendment 1: on any channel; the fencer stays armed until PostgreSQL is stopped."""
    ground.keeper.hear(9)
    assert ground.acquire(3) is None
    for term in (0, 2, 3):
        ground.keeper.hear(term)
        assert ground.keeper.tenure() is not None, "its own requests name its own term"
    ground.keeper.hear(4)
    assert ground.keeper.tenure() is None and "term 4" in ground.keeper.lost_because
    assert ground.allowed[-1] is not None
    assert ground.keeper._put(None) == "it is not held"
    assert ground.view() is Claim.OWN_DEAD, "where it was told wrongly it is taken anew"


def test_the_bound_of_the_wal_is_that_of_the_primary_of_this_tenure(ground: Ground) -> None:
    """What this member flushed as the primary of a former one would hide how much is missing."""
    intent = Promotion(4, 3, ground.keeper._identity.incarnation)
    known = Position(2, LSN(0x9000))
    record = Record(term=4, init="initialized", timeline=2, promotion=intent, flushed=known)
    ground.acquire(4)
    ground.flushed = Position(1, LSN(0x7000))
    for before in (replace(record, promotion=Promotion(3, 2, "a-1/u/s", done=True)), record):
        assert ground.keeper.write(before) is None and ground.keeper._put(None) is None
        assert ground.keeper.record.flushed == known
    done = replace(record, promotion=replace(intent, done=True), timeline=3, flushed=None)
    ground.flushed = Position(0, LSN(0x9500))
    assert ground.keeper.write(done) is None
    assert ground.keeper.record.flushed is None, "its timeline is not known yet"
    ground.flushed = Position(3, LSN(0x9500))
    assert ground.keeper._put(None) is None
    assert ground.keeper.record.flushed == ground.flushed


class Naps:
    """The renewal thread's bell: waiting passes time, and `until` ends the thread."""

    def __init__(self, ground: Ground, until: float) -> None:
        self.ground, self.until, self.rung = ground, ground.world.now + until, False

    def wait(self, seconds: float) -> None:
        self.ground.pass_(seconds + 0.01)
        if self.ground.world.now > self.until:
            self.ground.keeper.stop()

    def is_set(self) -> bool:
        return self.rung

    def set(self) -> None:
        self.rung = True

    def clear(self) -> None:
        self.rung = False


def test_a_renewal_that_was_refused_for_a_moment_is_tried_again_before_the_deadline(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fencer or a loop that is late once is no reason to end a tenure."""
    ground.acquire(1)
    refusals = [None, "the fencer does not answer"]
    asked: list[float] = []

    def may_renew() -> str | None:
        asked.append(ground.world.now)
        return refusals.pop(0) if refusals else None

    monkeypatch.setattr(ground.keeper, "_may_renew", may_renew)
    monkeypatch.setattr(ground.keeper, "_soon", Naps(ground, until=30.0))
    ground.keeper.run()
    assert ground.keeper.tenure() is not None, ground.keeper.lost_because
    assert asked[2] - asked[1] == pytest.approx(TIMES.retry_period, abs=0.1)
    assert asked[3] - asked[2] == pytest.approx(TIMES.renew_every, abs=0.1)
