"""What was proven of a setting ends when another is told (law amendment 3)."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from pgha.lsn import LSN
from pgha.postgres.sql import Alive, Look, Sender
from pgha.pulse import Pulse

pytestmark = pytest.mark.unit

ACTIVE = 'ANY 1 ("c-1")'


@dataclass
class Sql:
    """A primary with one standby that replies between any two looks."""

    names: str = ACTIVE
    replies: int = 0
    during: list[object] = field(default_factory=list)

    def look(self, timeout: float) -> Look:
        self.replies += 2
        for happens in self.during:
            happens()  # type: ignore[operator]
        sender = Sender("c-1", 77, "streaming", "quorum", LSN(9), 0.1, self.replies)
        return Look(Alive.ALIVE, self.names, LSN(9), (sender,))


@pytest.fixture
def pulse() -> Pulse:
    made = Pulse(
        Sql(), lambda: True, lambda: 2, lambda name, since: "d1",  # type: ignore[arg-type]
        lambda: (1, frozenset({"c-1"})), lambda: None,
    )
    for _ in range(3):
        made._take()
    return made


def test_a_barrier_is_passed_while_nothing_is_told(pulse: Pulse) -> None:
    assert pulse.barrier.passed and pulse.barrier.names == ACTIVE


def test_the_former_value_that_is_active_still_proves_nothing(pulse: Pulse) -> None:
    """The server was told "" and has not read it: a look shows what was active before."""
    pulse.told()
    assert not pulse.barrier.passed
    pulse._take()
    assert pulse.replication.sync_names == ACTIVE and not pulse.barrier.passed
    pulse._take()
    assert pulse.barrier.passed, "each walsender has replied twice since"


def test_a_look_that_was_under_way_proves_nothing(pulse: Pulse) -> None:
    pulse.sql.during.append(pulse.told)  # type: ignore[attr-defined]
    pulse._take()
    assert not pulse.barrier.passed
    pulse.sql.during.clear()  # type: ignore[attr-defined]
    pulse._take()
    assert not pulse.barrier.passed
    pulse._take()
    assert pulse.barrier.passed
