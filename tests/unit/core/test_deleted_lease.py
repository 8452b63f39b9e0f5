"""A Lease that was deleted by hand: whether its holder makes it again (amendments 10 and 20)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from pgha.facts import Claim
from pgha.keeper import Keeper
from pgha.kube.errors import ApiError, Conflict
from pgha.kube.leases import RawLease
from pgha.record import Promotion, Record
from tests.unit.core.keeping import Ground

pytestmark = pytest.mark.unit


def test_a_deleted_lease_is_made_again_by_its_holder_alone(ground: Ground) -> None:
    ground.acquire(1)
    ground.world.lease = None
    other = Ground("a-1", ground.world)
    assert other.view() is Claim.VACANT
    assert ground.keeper._put(None) == "the Lease is gone"
    assert ground.keeper._put(None) is None
    assert ground.world.lease is not None and ground.world.lease.holder == "a-0/uid/start"


def primary_of_a_quorum(ground: Ground, done: bool = True) -> Record:
    """Acquired, and by its record a primary that others may take the lease from early."""
    assert ground.acquire(1) is None
    mine = ground.keeper._identity.incarnation
    record = replace(
        ground.keeper.record, init="initialized", promotion=Promotion(1, 2, mine, done, early=done),
        voters=(("a-0", "d0"), ("a-1", "d1"), ("a-2", "d2")), read_quorum=2, write_quorum=1,
    )
    assert ground.keeper.write(record) is None
    return ground.keeper.record


def test_who_may_have_lost_a_deleted_lease_asks_before_it_makes_it_again(ground: Ground) -> None:
    record = primary_of_a_quorum(ground)
    ground.delete()
    assert "taken it early" in (ground.keeper._put(None) or "")
    assert ground.world.lease is None
    assert ground.asked_deleted and ground.promised_by == [record]
    ground.promised = ground.world.now
    assert ground.keeper._put(None) is None
    assert ground.world.lease is not None and ground.world.lease.holder == "a-0/uid/start"


def test_nobody_is_asked_whether_it_took_a_lease_that_nobody_can_take_early(
    ground: Ground,
) -> None:
    primary_of_a_quorum(ground, done=False)
    ground.delete()
    assert ground.keeper._put(None) is None and ground.promised_by == []


def test_a_deleted_lease_is_judged_by_each_record_that_may_have_stood(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its completion had no answer and had landed; so it was taken early, and then deleted."""
    record = primary_of_a_quorum(ground, done=False)
    assert record.promotion is not None
    ground.world.api_down = True
    completed = replace(record, promotion=replace(record.promotion, done=True, early=True))
    assert ground.keeper.write(completed) is not None
    ground.world.api_down = False
    ground.delete()
    assert "taken it early" in (ground.keeper._put(None) or "")
    assert [r.promotion.done for r in ground.promised_by if r.promotion] == [True]


def test_a_deleted_lease_is_not_made_again_after_the_deadline(ground: Ground) -> None:
    """While its members were asked, time has passed."""
    primary_of_a_quorum(ground)
    ground.delete()
    ground.promised = ground.world.now
    ground.while_asked = 11.0
    assert "renewDeadlineSeconds before" in (ground.keeper._put(None) or "")
    assert ground.world.lease is None


@pytest.mark.parametrize("change", [
    lambda keeper, record: keeper.write(replace(record, degraded=True)),
    lambda keeper, record: keeper.acquire(replace(record, term=2), keeper.version),
], ids=["a change", "a new term"])
def test_a_deleted_lease_is_judged_by_what_stood_and_not_by_what_will(
    change: Callable[[Keeper, Record], str | None], ground: Ground
) -> None:
    record = primary_of_a_quorum(ground)
    ground.delete()
    assert "taken it early" in (change(ground.keeper, record) or "")
    assert ground.promised_by == [record]
    ground.promised = ground.world.now
    assert change(ground.keeper, record) is None


def test_a_tenure_that_lives_by_promises_makes_no_deleted_lease_again(ground: Ground) -> None:
    """Others saw it expired meanwhile, and somebody may have taken it."""
    ground.acquire(1)
    ground.world.api_down = True
    ground.pass_(6)
    ground.promised = ground.world.now
    ground.keeper._seek_promises()
    ground.pass_(5)
    ground.world.api_down = False
    ground.delete()
    assert ground.keeper.tenure() is not None
    assert "renewDeadlineSeconds before" in (ground.keeper._put(None) or "")
    assert ground.world.lease is None


def test_a_deleted_lease_that_was_made_again_without_an_answer_is_not_made_twice(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second creation may be late, and another member hold the lease when it lands."""
    created: list[RawLease] = []
    create = ground.keeper._api.create

    def counted(lease: RawLease, timeout: float) -> RawLease:
        created.append(lease)
        return create(lease, timeout)

    ground.acquire(1)
    ground.delete()
    monkeypatch.setattr(ground.keeper._api, "create", counted)
    monkeypatch.setattr(ground.world.random, "random", lambda: 0.0)  # no answer
    assert ground.keeper._put(None) is not None
    monkeypatch.setattr(ground.world.random, "random", lambda: 1.0)
    assert ground.keeper._put(None) == "the Lease is there again"
    assert ground.keeper._put(None) is None
    assert len(created) == 1 and ground.keeper.tenure() is not None


def test_a_lease_that_cannot_be_read_is_not_made_again(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(timeout: float) -> RawLease:
        raise ApiError(502, "502", "")  # of a proxy that says nothing

    ground.acquire(1)
    ground.delete()
    monkeypatch.setattr(ground.keeper._api, "read", read)
    assert ground.keeper._put(None) is not None
    assert ground.world.lease is None


def test_a_lease_that_is_gone_may_be_said_as_a_conflict(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the API server answers a write that names a UID."""
    def write(lease: RawLease, timeout: float) -> RawLease:
        raise Conflict(409, "Conflict", "Precondition failed: UID in precondition")

    primary_of_a_quorum(ground)
    ground.world.lease = None
    monkeypatch.setattr(ground.keeper._api, "write", write)
    assert "taken it early" in (ground.keeper._put(None) or "")
    ground.promised = ground.world.now
    assert ground.keeper._put(None) is None and ground.world.lease is not None
