"""What the executor sees to before a deed, and after one that failed."""

from __future__ import annotations

import errno
import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from pgha import actions as a
from pgha.executor import NotWritten
from pgha.facts import Facts, LeaseView, Run, RunView, Tenure
from pgha.kube.errors import ApiError, ApiUnreachable, Conflict
from pgha.kube.leases import RawLease
from pgha.pace import HeededLease
from pgha.postgres.server import ServerConf
from pgha.postgres.sql import SqlError
from pgha.record import Record
from pgha.rules import decide
from tests.unit.pgha.by_hand import primary
from tests.unit.pgha.executing import SETTINGS, WITHIN, Ground

pytestmark = pytest.mark.unit


@pytest.fixture
def ground() -> Ground:
    return Ground()


class Kept:
    """A member whose disk may be full, and PostgreSQL beside it."""

    def __init__(self) -> None:
        self.full, self.kept, self.deeds = True, [], []  # type: tuple[bool, list[Record], list[str]]
        self.promoting = 0
        self.data = primary().data

    def remember(self, record: Record) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        if record not in self.kept:
            self.kept.append(record)

    def sync_names(self) -> str:
        return ""

    def set_sync_names(self, value: str) -> None:
        self.deeds.append(value)

    def promote(self) -> None:
        self.deeds.append("promoted")

    def told(self, names: str) -> None: ...
    def look_now(self) -> None: ...


@pytest.mark.parametrize("deed", [a.Promote(3), a.SetSyncNames("x")])
def test_what_follows_from_a_record_waits_until_it_is_on_the_own_disk(
    ground: Ground, deed: a.Action
) -> None:
    """An intent that was nowhere but on a Lease that is lost could be forgotten by everybody."""
    ground.acquire()
    kept: Any = Kept()
    ground.executor.member = ground.executor.server = ground.executor.pulse = kept
    with pytest.raises(OSError):
        ground.executor.perform(deed, primary())
    assert kept.deeds == []
    kept.full = False
    ground.executor.perform(deed, primary())
    ground.executor.perform(deed, primary())
    assert kept.deeds and kept.kept == [primary().record]


def test_votes_of_before_are_forgotten_though_the_disk_is_full(ground: Ground) -> None:
    forgotten: list[str] = []
    given: Any = SimpleNamespace(forget=lambda: forgotten.append("votes"))
    kept: Any = Kept()
    ground.executor.poll = ground.executor.early = given
    ground.executor.member, ground.executor.log = kept, lambda *_, **__: None
    facts = replace(primary(), tenure=None, lease=replace(
        primary().lease, version=ground.keeper.version
    ))
    with pytest.raises(OSError):
        ground.executor.perform(a.Acquire(Record(term=5, init="initialized")), facts)
    assert ground.keeper.tenure() is not None and forgotten == ["votes", "votes"]


class Server429:
    """An API server that answers as it is told to, and counts what is written."""

    def __init__(self, lease: RawLease) -> None:
        self.lease, self.writes = lease, 0
        self.error: ApiError | None = ApiError(429, "TooManyRequests", "too many requests")
        self.taken: list[str] = []  # who writes first, each time

    def read(self, timeout: float) -> RawLease:
        return self.lease

    def write(self, lease: RawLease, timeout: float) -> RawLease:
        self.writes += 1
        if self.taken:
            number = int(self.lease.resource_version) + 1
            self.lease = replace(
                self.lease, resource_version=str(number), holder=self.taken.pop(0)
            )
            raise Conflict(409, "Conflict", "the object has been modified")
        if self.error is not None:
            raise self.error
        return replace(lease, resource_version=str(int(self.lease.resource_version) + 1))


class Candidate(Ground):
    """A member that wants the lease, and decides so every 10 ms."""

    def __init__(self) -> None:
        super().__init__()
        self.api = Server429(RawLease("5", "u", object={"metadata": {"name": "a"}}))
        self.asked, self.failures = 0.0, 0
        self.keeper._api = self.api  # type: ignore[assignment]
        self.keeper.observe(self.api.lease)
        ignored: Any = SimpleNamespace(
            remember=lambda record: None, forget=lambda: None
        )
        e = self.executor
        e.member = e.poll = e.early = ignored
        e.log = lambda event, **_: setattr(
            self, "failures", self.failures + (event == "not-acquired")
        )
        e.asked = lambda: self.asked
        e.clock = lambda: self.world.now

    def seconds(self, seconds: float) -> int:
        """So many attempts are made in this time; ends with the first that succeeds."""
        until, before = self.world.now + seconds, self.api.writes
        while self.world.now < until and self.keeper.tenure() is None:
            view = self.keeper.view(lambda _: False, frozenset())
            facts = replace(primary(), tenure=None, lease=view)
            self.executor.perform(a.Acquire(Record(term=5)), facts)
            self.world.now += 0.01
        return self.api.writes - before


def test_a_lease_that_is_refused_is_not_asked_for_without_end() -> None:
    member = Candidate()
    assert member.seconds(0.09) == 1
    assert member.seconds(0.03) == 1
    assert member.seconds(10.0) <= 8
    assert member.failures == member.api.writes


def test_the_server_is_left_alone_for_as_long_as_it_asks() -> None:
    member = Candidate()
    member.asked = 5.0
    assert member.seconds(4.95) == 1
    member.asked = 0.0
    assert member.seconds(0.2) >= 1


def test_one_failed_attempt_costs_a_failover_a_tenth_of_a_second() -> None:
    member = Candidate()
    member.api.error = ApiUnreachable("connection reset")
    began = member.world.now
    assert member.seconds(0.05) == 1
    member.api.error = None
    assert member.seconds(1.0) == 1 and member.keeper.tenure() is not None
    assert member.world.now - began < 0.13


def test_after_a_race_that_was_lost_the_lease_is_asked_for_as_it_is_now() -> None:
    """A Conflict shows another Lease, which may be free again."""
    member = Candidate()
    member.api.error, member.api.taken = None, ["a-1/u/s", "a-2/u/s"]
    assert member.seconds(0.05) == 3 and member.keeper.tenure() is not None


def test_a_record_is_not_written_while_the_server_asks_to_wait() -> None:
    member = Candidate()
    member.api.error = None
    member.seconds(0.05)
    writes, member.asked = member.api.writes, 3.0
    with pytest.raises(NotWritten) as refused:
        member.executor.perform(a.WriteRecord(Record(term=5)), primary())
    assert refused.value.asked == 3.0 and member.api.writes == writes


def test_a_release_that_is_not_written_is_told_and_then_looked_for(ground: Ground) -> None:
    """In this order: the others wait for it, and a reading without an answer takes seconds."""
    done: list[Any] = []

    def tell(version: str, record: Record) -> list[str]:
        done.append((version, record.release is not None))
        return ["a-2"]

    def read(timeout: float) -> RawLease:
        done.append("read")
        raise ApiUnreachable("no answer")

    ground.acquire()
    stands = ground.keeper.version
    ground.world.api_down = True
    ground.keeper._api.read = read  # type: ignore[method-assign]
    ground.executor.tell = tell
    ground.executor.log = lambda event, **facts: done.append(facts.get("told"))
    ground.executor.perform(a.ReleaseLease("a-1"), primary())
    assert done == [(stands, True), "a-2", "read"]


def test_a_retry_after_is_heeded_up_to_a_limit() -> None:
    def refuse(*_: object, **__: object) -> Any:
        raise ApiError(429, "TooManyRequests", "too many requests", retry_after=wishes.pop(0))

    wishes = [5.0, 3600.0, None]

    lease = HeededLease(
        SimpleNamespace(namespace="n", request=refuse), "a", 10.0, lambda: 0.0  # type: ignore[arg-type]
    )
    for waits in (5.0, 10.0, 0.0):
        with pytest.raises(ApiError):
            lease.write(RawLease("5", "u"), 1.0)
        assert lease.asked() == waits


class Checkpoints:
    """SQL that fails at once, and a second that lasts until the test lets it pass."""

    def __init__(self) -> None:
        self.roles = threading.Semaphore(0)
        self.pausing, self.passed = threading.Semaphore(0), threading.Semaphore(0)
        self.fails, self.count, self.pauses = True, 0, []  # type: tuple[bool, int, list[float]]

    def checkpoint(self, timeout: float) -> None:
        self.count += 1
        if self.fails:
            raise SqlError("sorry, too many clients already")

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.pausing.release()
        assert self.passed.acquire(timeout=WITHIN)


def settle() -> None:
    for thread in threading.enumerate():
        if thread.name == "checkpoint":
            thread.join(WITHIN)


def test_a_checkpoint_that_fails_at_once_is_tried_again_after_a_second(ground: Ground) -> None:
    """Until then the rules behind it get their turn: it counts as asked for."""
    sql: Any = Checkpoints()
    m: Any = SimpleNamespace(checkpoint_term=0, rewindable_term=0)
    e = ground.executor
    e.member, e.sql, e.log, e.apply_roles = m, sql, lambda *_, **__: None, sql.roles.release
    e.pause = sql.pause
    facts = primary()

    def rule() -> str:
        asked = replace(facts, run=replace(facts.run, asked_checkpoint_term=m.checkpoint_term))
        return decide(asked).rule

    assert rule() == "first-checkpoint"
    e.perform(a.Checkpoint(), facts)
    assert sql.pausing.acquire(timeout=WITHIN)
    assert rule() == "primary" and sql.count == 1 and sql.pauses == [1.0]
    assert sql.roles.acquire(timeout=0)  # the roles do not wait for it
    sql.passed.release()
    settle()
    assert rule() == "first-checkpoint"
    sql.fails = False
    e.perform(a.Checkpoint(), facts)
    settle()
    assert rule() == "primary" and m.rewindable_term == 4


def test_a_failure_of_an_earlier_term_asks_for_no_checkpoint_of_this_one(ground: Ground) -> None:
    sql: Any = Checkpoints()
    m: Any = SimpleNamespace(checkpoint_term=0, rewindable_term=0)
    e = ground.executor
    e.member, e.sql, e.log, e.apply_roles = m, sql, lambda *_, **__: None, lambda: None
    e.pause = sql.pause
    e.perform(a.Checkpoint(), primary())
    assert sql.pausing.acquire(timeout=WITHIN)
    m.checkpoint_term = 5
    sql.passed.release()
    settle()
    assert m.checkpoint_term == 5
def test_a_fast_stop_of_a_holder_ends_within_its_lease(ground: Ground) -> None:
    """Also where somebody else's stop is hurried: the server may have been the primary."""
    limits: list[tuple[str, float]] = []

    def stop(mode: str, limit: float) -> bool:
        limits.append((mode, limit))
        return True

    server: Any = SimpleNamespace(stop=stop)
    member: Any = SimpleNamespace(look=lambda: None)
    executor = replace(ground.executor, member=member, server=server)
    for run in (Run.PRIMARY, Run.STOPPING):
        facts = Facts(now=1.0, me="a-0", incarnation="a-0/u/s", settings=SETTINGS,
                      tenure=Tenure(1, 8.0, 50.0), run=RunView(run))
        executor.perform(a.StopServer("fast"), facts)
    assert limits == [("fast", 7.5), ("fast", 7.5)]


@pytest.mark.parametrize(("synchronous", "acknowledge", "names"), [
    (True, 0, 'ANY 1 ("pgha-nobody")'),
    (False, 1, 'ANY 1 ("pgha-nobody")'),
    (False, 0, ""),
])  # fmt: skip
def test_a_server_that_may_have_to_wait_waits_from_its_start(
    ground: Ground, synchronous: bool, acknowledge: int, names: str
) -> None:
    started: list[ServerConf] = []
    member: Any = SimpleNamespace(set_end=lambda end: None)
    server: Any = SimpleNamespace(start=started.append)
    executor = replace(
        ground.executor, member=member, server=server, conf=lambda: ServerConf("a-0", "u", 15)
    )
    settings = replace(SETTINGS, synchronous=synchronous)
    lease = LeaseView(record=Record(term=1, write_quorum=acknowledge))
    facts = Facts(now=1.0, me="a-0", incarnation="a-0/u/s", settings=settings, lease=lease)
    executor.perform(a.StartStandby(), facts)
    assert [conf.sync_names for conf in started] == [names]
