"""What is known of the Lease and what it allows: ages, certificates, and what went back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pgha.facts import Claim
from pgha.kube.leases import RawLease
from pgha.lsn import LSN, Position
from pgha.record import Record, Release
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


def test_a_member_may_take_back_the_lease_of_a_pod_of_its_name_that_is_gone(
    ground: Ground,
) -> None:
    ground.acquire(1)
    again = Ground("a-0", ground.world, uid="another uid")
    assert again.view(gone=frozenset({"another uid"})) is Claim.HELD
    assert again.view(gone=frozenset({"another uid", "uid"})) is Claim.OWN_DEAD
    assert Ground("a-1", ground.world).view(gone=frozenset({"uid"})) is Claim.HELD


def test_a_certificate_is_for_that_very_incarnation(ground: Ground) -> None:
    ground.acquire(1)
    other = Ground("a-1", ground.world)
    assert other.view(dead="a-0/uid/another") is Claim.HELD
    assert other.view(dead="a-0/uid/start") is Claim.DEAD


END = Position(3, LSN(640))
MARK = Release("a-0/uid/start", 6, "a-1")
TOLD = Record(term=6, release=MARK, end=END, switched="a person")


def told(ground: Ground, record: Record = TOLD) -> Ground:
    """Another member, which sees the Lease of NEWER's term and hears of its release."""
    grown(ground)
    other = Ground("a-1", ground.world)
    ground.pass_(9)
    other.keeper.told(other.keeper.version, record)
    return other


def test_a_release_that_was_told_of_is_one(ground: Ground) -> None:
    other = told(ground)
    ground.pass_(1)
    view = other.keeper.view(lambda incarnation: False, frozenset())
    assert (view.claim, view.holder, view.age) == (Claim.RELEASED, None, 1)
    assert view.record == replace(NEWER, release=MARK, end=END, switched="a person")
    assert other.keeper.record == NEWER, "it is not on the Lease"
    assert other.acquire(7) is None


@pytest.mark.parametrize("record", [
    replace(TOLD, release=replace(MARK, by="a-0/uid/earlier")),
    replace(TOLD, release=replace(MARK, term=5)),
    replace(TOLD, release=None),
])
def test_a_release_that_is_told_of_is_that_holders_in_that_term(
    record: Record, ground: Ground
) -> None:
    assert told(ground, record).view() is Claim.HELD


def test_a_release_that_was_told_of_is_undone_by_any_newer_lease(ground: Ground) -> None:
    """A renewal that was long on its way, for one."""
    other = told(ground)
    lease = ground.world.lease
    assert lease is not None and other.view() is Claim.RELEASED
    newer = replace(lease, resource_version=str(next(ground.world.versions)))
    ground.world.lease = newer
    assert other.acquire(7) is not None, "nobody takes a Lease that it did not judge"
    other.keeper.observe(newer)
    assert other.view() is Claim.HELD


def test_a_release_may_be_told_of_before_the_watch_has_come_so_far(ground: Ground) -> None:
    grown(ground)
    behind = Ground("a-1", World(2))
    now = f"{ground.world.lease.uid}/{ground.world.lease.resource_version}"  # type: ignore[union-attr]
    behind.keeper.told(now, TOLD)
    assert behind.view() is not Claim.RELEASED
    behind.keeper.observe(ground.world.lease)
    assert behind.view() is Claim.RELEASED


def test_no_lease_is_no_release(ground: Ground) -> None:
    other = told(ground)
    other.keeper.observe(None)
    assert other.view() is Claim.VACANT


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
    ground.keeper.reread()
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
