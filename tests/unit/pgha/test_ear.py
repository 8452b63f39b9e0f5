"""How long the primary has been silent: what is not known is not silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgha import ear as ears
from pgha.ear import Ear
from pgha.lsn import LSN
from pgha.member import Member
from pgha.postgres.directory import Directory
from pgha.postgres.server import Receiver

pytestmark = pytest.mark.unit


class Ground:
    """A standby that follows in term 4; `age` is what the kernel says of its connection."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.age: float | None | OSError = 0.0
        self.receiver: Receiver | None = Receiver(77, LSN(1))
        self.woken = 0
        self.said: list[str] = []
        monkeypatch.setattr(ears, "of_process", lambda pid: frozenset({pid}))
        monkeypatch.setattr(ears, "heard_ago", self.heard_ago)
        self.member = Member(Directory(Path("/nowhere"), Path("/nowhere")))
        self.ear = Ear(self.member, lambda: self.receiver, 1.5, self.wake,
                       lambda what, **why: self.said.append(what), lambda: self.now)
        self.attach(4)

    def heard_ago(self, inodes: frozenset[int]) -> float | None:
        if isinstance(self.age, OSError):
            raise self.age
        return self.age

    def wake(self) -> None:
        self.woken += 1

    def attach(self, term: int) -> None:
        m = self.member
        m.attached_to, m.attached_term, m.attached_at = "c-1", term, self.now

    def listen(self, seconds: float, growing: bool = False) -> None:
        """Time passes; `growing`: nothing comes meanwhile."""
        for _ in range(round(seconds / 0.25)):
            self.now += 0.25
            if growing and isinstance(self.age, float):
                self.age += 0.25
            self.ear.listen()


@pytest.fixture
def ground(monkeypatch: pytest.MonkeyPatch) -> Ground:
    return Ground(monkeypatch)


def test_a_primary_never_heard_in_this_term_is_not_silent(ground: Ground) -> None:
    ground.receiver = None
    ground.age = None
    ground.listen(20)
    assert ground.ear.silent(4) is None and ground.woken == 0


def test_silence_is_counted_from_what_came_last(ground: Ground) -> None:
    ground.listen(3)
    assert ground.ear.silent(4) == pytest.approx(0)
    ground.listen(1.25, growing=True)
    assert ground.ear.silent(4) == pytest.approx(1.25) and ground.woken == 0
    ground.listen(2, growing=True)
    assert ground.ear.silent(4) == pytest.approx(3.25) and ground.woken > 0
    assert ground.ear.silent(5) is None, "another term's primary was not heard"


def test_it_goes_on_when_the_connection_ends(ground: Ground) -> None:
    ground.listen(3)
    ground.age, ground.receiver = None, None
    ground.listen(4)
    assert ground.ear.silent(4) == pytest.approx(4)
    ground.member.attached_to = None  # an early vote
    ground.listen(1)
    assert ground.ear.silent(4) == pytest.approx(5)


def test_an_ear_that_slept_knows_nothing_of_that_time(ground: Ground) -> None:
    ground.listen(3)
    ground.now += 30
    ground.age = 30.0
    ground.ear.listen()
    assert ground.ear.silent(4) == pytest.approx(0)
    ground.listen(2, growing=True)
    assert ground.ear.silent(4) == pytest.approx(2), "from its awakening on"


def test_nor_when_the_connection_ended_meanwhile(ground: Ground) -> None:
    ground.listen(3)
    ground.now += 30
    ground.age, ground.receiver = None, None
    ground.ear.listen()
    assert ground.ear.silent(4) == pytest.approx(0)


def test_a_kernel_that_tells_nothing_is_no_silence_and_is_said_once(ground: Ground) -> None:
    ground.listen(3)
    ground.age = OSError(93, "no such protocol")
    ground.listen(10)
    assert ground.ear.silent(4) == pytest.approx(0)
    assert ground.said == ["deaf"]


def test_the_former_receiver_does_not_count_for_a_new_attachment(ground: Ground) -> None:
    ground.listen(3)
    ground.attach(5)
    ground.ear.listen()
    ground.listen(0.75)
    assert ground.ear.silent(5) is None
    ground.listen(1)
    assert ground.ear.silent(5) == pytest.approx(0)
