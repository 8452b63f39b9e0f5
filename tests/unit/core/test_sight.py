"""What is known of the Lease and what it allows: ages, certificates, and what went back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pgha.facts import Claim
from pgha.kube.leases import RawLease
from pgha.record import Record
from pgha.sight import RECORD
from tests.simulation.cluster import World
from tests.unit.core.keeping import Ground

pytestmark = pytest.mark.unit

NEWER = Record(term=6, revision=40, init="initialized", system_id=7, timeline=3)


def onlooker(ground: Ground, **changes: object) -> Ground:
    """Another member, which sees the Lease that was acquired, changed so."""
    ground.acquire(1)
    lease = ground.world.lease
    assert lease is not None
    other = Ground("a-1", ground.world)
    version = str(next(ground.world.versions))
    other.keeper.observe(replace(lease, resource_version=version, **changes))  # type: ignore[arg-type]
    return other


def test_an_empty_holder_without_the_mark_is_waited_out(ground: Ground) -> None:
    ground.acquire(1)
    other = Ground("a-1", ground.world)
    lease = ground.world.lease
    assert lease is not None
    ground.world.lease = replace(
        lease, holder=None, resource_version=str(next(ground.world.versions))
    )
    other.keeper.observe(ground.world.lease)
    assert other.view() is Claim.VACANT
    ground.pass_(15.1)
    assert other.view() is Claim.EXPIRED


def test_age_counts_from_the_observed_change_and_by_the_larger_duration(ground: Ground) -> None:
    other = onlooker(ground, duration=40)
    ground.pass_(39)
    assert other.view() is Claim.HELD
    ground.pass_(2)
    assert other.view() is Claim.EXPIRED


def test_a_lease_that_is_missing_is_waited_for_by_the_larger_duration_too(ground: Ground) -> None:
    """Whoever held it may count on the duration that was recorded (amendment 17)."""
    other = onlooker(ground, duration=40)
    other.keeper.observe(None)
    ground.pass_(39)
    assert other.view() is Claim.VACANT
    ground.pass_(2)
    assert other.view() is Claim.EXPIRED


def test_a_certificate_is_for_that_very_incarnation(ground: Ground) -> None:
    ground.acquire(1)
    other = Ground("a-1", ground.world)
    assert other.view(dead="a-0/uid/another") is Claim.HELD
    assert other.view(dead="a-0/uid/start") is Claim.DEAD


def restored(ground: Ground, record: Record, holder: str | None = None) -> RawLease:
    """etcd with an older state of the Lease; its versions count on from there."""
    lease = ground.world.lease
    assert lease is not None
    old = replace(
        lease, resource_version="1", annotations={RECORD: record.dump()},
        holder=holder or lease.holder, renew_time="then",
    )
    ground.world.restore(old)
    return old


def grown(ground: Ground) -> None:
    """It holds the lease in NEWER's term, and has written it."""
    judged = ground.keeper.version
    assert ground.keeper.acquire(replace(NEWER, revision=38), judged) is None
    assert ground.keeper.write(ground.keeper.record) is None
    assert ground.keeper.record == NEWER


def test_a_holder_goes_on_with_its_own_record_after_etcd_was_restored(ground: Ground) -> None:
    grown(ground)
    ground.pass_(4)
    restored(ground, replace(NEWER, revision=12, timeline=2))
    assert ground.keeper._put(None) is None
    assert ground.keeper.tenure() is not None
    assert Record.parse(ground.world.lease.annotations[RECORD]) == NEWER  # type: ignore[union-attr]


def test_a_restored_lease_of_somebody_else_is_loss_and_is_waited_out(ground: Ground) -> None:
    """Its record is older; the next promotion goes on from the newer one, in a term of its own."""
    grown(ground)
    restored(ground, replace(NEWER, term=5, timeline=2), holder="b-0/u/s")
    assert ground.keeper._put(None) is not None
    assert ground.keeper.tenure() is None and "b-0" in ground.keeper.lost_because
    assert ground.view() is Claim.HELD, "unchanged since a moment ago"
    assert ground.keeper.record == NEWER
    ground.pass_(15.1)
    assert ground.view() is Claim.EXPIRED
    assert ground.acquire(ground.keeper.record.term + 1) is None


def test_an_answer_that_lags_behind_is_no_restored_lease(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watch of an API server that is behind; and a read that was overtaken by a newer answer."""
    grown(ground)
    now = ground.world.lease
    assert now is not None
    behind = replace(now, resource_version="1", holder="b-0/u/s")
    ground.keeper.observe(behind)
    assert ground.keeper.raw == now

    def read(timeout: float) -> RawLease:
        ground.keeper.observe(replace(now, resource_version="9999"))
        return behind

    monkeypatch.setattr(ground.keeper._api, "read", read)
    ground.keeper._reread()
    assert ground.keeper.raw is not None and ground.keeper.raw.resource_version == "9999"
    assert ground.keeper.tenure() is not None


@pytest.mark.parametrize("shown, adopted", [
    (replace(NEWER, term=5, revision=99), False),
    (replace(NEWER, revision=39), False),
    (replace(NEWER, revision=41), True),
    (replace(NEWER, term=5, system_id=8), True),  # the disk came from another cluster
    (Record(term=1), True),  # the record was lost: rule record-lost rebuilds it
])


def test_a_record_of_an_older_term_than_the_kept_one_is_not_gone_by(
    ground: Ground, shown: Record, adopted: bool
) -> None:
    """Amendment 10, also by an agent that has only just started: the copy is on its disk."""
    for recalled_first in (True, False):
        keeper = Ground("a-1", World(2)).keeper
        keeper._sight.raw = None  # nothing was observed yet
        lease = replace(
            ground.world.lease, holder="b-0/u/s", resource_version="700",  # type: ignore[type-var]
            annotations={RECORD: shown.dump()},
        )
        if recalled_first:
            keeper.recall(NEWER)
        keeper.observe(lease)
        keeper.recall(NEWER)
        assert keeper.record == (shown if adopted else NEWER)
