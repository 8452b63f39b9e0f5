"""Whom the fencer may strike: what may write without a lease, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pgha.facts import Facts, Job, Run, RunView, Tenure
from pgha.jobs import Kind
from pgha.record import Record
from tests.unit.pgha.by_hand import standby
from tests.unit.pgha.executing import TIMES, Ground

pytestmark = pytest.mark.unit


@pytest.fixture
def ground() -> Ground:
    return Ground()


@pytest.mark.parametrize("kind", ["rewind", "clone"])
def test_no_copy_begins_under_the_fencer_of_a_tenure_that_is_over(
    ground: Ground, kind: Kind
) -> None:
    """A deadline that passed has the fencer kill whatever starts: pg_rewind too, midway."""
    ground.acquire()
    ground.world.now += TIMES.lease_duration
    assert ground.keeper.tenure() is None
    assert ground.deadline is not None and ground.deadline < ground.world.now
    ground.start(kind)
    assert ground.began == [None]


def test_the_fencer_of_the_present_tenure_stays_armed(ground: Ground) -> None:
    """initdb starts a server that writes."""
    ground.acquire()
    ground.start("initdb")
    assert ground.began == [ground.deadline] and ground.deadline is not None


def follows(**changes: Any) -> Facts:
    """As `standby()`, and it holds nothing."""
    return replace(standby(), **changes)


WITHOUT_DANGER = {run: follows(run=RunView(run)) for run in (
    Run.STARTING, Run.RECOVERING, Run.STANDBY
)}
DANGEROUS = {
    "writable": follows(run=RunView(Run.PRIMARY)),
    "to be writable": follows(run=RunView(Run.STANDBY, promoting=3)),
    "held": follows(run=RunView(Run.STANDBY), tenure=Tenure(1, 5.0, 1.0)),
    "initialized": follows(run=RunView(Run.STARTING), job=Job("initdb", running=True)),
}


@pytest.mark.parametrize("facts", WITHOUT_DANGER.values(), ids=lambda f: f.run.run.value)
def test_no_standby_is_struck_for_a_tenure_that_is_over(facts: Facts, ground: Ground) -> None:
    """It held the lease, and gave it to a member with more WAL."""
    ground.acquire()
    assert ground.keeper.release(Record(term=1), "a-1") is None
    assert ground.deadline is not None, "it is not known yet that nothing writes"
    ground.executor.settle(facts)
    assert ground.deadline is None


@pytest.mark.parametrize("facts", DANGEROUS.values(), ids=DANGEROUS)
def test_what_may_write_is_fenced_whatever_it_holds(facts: Facts, ground: Ground) -> None:
    ground.acquire()
    assert ground.keeper.release(Record(term=1), "a-1") is None
    ground.executor.settle(facts)
    assert ground.deadline is not None
