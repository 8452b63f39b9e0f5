"""What was proven of a setting ends when another is told (law amendment 3)."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import pytest

from pgha.lsn import LSN
from pgha.postgres.sql import Alive, Look, Sender
from pgha.pulse import Pulse

pytestmark = pytest.mark.unit

ACTIVE = 'ANY 1 ("c-1")'
OTHERS = 'ANY 1 ("c-1","c-2")'
WITHIN = 10.0  # seconds for a thread


@dataclass
class Sql:
    """A primary with one standby that replies between any two looks."""

    names: str = ACTIVE
    replies: int = 0
    during: list[object] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)  # names whose checkpoints were asked for
    ended: threading.Event = field(default_factory=threading.Event)  # the checkpoints

    def look(self, timeout: float) -> Look:
        self.replies += 2
        for happens in self.during:
            happens()  # type: ignore[operator]
        sender = Sender("c-1", 77, "streaming", "quorum", LSN(9), 0.1, self.replies)
        return Look(Alive.ALIVE, self.names, LSN(9), (sender,))

    def checkpoints(self, names: str, timeout: float) -> bool:
        self.asked.append(names)
        return self.ended.wait(WITHIN) and names == self.names


def made(always_waited: bool) -> tuple[Pulse, Sql]:
    sql = Sql()
    pulse = Pulse(
        sql, lambda: True, lambda: 2, lambda name, since: "d1",  # type: ignore[arg-type]
        lambda: (1, frozenset({"c-1"})), lambda: None, lambda: always_waited,
    )
    pulse.begin()
    return pulse, sql


@pytest.fixture
def pulse() -> Pulse:
    """Of a server that waited from its start."""
    it, _ = made(always_waited=True)
    for _ in range(3):
        it._take()
    return it


def looks(pulse: Pulse, times: int = 4) -> bool:
    for _ in range(times):
        pulse._take()
    return pulse.barrier.passed


def proves(pulse: Pulse) -> None:
    deadline = time.monotonic() + WITHIN
    while not pulse.waiting.on:
        assert time.monotonic() < deadline, "the checkpoints ended and nothing followed"
        time.sleep(0.001)


def test_a_barrier_is_passed_while_nothing_is_told(pulse: Pulse) -> None:
    assert pulse.barrier.passed and pulse.barrier.names == ACTIVE


def test_the_former_value_that_is_active_still_proves_nothing(pulse: Pulse) -> None:
    """The server was told "" and has not read it: a look shows what was active before."""
    pulse.told(ACTIVE)
    assert not pulse.barrier.passed
    pulse._take()
    assert pulse.replication.sync_names == ACTIVE and not pulse.barrier.passed
    pulse._take()
    assert pulse.barrier.passed, "each walsender has replied twice since"


def test_a_look_that_was_under_way_proves_nothing(pulse: Pulse) -> None:
    pulse.sql.during.append(lambda: pulse.told(ACTIVE))  # type: ignore[attr-defined]
    pulse._take()
    assert not pulse.barrier.passed
    pulse.sql.during.clear()  # type: ignore[attr-defined]
    pulse._take()
    assert not pulse.barrier.passed
    pulse._take()
    assert pulse.barrier.passed


def test_names_are_no_barrier_while_the_checkpointer_may_not_have_read_them() -> None:
    """A new connection shows them, the walsenders reply, and commits wait for nobody still."""
    pulse, sql = made(always_waited=False)
    assert not looks(pulse) and sql.asked == [ACTIVE], "asked for once, beside the looks"
    sql.ended.set()
    proves(pulse)
    pulse._take()
    assert not pulse.barrier.passed, "the position is of after that"
    pulse._take()
    assert pulse.barrier.passed


def test_a_server_that_always_waited_needs_no_checkpoint(pulse: Pulse) -> None:
    assert pulse.barrier.passed
    pulse.told(OTHERS)
    pulse.sql.names = OTHERS  # type: ignore[attr-defined]
    assert looks(pulse) and pulse.sql.asked == []  # type: ignore[attr-defined]


def test_nobody_to_wait_for_ends_what_was_known(pulse: Pulse) -> None:
    sql: Sql = pulse.sql  # type: ignore[assignment]
    pulse.told("")
    assert not looks(pulse) and sql.asked == [], "what is active is of before"
    sql.names = ""
    looks(pulse)
    pulse.told(ACTIVE)
    sql.names = ACTIVE
    assert not looks(pulse) and sql.asked == [ACTIVE]
    sql.ended.set()
    proves(pulse)
    assert looks(pulse)


def test_what_an_alter_system_ended_is_not_known_any_more(pulse: Pulse) -> None:
    sql: Sql = pulse.sql  # type: ignore[assignment]
    sql.names = ""
    looks(pulse)
    sql.names = ACTIVE
    assert not looks(pulse) and sql.asked == [ACTIVE]
    sql.ended.set()


def test_checkpoints_of_before_the_last_change_prove_nothing() -> None:
    pulse, sql = made(always_waited=False)
    looks(pulse)
    pulse.told("")
    pulse.told(ACTIVE)
    late = next(t for t in threading.enumerate() if t.name == "waiting")
    sql.ended.set()
    late.join(WITHIN)
    assert not pulse.waiting.on
    pulse._take()
    proves(pulse)
    assert sql.asked == [ACTIVE, ACTIVE]


def test_a_session_that_sees_other_names_proves_nothing() -> None:
    pulse, sql = made(always_waited=False)
    pulse._take()
    late = next(t for t in threading.enumerate() if t.name == "waiting")
    sql.names = OTHERS
    sql.ended.set()
    late.join(WITHIN)
    assert not pulse.waiting.on
